//! What shapes stand before: gradients, clouds and stripes, and clutter that is none of the classes. Owns that; refuses
//! anything that a person might call a circle, square, triangle, star or cross.

use std::f32::consts::TAU;

use fastrand::Rng;

use crate::picture::{Colour, Draw, Field, Outline, Picture};

/// Pieces of clutter, at most.
const MOST_CLUTTER: usize = 14;

/// A background with clutter.
pub(super) fn background(rng: &mut Rng, width: usize, height: usize) -> Picture {
    let mut picture = ground(rng, width, height);
    if rng.chance(0.8) {
        for _ in 0..rng.usize(..MOST_CLUTTER) {
            let colour = rng.colour();
            let opacity = rng.between(0.2, 1.0);
            match rng.u8(..3) {
                0 => bar(rng, &mut picture, colour, opacity),
                1 => arc(rng, &mut picture, colour, opacity),
                _ => strokes(rng, &mut picture, colour, opacity),
            }
        }
    }
    picture
}

/// A gradient between two colours, with clouds or stripes mixed in.
fn ground(rng: &mut Rng, width: usize, height: usize) -> Picture {
    let longest = width.max(height) as f32;
    let (one, other, third) = (rng.colour(), near(rng), rng.colour());
    let other = [0, 1, 2].map(|plane| (one[plane] + other[plane]).clamp(0.0, 1.0));
    let (sine, cosine) = rng.between(0.0, TAU).sin_cos();
    let grain = rng.scaled(longest / 60.0, longest / 2.0);
    let clouds = Field::new(rng, width, height, grain);
    let clouded = if rng.chance(0.7) { rng.between(0.0, 0.7) } else { 0.0 };
    let striped = if rng.chance(0.25) { rng.between(0.1, 0.5) } else { 0.0 };
    let wave = TAU / rng.scaled(longest / 50.0, longest / 6.0).max(3.0);
    let mut picture = Picture::filled(width, height, one);
    for y in 0..height {
        for x in 0..width {
            let along = x as f32 * cosine + y as f32 * sine;
            let pixel = y * width + x;
            picture.blend(pixel, other, (along / longest).clamp(-1.0, 1.0).abs());
            let mut part = clouded * clouds.at(x, y);
            if striped > 0.0 {
                part += striped * f32::midpoint((along * wave).sin(), 1.0);
            }
            picture.blend(pixel, third, part.min(1.0));
        }
    }
    picture
}

/// A step to a colour nearby.
fn near(rng: &mut Rng) -> Colour {
    [0, 1, 2].map(|_| rng.between(-0.4, 0.4))
}

/// A line or a thin bar across some of the picture.
fn bar(rng: &mut Rng, picture: &mut Picture, colour: Colour, opacity: f32) {
    let longest = picture.width.max(picture.height) as f32;
    let length = rng.between(0.15, 0.9) * longest;
    let thickness = rng.between(0.004, 0.16) * length;
    let centre = [rng.between(0.0, picture.width as f32), rng.between(0.0, picture.height as f32)];
    let (long, thin) = (0.5, thickness / length / 2.0);
    let corners = [[-long, -thin], [long, -thin], [long, thin], [-long, thin]];
    fill(picture, &Outline::placed(&corners, centre, length, rng.between(0.0, TAU)), colour, opacity);
}

/// A piece of a thin ring, never near to a whole one.
fn arc(rng: &mut Rng, picture: &mut Picture, colour: Colour, opacity: f32) {
    const STEPS: usize = 10;
    let longest = picture.width.max(picture.height) as f32;
    let radius = rng.between(0.05, 0.4) * longest;
    let thickness = rng.between(0.03, 0.2);
    let sweep = rng.between(0.5, 3.2);
    let centre = [rng.between(0.0, picture.width as f32), rng.between(0.0, picture.height as f32)];
    let at = |step: usize, radius: f32| {
        let (sine, cosine) = (sweep * step as f32 / STEPS as f32).sin_cos();
        [radius * cosine, radius * sine]
    };
    let outer = (0..=STEPS).map(|step| at(step, 1.0));
    let inner = (0..=STEPS).rev().map(|step| at(step, 1.0 - thickness));
    let corners: Vec<_> = outer.chain(inner).collect();
    fill(picture, &Outline::placed(&corners, centre, radius, rng.between(0.0, TAU)), colour, opacity);
}

/// Short strokes in a row, as of writing seen from afar.
fn strokes(rng: &mut Rng, picture: &mut Picture, colour: Colour, opacity: f32) {
    let longest = picture.width.max(picture.height) as f32;
    let size = rng.between(0.008, 0.035) * longest;
    let turn = if rng.chance(0.7) { 0.0 } else { rng.between(0.0, TAU) };
    let (sine, cosine) = turn.sin_cos();
    let mut at = [rng.between(0.0, picture.width as f32), rng.between(0.0, picture.height as f32)];
    for _ in 0..rng.usize(3..14) {
        let lean = turn + rng.between(0.9, 2.2);
        let thin = 0.12;
        let corners = [[-1.0, -thin], [1.0, -thin], [1.0, thin], [-1.0, thin]];
        let length = size * rng.between(0.4, 1.0);
        fill(picture, &Outline::placed(&corners, at, length, lean), colour, opacity);
        at = [at[0] + size * cosine, at[1] + size * sine];
    }
}

fn fill(picture: &mut Picture, outline: &Outline, colour: Colour, opacity: f32) {
    outline.pixels((picture.width, picture.height), 0.5, |pixel, distance| {
        picture.blend(pixel, colour, opacity * (0.5 - distance).clamp(0.0, 1.0));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::generator;

    #[test]
    fn backgrounds_keep_to_the_range_and_differ() {
        let one = background(&mut generator(1), 64, 48);
        assert!(one.values.iter().all(|value| (-1e-5..=1.00001).contains(value)));
        assert_ne!(one, background(&mut generator(2), 64, 48));
    }
}
