//! The looks of microscopy: which forms, colours and backgrounds go together. Owns those tables; painting is `paint`'s,
//! stained tissue's background `tissue`'s. Why so many: a net that saw one look would know no other.

use fastrand::Rng;

use super::{
    arrangement::{Arrangement, Strewing},
    cell::Form,
    paint::{self, Style, mixed, varied},
    tissue,
};
use crate::picture::{Colour, Draw, Field, Picture};

/// A kind of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Bright on black.
    Fluorescence,
    /// Grey with halos, bright on dark or dark on bright.
    Phase,
    /// Pale on pale, with rims and nuclei.
    Brightfield,
    /// Coloured cells on a bright slide, as of blood.
    Smear,
    /// Stained tissue, in which nuclei are what counts.
    Tissue,
    /// Discs with embossed faces on cloth.
    Relief,
}

impl Look {
    /// Any look; tissue more often, because it is the hardest.
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        [Self::Fluorescence, Self::Phase, Self::Brightfield, Self::Smear, Self::Tissue, Self::Tissue, Self::Relief]
            [rng.usize(..7)]
    }

    /// How its cells are formed and strewn.
    pub(super) fn strewing(self, rng: &mut Rng) -> Strewing {
        let (smallest, largest, longest, dents) = match self {
            Self::Fluorescence => (4.0, 40.0, 1.8, 0.15),
            Self::Phase => (7.0, 75.0, 1.6, 0.12),
            Self::Brightfield => (6.0, 45.0, 1.8, 0.15),
            Self::Smear => (6.0, 28.0, 1.4, 0.1),
            Self::Tissue => (4.5, 14.0, 3.2, 0.16),
            Self::Relief => (11.0, 50.0, 1.12, 0.03),
        };
        let middle = rng.scaled(smallest, largest);
        let spread = rng.between(1.05, 1.5);
        let form = Form {
            radius: [(middle / spread).max(3.0), middle * spread],
            longest: rng.between(1.0, longest),
            dents: rng.between(0.0, dents),
        };
        let density = match self {
            Self::Phase | Self::Relief if rng.chance(0.5) => rng.between(0.05, 0.4),
            _ => rng.scaled(0.15, 1.3),
        };
        Strewing { form, density, aligned: self == Self::Tissue || rng.chance(0.2), patchy: rng.chance(0.35) }
    }

    /// Whether this picture is without colour.
    pub(super) fn is_grey(self, rng: &mut Rng) -> bool {
        match self {
            Self::Fluorescence => rng.chance(0.6),
            Self::Phase | Self::Relief => rng.chance(0.9),
            Self::Brightfield => rng.chance(0.5),
            Self::Smear => rng.chance(0.15),
            Self::Tissue => rng.chance(0.05),
        }
    }

    /// The whole picture, clean.
    pub(super) fn paint(self, rng: &mut Rng, arrangement: &Arrangement) -> Picture {
        match self {
            Self::Fluorescence => fluorescence(rng, arrangement),
            Self::Phase => phase(rng, arrangement),
            Self::Brightfield => brightfield(rng, arrangement),
            Self::Smear => smear(rng, arrangement),
            Self::Tissue => tissue::paint(rng, arrangement),
            Self::Relief => relief(rng, arrangement),
        }
    }
}

/// A grey background with clouds at most so much brighter, or darker.
fn clouded_grey(rng: &mut Rng, size: (usize, usize), level: f32, [low, high]: [f32; 2]) -> Picture {
    let other = level + rng.between(low, high);
    clouded(rng, size, [level; 3], [other; 3])
}

/// A background of one colour with clouds of another, and sometimes with ripples as of light that meets itself.
fn clouded(rng: &mut Rng, (width, height): (usize, usize), colour: Colour, other: Colour) -> Picture {
    let mut picture = Picture::filled(width, height, colour);
    let grain = rng.scaled(2.0, 80.0);
    let field = Field::new(rng, width, height, grain);
    let part = rng.f32();
    let ripples = rng.chance(0.3).then(|| Ripples::new(rng, width, height));
    let mottle = if rng.chance(0.3) { rng.between(0.0, 0.06) } else { 0.0 };
    let grain = rng.between(2.0, 8.0);
    let fine = Field::new(rng, width, height, grain);
    for pixel in 0..picture.area() {
        let (x, y) = (pixel % width, pixel / width);
        picture.blend(pixel, other, part * field.at(x, y));
        let offset = mottle * (2.0 * fine.at(x, y) - 1.0) + ripples.as_ref().map_or(0.0, |ripples| ripples.at(x, y));
        let shifted = picture.at(pixel).map(|value| value + offset);
        picture.blend(pixel, shifted, 1.0);
    }
    picture
}

/// Faint rings around a point, here and there: fringes of coherent light, which are no cells.
struct Ripples {
    centre: [f32; 2],
    wave: f32,
    strength: f32,
    place: Field,
}

impl Ripples {
    fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let centre = [rng.between(-0.5, 1.5) * width as f32, rng.between(-0.5, 1.5) * height as f32];
        let wave = std::f32::consts::TAU / rng.scaled(6.0, 40.0);
        let grain = width.max(height) as f32 / 3.0;
        Self { centre, wave, strength: rng.between(0.01, 0.07), place: Field::new(rng, width, height, grain) }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        let distance = (x as f32 - self.centre[0]).hypot(y as f32 - self.centre[1]);
        self.strength * self.place.at(x, y) * (distance * self.wave).sin()
    }
}

fn grain(rng: &mut Rng, arrangement: &Arrangement) -> f32 {
    let mean = arrangement.cells.iter().map(|cell| cell.radius).sum::<f32>() / arrangement.cells.len().max(1) as f32;
    (mean * rng.between(0.12, 0.5)).max(1.2)
}

fn fluorescence(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let dark = rng.between(0.0, 0.12);
    let behind = [dark; 3];
    let mut picture = clouded_grey(rng, arrangement.size, dark, [0.0, 0.08]);
    let dye = [[0.1, 1.0, 0.2], [0.2, 0.4, 1.0], [1.0, 0.2, 0.15], [1.0; 3]][rng.usize(..4)];
    let other = if rng.chance(0.4) { [0.3, 0.4, 1.0] } else { dye };
    let lowest = rng.between(0.2, 0.7);
    let (hollow, has_nucleus, glows) = (rng.between(-0.3, 0.7), rng.chance(0.4), rng.chance(0.6));
    let grain = grain(rng, arrangement);
    let texture = rng.between(0.0, 0.5);
    paint::cells(rng, &mut picture, arrangement, grain, &mut |rng| {
        let strength = rng.between(lowest, 1.0);
        let colour = |dye: Colour, part: f32| mixed(behind, dye, (strength * part).clamp(0.0, 1.0));
        Style {
            body: [colour(dye, 1.0 - 0.5 * hollow.max(0.0)), colour(dye, 1.0 + hollow.min(0.0))],
            opacity: 1.0,
            rim: None,
            nucleus: has_nucleus.then(|| (rng.between(0.4, 0.6), colour(other, 1.3), 0.8)),
            halo: glows.then(|| (rng.between(1.0, 4.0), colour(dye, 0.5), rng.between(0.1, 0.4))),
            texture,
            relief: false,
            softness: rng.between(1.0, 3.0),
        }
    });
    picture
}

fn phase(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let level = rng.between(0.2, 0.65);
    let mut picture = clouded_grey(rng, arrangement.size, level, [-0.06, 0.06]);
    let bright = rng.chance(0.65) || level < 0.35;
    let sign = if bright { 1.0 } else { -1.0 };
    let step = rng.between(0.12, 0.55) * sign;
    let halo = rng.between(0.05, 0.9);
    let wide = rng.scaled(1.5, 22.0);
    let texture = rng.between(0.0, 0.25);
    let has_rim = rng.chance(0.4);
    let flat = rng.f32();
    let grain = grain(rng, arrangement);
    paint::cells(rng, &mut picture, arrangement, grain, &mut |rng| {
        let own = step * rng.between(0.75, 1.2);
        let grey = |offset: f32| [(level + offset).clamp(0.0, 1.0); 3];
        Style {
            body: [grey(own * (0.5 + 0.5 * flat)), grey(own * 1.15)],
            opacity: 1.0,
            rim: has_rim.then(|| (rng.between(1.0, 3.0), grey(own * 1.5), 0.6)),
            nucleus: rng.chance(0.3).then(|| (rng.between(0.15, 0.45), grey(own * rng.between(0.5, 1.7)), 0.6)),
            halo: Some((wide, grey(-step * rng.between(0.5, 1.3)), halo)),
            texture,
            relief: false,
            softness: rng.between(1.0, 2.5),
        }
    });
    picture
}

fn brightfield(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let slide = varied(rng, [0.78, 0.77, 0.74], 0.14);
    let other = varied(rng, slide, 0.04);
    let mut picture = clouded(rng, arrangement.size, slide, other);
    let tint = varied(rng, [0.55, 0.52, 0.5], 0.25);
    let part = rng.between(0.25, 0.9);
    let rim = rng.between(0.0, 0.9);
    let ring = rng.between(0.0, 0.5);
    let texture = rng.between(0.0, 0.35);
    let has_nucleus = rng.chance(0.6);
    let grain = grain(rng, arrangement);
    paint::cells(rng, &mut picture, arrangement, grain, &mut |rng| {
        let body = mixed(slide, varied(rng, tint, 0.06), part);
        Style {
            body: [body, mixed(body, slide, rng.between(0.0, 0.4))],
            opacity: 1.0,
            rim: Some((rng.between(1.0, 2.5), body.map(|value| value * 0.45), rim.max(0.5 - part))),
            nucleus: has_nucleus.then(|| (rng.between(0.25, 0.55), body.map(|value| value * 0.55), 0.7)),
            halo: Some((rng.between(0.8, 2.0), [0.97; 3], ring)),
            texture,
            relief: false,
            softness: rng.between(1.0, 2.0),
        }
    });
    picture
}

fn smear(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let slide = varied(rng, [0.9, 0.87, 0.86], 0.08);
    let other = varied(rng, slide, 0.03);
    let mut picture = clouded(rng, arrangement.size, slide, other);
    let red = varied(rng, [0.8, 0.5, 0.52], 0.12);
    let violet = varied(rng, [0.45, 0.25, 0.6], 0.1);
    let pale = rng.between(0.0, 0.75);
    let grain = grain(rng, arrangement);
    let texture = rng.between(0.0, 0.15);
    paint::cells(rng, &mut picture, arrangement, grain, &mut |rng| {
        let white = rng.chance(0.12);
        let body = if white { mixed(violet, slide, 0.5) } else { varied(rng, red, 0.05) };
        Style {
            body: [body, if white { body } else { mixed(body, slide, pale) }],
            opacity: rng.between(0.75, 1.0),
            rim: rng.chance(0.5).then(|| (1.5, body.map(|value| value * 0.8), 0.6)),
            nucleus: white.then(|| (rng.between(0.5, 0.8), varied(rng, violet, 0.05), 0.95)),
            halo: None,
            texture,
            relief: false,
            softness: rng.between(1.0, 2.0),
        }
    });
    picture
}

fn relief(rng: &mut Rng, arrangement: &Arrangement) -> Picture {
    let cloth = rng.between(0.05, 0.4);
    let mut picture = clouded_grey(rng, arrangement.size, cloth, [0.0, 0.15]);
    let metal = varied(rng, [0.62, 0.6, 0.55], 0.15);
    let texture = rng.between(0.1, 0.6);
    let fine = rng.between(2.0, 5.0);
    paint::cells(rng, &mut picture, arrangement, fine, &mut |rng| {
        let face = varied(rng, metal, 0.12);
        let dark = face.map(|value| value * rng.between(0.5, 1.0));
        Style {
            body: [face, dark],
            opacity: 1.0,
            rim: rng.chance(0.6).then(|| (rng.between(1.5, 3.5), varied(rng, metal, 0.2), 0.6)),
            nucleus: rng.chance(0.7).then(|| (rng.between(0.3, 0.75), varied(rng, dark, 0.15), 0.6)),
            halo: rng.chance(0.4).then(|| (rng.between(1.0, 3.0), [0.02; 3], 0.6)),
            texture,
            relief: true,
            softness: rng.between(1.0, 2.0),
        }
    });
    picture
}
