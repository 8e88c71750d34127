//! Generated scenes: one to eight coloured shapes of five classes before noisy, cluttered backgrounds, and where each
//! is. Owns what a scene holds and its truth; refuses to know models. Pure: a seed and a size are a scene. Truth is
//! never in doubt: a shape stands out from what is behind it, and enough of each stays visible.

mod background;
mod shape;

use serde::Serialize;

use crate::picture::{Colour, Draw, Picture, generator};
pub(crate) use shape::{CLASSES, Class};

/// Shapes in a scene, at most.
pub(crate) const MOST_OBJECTS: usize = 8;
/// A shape's extent as a part of the picture's longer side.
const EXTENT: [f32; 2] = [0.055, 0.5];
/// How much of the smaller of two shapes' boxes may lie in the other.
const MOST_OVERLAP: f32 = 0.35;
/// How much of a shape's box may lie outside the picture.
const MOST_OUTSIDE: f32 = 0.2;
/// Tries to find a place, after which a scene has one shape less.
const TRIES: usize = 20;

/// A shape of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Object {
    pub(crate) class: Class,
    /// Left, top, right, bottom in pixels, within the picture.
    #[serde(rename = "box")]
    pub(crate) bounds: [f32; 4],
}

/// A picture and what is on it.
#[derive(Debug, PartialEq)]
pub(crate) struct Scene {
    pub(crate) picture: Picture,
    pub(crate) objects: Vec<Object>,
}

/// How rough a picture is.
#[derive(Clone, Copy)]
struct Roughness {
    blur: usize,
    noise: f32,
    colourful: f32,
}

impl Scene {
    /// The scene of a seed; `width` and `height` in pixels, from 32 each.
    pub(crate) fn new(seed: u64, width: usize, height: usize) -> Self {
        let mut rng = generator(seed);
        let wanted = rng.usize(1..=MOST_OBJECTS);
        let longest = width.max(height) as f32;
        let mut picture = background::background(&mut rng, width, height);
        let mut objects: Vec<Object> = Vec::new();
        for _ in 0..wanted {
            for _ in 0..TRIES {
                let class = Class::drawn(&mut rng);
                let size = rng.scaled(EXTENT[0] * longest, EXTENT[1] * longest) / 2.0;
                let centre = [rng.between(0.0, width as f32), rng.between(0.0, height as f32)];
                let outline = class.outline(&mut rng, centre, size);
                let whole = outline.bounds();
                let bounds = cut(whole, width, height);
                let inside = area(bounds) / area(whole);
                if inside < 1.0 - MOST_OUTSIDE || objects.iter().any(|other| covers(bounds, other.bounds)) {
                    continue;
                }
                shape::paint(&mut rng, &mut picture, &outline);
                objects.push(Object { class, bounds });
                break;
            }
        }
        roughen(&mut rng, &mut picture, longest);
        Self { picture, objects }
    }

    /// A shape alone, as a pipeline cuts it out of a picture: roughly around it, stretched to `side` x `side`.
    pub(crate) fn cut_out(seed: u64, side: usize) -> (Picture, Class) {
        let mut rng = generator(seed);
        let extent = rng.scaled(18.0, 160.0);
        let canvas = (extent * 1.6).ceil().max(24.0);
        let pixels = canvas as usize;
        let mut picture = background::background(&mut rng, pixels, pixels);
        if rng.chance(0.5) {
            // A neighbour that reaches into the cut.
            let centre = if rng.bool() { [0.0, rng.between(0.0, canvas)] } else { [rng.between(0.0, canvas), canvas] };
            let neighbour = Class::drawn(&mut rng).outline(&mut rng, centre, extent * 0.3);
            shape::paint(&mut rng, &mut picture, &neighbour);
        }
        let class = Class::drawn(&mut rng);
        let outline = class.outline(&mut rng, [canvas / 2.0; 2], extent / 2.0);
        shape::paint(&mut rng, &mut picture, &outline);
        roughen(&mut rng, &mut picture, (extent * 4.0).min(640.0));
        let [left, top, right, bottom] = outline.bounds();
        let (width, height) = (right - left, bottom - top);
        let mut edge = |at: f32, outwards: f32| at + outwards * rng.between(-0.08, 0.2);
        let cut = [edge(left, -width), edge(top, -height), edge(right, width), edge(bottom, height)];
        let mut picture = picture.crop(cut, side, side);
        picture.quantise();
        (picture, class)
    }
}

/// What a camera adds: a little blur, noise of its sensor, 8 bits.
fn roughen(rng: &mut fastrand::Rng, picture: &mut Picture, longest: f32) {
    let rough = Roughness {
        blur: if rng.chance(0.35) { rng.usize(1..=((longest / 300.0) as usize).max(1)) } else { 0 },
        noise: rng.between(0.0, 0.06),
        colourful: rng.between(0.2, 1.0),
    };
    picture.blur(rough.blur);
    picture.add_noise(rng, rough.noise, rough.colourful);
    picture.quantise();
}

/// True if too much of the smaller box lies in the other.
fn covers(one: [f32; 4], other: [f32; 4]) -> bool {
    let common = [one[0].max(other[0]), one[1].max(other[1]), one[2].min(other[2]), one[3].min(other[3])];
    area(common) > MOST_OVERLAP * area(one).min(area(other))
}

fn area([left, top, right, bottom]: [f32; 4]) -> f32 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

fn cut([left, top, right, bottom]: [f32; 4], width: usize, height: usize) -> [f32; 4] {
    [left.max(0.0), top.max(0.0), right.min(width as f32), bottom.min(height as f32)]
}

/// How far colours are from each other: the largest difference of a plane.
fn contrast(one: Colour, other: Colour) -> f32 {
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_scene() {
        assert_eq!(Scene::new(5, 96, 64), Scene::new(5, 96, 64));
        assert_ne!(Scene::new(5, 96, 64).picture, Scene::new(6, 96, 64).picture);
        assert_eq!(Scene::cut_out(5, 64), Scene::cut_out(5, 64));
    }

    #[test]
    fn truth_lies_within_the_picture_and_all_classes_come() {
        let mut seen = [0; CLASSES.len()];
        let mut most = 0;
        for seed in 0..150 {
            let scene = Scene::new(seed, 160, 120);
            most = most.max(scene.objects.len());
            assert!((1..=MOST_OBJECTS).contains(&scene.objects.len()), "seed {seed}");
            for (index, object) in scene.objects.iter().enumerate() {
                seen[object.class as usize] += 1;
                let [left, top, right, bottom] = object.bounds;
                assert!(left >= 0.0 && top >= 0.0 && right <= 160.0 && bottom <= 120.0, "{object:?}");
                assert!(right - left >= 4.0 && bottom - top >= 4.0, "{object:?}");
                assert!(scene.objects[..index].iter().all(|other| !covers(object.bounds, other.bounds)));
            }
        }
        assert!(seen.iter().all(|count| *count > 50) && most == MOST_OBJECTS, "{seen:?} {most}");
    }

    #[test]
    fn the_box_is_where_the_picture_changes() {
        // The same seed's background without the shapes differs from the scene inside the boxes, and nowhere else but
        // for noise: so a scene of one shape, painted on a plane, is looked at.
        for seed in 0..20 {
            let mut rng = generator(seed);
            let mut picture = Picture::filled(100, 100, [0.5; 3]);
            let outline = Class::drawn(&mut rng).outline(&mut rng, [50.0, 50.0], 30.0);
            shape::paint(&mut rng, &mut picture, &outline);
            let changed = |pixel: &usize| contrast(picture.at(*pixel), [0.5; 3]) > 0.1;
            let columns = (0..10_000).filter(changed).map(|pixel| pixel % 100);
            let rows = (0..10_000).filter(changed).map(|pixel| pixel / 100);
            let [left, top, right, bottom] = outline.bounds();
            let near = |pixel: Option<usize>, edge: f32| (pixel.unwrap() as f32 + 0.5 - edge).abs() < 2.5;
            assert!(near(columns.clone().min(), left) && near(columns.max(), right), "seed {seed}");
            assert!(near(rows.clone().min(), top) && near(rows.max(), bottom), "seed {seed}");
        }
    }
}
