//! Stained tissue: fibres, glands and open space behind, nuclei in front. Owns the two stainings: haematoxylin with
//! eosin (pink), and with DAB (brown, immunohistochemistry). Only nuclei are cells here: brown is what the stain shows,
//! and blurred outlines of glands are nobody's cell.

use fastrand::Rng;

use super::{
    arrangement::Arrangement,
    paint::{self, Style, mixed, varied},
};
use crate::picture::{Colour, Draw, Field, Picture};

/// The colours of a staining.
struct Stain {
    /// Empty slide, tissue, and what the second stain marks.
    open: Colour,
    tissue: Colour,
    marked: Colour,
    nucleus: Colour,
    /// How far the second stain hides what lies in it.
    hides: f32,
}

fn stain(rng: &mut Rng) -> Stain {
    if rng.chance(0.55) {
        Stain {
            open: varied(rng, [0.92, 0.92, 0.93], 0.05),
            tissue: varied(rng, [0.84, 0.85, 0.89], 0.06),
            marked: varied(rng, [0.62, 0.4, 0.2], 0.13),
            nucleus: varied(rng, [0.5, 0.55, 0.72], 0.12),
            hides: rng.between(0.1, 1.0),
        }
    } else {
        Stain {
            open: varied(rng, [0.94, 0.92, 0.94], 0.05),
            tissue: varied(rng, [0.88, 0.7, 0.8], 0.08),
            marked: varied(rng, [0.85, 0.5, 0.65], 0.1),
            nucleus: varied(rng, [0.42, 0.28, 0.56], 0.12),
            hides: rng.between(0.0, 0.3),
        }
    }
}

/// Paints the whole picture.
pub(super) fn paint(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let stain = stain(rng);
    let (width, height) = arrangement.size;
    let longest = width.max(height) as f32;
    let wide = rng.between(0.25, 1.0) * longest.min(200.0);
    let glands = Field::new(rng, width, height, wide);
    let fine_grain = rng.between(3.0, 12.0);
    let fibres = Fibres::new(rng, width, height, fine_grain);
    let spots = rng.between(1.5, 6.0);
    let mottle = Field::new(rng, width, height, spots);
    let open_part = if rng.chance(0.6) { rng.between(0.0, 0.32) } else { 0.0 };
    let marked_part = if rng.chance(0.8) { rng.between(0.2, 1.1) } else { 0.0 };
    let roughness = rng.between(0.1, 0.5);
    let mut picture = Picture::filled(width, height, stain.tissue);
    for pixel in 0..picture.area() {
        let (x, y) = (pixel % width, pixel / width);
        let (gland, fibre, spot) = (glands.at(x, y), fibres.at(x, y), mottle.at(x, y));
        let rough = roughness * (fibre - 0.5) + 0.25 * roughness * (spot - 0.5);
        picture.blend(pixel, mixed(stain.tissue, stain.open, 0.5), (0.5 + rough).clamp(0.0, 1.0));
        let open = step(open_part - gland + 0.04 * (spot - 0.5), 0.03);
        let marked = step(gland - 1.0 + marked_part + 0.08 * (fibre - 0.5), 0.03) * (1.0 - open);
        // Membranes: the stain is darkest in threads.
        let thread = (1.0 - (fibre - 0.5).abs() * 5.0).clamp(0.0, 1.0);
        let shade = stain.marked.map(|value| value * (1.12 - 0.35 * thread - 0.2 * spot));
        picture.blend(pixel, shade, marked * (0.6 + 0.4 * thread));
        picture.blend(pixel, stain.open, open);
    }
    nuclei(rng, &mut picture, arrangement, &stain);
    picture
}

fn nuclei(rng: &mut Rng, picture: &mut Picture, arrangement: &Arrangement, stain: &Stain) {
    // Where the second stain is strong, nuclei are pale shades within it.
    let lowest = rng.between(0.5, 0.95) - 0.35 * stain.hides;
    let highest = 1.0 - 0.3 * stain.hides;
    let texture = rng.between(0.05, 0.3);
    let rim = rng.between(0.0, 0.5);
    let grain = rng.between(1.3, 3.5);
    paint::cells(rng, picture, arrangement, grain, &mut |rng| {
        let body = varied(rng, stain.nucleus, 0.07);
        Style {
            body: [body, mixed(body, stain.tissue, rng.between(0.0, 0.25))],
            opacity: rng.between(lowest, highest),
            rim: Some((rng.between(1.0, 2.0), body.map(|value| value * 0.75), rim)),
            nucleus: rng.chance(0.15).then(|| (0.2, body.map(|value| value * 0.6), 0.7)),
            halo: rng
                .chance(0.3)
                .then(|| (rng.between(0.8, 1.8), stain.marked.map(|value| value * 0.85), rng.f32() * 0.4)),
            texture,
            relief: false,
            softness: rng.between(1.0, 2.2),
        }
    });
}

/// 0 below, 1 above, a slope of that width between.
fn step(value: f32, width: f32) -> f32 {
    (value / width + 0.5).clamp(0.0, 1.0)
}

/// A field stretched along one direction that bends: the fibres of connective tissue.
struct Fibres {
    along: Field,
    bend: Field,
    scale: f32,
    limit: usize,
}

impl Fibres {
    fn new(rng: &mut Rng, width: usize, height: usize, grain: f32) -> Self {
        let limit = width.max(height) * 3;
        let bend = Field::new(rng, width, height, width.max(height) as f32 / 2.0);
        // Squeezed in one axis by looking the other up three times as slowly.
        let along = Field::new(rng, limit, limit, grain);
        Self { along, bend, scale: rng.between(0.15, 0.5), limit: limit - 1 }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        let bend = self.bend.at(x, y) * 120.0;
        let across = (x as f32 * 1.2 + bend) as usize;
        let along = ((y as f32) * self.scale + bend * 0.3) as usize;
        self.along.at(across.min(self.limit), along.min(self.limit))
    }
}
