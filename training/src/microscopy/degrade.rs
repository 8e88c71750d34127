//! What optics and camera do to a specimen: uneven light, contrast, blur, dirt, noise. Owns that; what it must not do
//! is move anything, because truth would no longer fit.

use std::f32::consts::TAU;

use fastrand::Rng;

use crate::picture::{Draw, Field, Outline, Picture};

/// Specks of dirt, at most.
const MOST_DIRT: usize = 6;

/// Makes a clean picture one that a microscope might give. `grey`: all planes equal.
pub(super) fn degrade(rng: &mut Rng, picture: &mut Picture, grey: bool) {
    if grey {
        to_grey(rng, picture);
    }
    if rng.chance(0.4) {
        dirt(rng, picture);
    }
    light(rng, picture);
    let blur = [0, 0, 1, 1, 2][rng.usize(..5)];
    picture.blur(blur);
    contrast(rng, picture);
    let colourful = if grey { 0.0 } else { rng.f32() };
    let strength = if rng.chance(0.3) { rng.between(0.03, 0.09) } else { rng.between(0.0, 0.03) };
    picture.add_noise(rng, strength, colourful);
    picture.quantise();
}

fn to_grey(rng: &mut Rng, picture: &mut Picture) {
    // Luma, or one plane alone as monochrome cameras behind filters give.
    let weights = if rng.bool() { [0.3, 0.59, 0.11] } else { [0.34, 0.33, 0.33] };
    for pixel in 0..picture.area() {
        let value = picture.at(pixel).iter().zip(weights).map(|(value, weight)| value * weight).sum();
        picture.blend(pixel, [value; 3], 1.0);
    }
}

/// Brighter here, darker there: by a slope, a cloud, or towards the corners.
fn light(rng: &mut Rng, picture: &mut Picture) {
    let (width, height) = (picture.width, picture.height);
    let longest = width.max(height) as f32;
    let strength = if rng.chance(0.5) { rng.between(0.0, 0.6) } else { 0.0 };
    if strength == 0.0 {
        return;
    }
    let kind = rng.u8(..3);
    let cloud = Field::new(rng, width, height, longest / 1.5);
    let (sine, cosine) = rng.between(0.0, TAU).sin_cos();
    let centre = [rng.between(0.2, 0.8) * width as f32, rng.between(0.2, 0.8) * height as f32];
    let area = picture.area();
    for pixel in 0..area {
        let (x, y) = (pixel % width, pixel / width);
        let (across, down) = ((x as f32 - centre[0]) / longest, (y as f32 - centre[1]) / longest);
        let darker = match kind {
            0 => 0.5 + across * cosine + down * sine,
            1 => cloud.at(x, y),
            _ => (across * across + down * down) * 1.6,
        };
        let factor = 1.0 - strength * darker.clamp(0.0, 1.2);
        for plane in 0..3 {
            picture.values[plane * area + pixel] *= factor;
        }
    }
}

fn contrast(rng: &mut Rng, picture: &mut Picture) {
    let gain = rng.between(0.6, 1.2);
    let lift = rng.between(-0.08, 0.1) + (1.0 - gain) * rng.between(0.0, 0.8);
    let gamma = if rng.chance(0.5) { rng.scaled(0.7, 1.5) } else { 1.0 };
    for value in &mut picture.values {
        let cut = value.clamp(0.0, 1.0);
        *value = if gamma == 1.0 { cut } else { cut.powf(gamma) } * gain + lift;
    }
}

/// Specks and hairs that are no cells.
fn dirt(rng: &mut Rng, picture: &mut Picture) {
    let size = (picture.width, picture.height);
    for _ in 0..rng.usize(..=MOST_DIRT) {
        let centre = [rng.between(0.0, size.0 as f32), rng.between(0.0, size.1 as f32)];
        let colour = [rng.f32(); 3];
        let part = rng.between(0.2, 0.8);
        let outline = if rng.chance(0.7) {
            Outline::Circle(centre, rng.between(0.5, 2.2))
        } else {
            let thin = rng.between(0.005, 0.02);
            let corners = [[-1.0, -thin], [1.0, -thin], [1.0, thin], [-1.0, thin]];
            Outline::placed(&corners, centre, rng.between(10.0, 80.0), rng.between(0.0, TAU))
        };
        outline.pixels(size, 0.7, |pixel, distance| picture.blend(pixel, colour, part * (0.7 - distance).min(1.0)));
    }
}
