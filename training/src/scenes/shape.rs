//! The five classes: their outlines and how they are painted. Owns geometry and colour of one shape; where it stands is
//! the scene's.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use fastrand::Rng;
use serde::Serialize;

use super::contrast;
use crate::picture::{Colour, Draw, Outline, Picture};

/// Names of the classes, in the order of the models' outputs.
pub(crate) const CLASSES: [&str; 5] = ["circle", "square", "triangle", "star", "cross"];

/// What a shape is; the number is the class's place in the models' outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
}

/// A shape stands out from what is behind it by at least this much in one of its colours.
const LEAST_CONTRAST: f32 = 0.3;
/// Tries to draw a colour that stands out, after which black or white does.
const TRIES: usize = 12;
/// Points of a star.
const STAR_POINTS: usize = 5;

impl Class {
    /// Any class, all equally likely.
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Cross][rng.usize(..CLASSES.len())]
    }

    /// An outline of this class, turned at will; it reaches `size` from the centre at most.
    pub(super) fn outline(self, rng: &mut Rng, centre: [f32; 2], size: f32) -> Outline {
        let turn = rng.between(0.0, TAU);
        match self {
            Self::Circle => Outline::Circle(centre, size * 0.9),
            Self::Square => {
                let half = 0.5_f32.sqrt();
                Outline::placed(&[[-half, -half], [half, -half], [half, half], [-half, half]], centre, size, turn)
            }
            Self::Triangle => {
                let corner = |angle: f32| [angle.cos(), angle.sin()];
                // Not all alike: the top moves sideways.
                let lean = rng.between(-0.35, 0.35);
                let corners = [corner(PI / 6.0), corner(PI * 5.0 / 6.0), corner(-FRAC_PI_2 + lean)];
                Outline::placed(&corners, centre, size, turn)
            }
            Self::Star => {
                let inner = rng.between(0.36, 0.5);
                let corner = |index: usize| {
                    let angle = index as f32 * PI / STAR_POINTS as f32;
                    let radius = if index.is_multiple_of(2) { 1.0 } else { inner };
                    [radius * angle.cos(), radius * angle.sin()]
                };
                let corners: Vec<_> = (0..2 * STAR_POINTS).map(corner).collect();
                Outline::placed(&corners, centre, size, turn)
            }
            Self::Cross => {
                let arm = rng.between(0.22, 0.36);
                let quarter = [[arm, -arm], [1.0, -arm], [1.0, arm], [arm, arm]];
                // Four times the same, a quarter turn on each: a plus.
                let corners: Vec<_> = (0..4)
                    .flat_map(|turns| {
                        let (sine, cosine) = (turns as f32 * FRAC_PI_2).sin_cos();
                        quarter[1..].iter().map(move |[x, y]| [x * cosine - y * sine, x * sine + y * cosine])
                    })
                    .collect();
                Outline::placed(&corners, centre, size / 1.0_f32.hypot(arm), turn)
            }
        }
    }
}

/// Paints an outline in a colour that stands out, flat or shaded, with or without a border.
pub(super) fn paint(rng: &mut Rng, picture: &mut Picture, outline: &Outline) {
    let size = (picture.width, picture.height);
    let behind = mean_within(picture, outline);
    let fill = standing_out(rng, behind);
    let [left, top, right, bottom] = outline.bounds();
    let extent = (right - left).max(bottom - top);
    let border = rng.chance(0.3).then(|| (rng.between(0.03, 0.09) * extent, standing_out(rng, behind)));
    // Light from one side, as a part of the colour.
    let (sine, cosine) = rng.between(0.0, TAU).sin_cos();
    let shade = if rng.chance(0.5) { rng.between(0.0, 0.3) } else { 0.0 };
    let texture = if rng.chance(0.3) { rng.between(0.0, 0.08) } else { 0.0 };
    let (middle_x, middle_y) = (f32::midpoint(left, right), f32::midpoint(top, bottom));
    outline.pixels(size, 0.5, |pixel, distance| {
        let (x, y) = ((pixel % size.0) as f32 - middle_x, (pixel / size.0) as f32 - middle_y);
        let light = 1.0 + shade * (x * cosine + y * sine) / (extent / 2.0) + texture * rng.normal();
        let colour = match border {
            Some((width, colour)) if distance > -width => colour,
            _ => fill.map(|value| value * light),
        };
        picture.blend(pixel, colour, (0.5 - distance).clamp(0.0, 1.0));
    });
}

fn standing_out(rng: &mut Rng, behind: Colour) -> Colour {
    let drawn = (0..TRIES).map(|_| rng.colour()).find(|colour| contrast(*colour, behind) >= LEAST_CONTRAST);
    let bright = behind.iter().sum::<f32>() > 1.5;
    drawn.unwrap_or(if bright { [0.0; 3] } else { [1.0; 3] })
}

/// The mean colour where the outline is to be.
fn mean_within(picture: &Picture, outline: &Outline) -> Colour {
    let mut sum = [0.0; 3];
    let mut count = 0;
    outline.pixels((picture.width, picture.height), 0.0, |pixel, _| {
        for (sum, value) in sum.iter_mut().zip(picture.at(pixel)) {
            *sum += value;
        }
        count += 1;
    });
    sum.map(|value| value / count.max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::generator;

    #[test]
    fn outlines_stay_within_their_size_and_are_as_large_as_it() {
        for seed in 0..50 {
            for class in [Class::Circle, Class::Square, Class::Triangle, Class::Star, Class::Cross] {
                let bounds = class.outline(&mut generator(seed), [0.0; 2], 10.0).bounds();
                assert!(bounds.iter().all(|edge| edge.abs() <= 10.001), "{class:?} {bounds:?}");
                assert!(bounds[2] - bounds[0] > 13.0 && bounds[3] - bounds[1] > 13.0, "{class:?} {bounds:?}");
            }
        }
    }

    #[test]
    fn every_class_has_an_area_of_its_own() {
        let areas = [Class::Circle, Class::Square, Class::Triangle, Class::Star, Class::Cross].map(|class| {
            let mut count = 0;
            let outline = class.outline(&mut generator(1), [50.0; 2], 40.0);
            outline.pixels((100, 100), 0.0, |_, _| count += 1);
            count
        });
        // A disc of 36: 4,072; a square of 56.6 a side: 3,200; the others by their own corners.
        assert!((areas[0] - 4072_i32).abs() < 40 && (areas[1] - 3200).abs() < 40, "{areas:?}");
        assert!((1500..2200).contains(&areas[2]) && (1500..2700).contains(&areas[3]), "{areas:?}");
        assert!((1800..3200).contains(&areas[4]), "{areas:?}");
    }

    #[test]
    fn colours_stand_out_from_any_background() {
        let mut rng = generator(9);
        for behind in [[0.5; 3], [0.0; 3], [1.0, 0.0, 0.5]] {
            assert!((0..100).all(|_| contrast(standing_out(&mut rng, behind), behind) >= LEAST_CONTRAST));
        }
    }
}
