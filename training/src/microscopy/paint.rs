//! Paints cells: body, rim, nucleus, texture and halo of each. Owns how a style becomes pixels; which styles there are
//! is `looks`'. Only a cell's own pixels are painted with its body, so that pictures and truth fit.

use fastrand::Rng;

use super::arrangement::Arrangement;
use crate::picture::{Colour, Draw, Field, Picture};

/// How one cell looks. Parts are from 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// The body near the rim, and in the middle.
    pub(super) body: [Colour; 2],
    /// How much the body covers what is behind.
    pub(super) opacity: f32,
    /// Width in pixels, colour, part.
    pub(super) rim: Option<(f32, Colour, f32)>,
    /// Size as a part of the cell's, colour, part.
    pub(super) nucleus: Option<(f32, Colour, f32)>,
    /// Around the cell: width in pixels, colour, part.
    pub(super) halo: Option<(f32, Colour, f32)>,
    /// How much the texture brightens and darkens.
    pub(super) texture: f32,
    /// Whether the texture is lit from one side, as what is embossed.
    pub(super) relief: bool,
    /// Pixels over which the edge fades.
    pub(super) softness: f32,
}

/// Paints every cell with a style of its own.
pub(super) fn cells(
    rng: &mut Rng,
    picture: &mut Picture,
    arrangement: &Arrangement,
    grain: f32,
    style: &mut dyn FnMut(&mut Rng) -> Style,
) {
    let (width, height) = arrangement.size;
    let fine = Field::new(rng, width, height, grain);
    let coarse = Field::new(rng, width, height, grain * 3.0);
    let texture = |pixel: usize, relief: bool| {
        let (x, y) = (pixel % width, pixel / width);
        if relief {
            let (left, up) = (x.saturating_sub(1), y.saturating_sub(1));
            return 6.0 * (fine.at(x, y) - fine.at(left, up)) + 1.2 * (coarse.at(x, y) - 0.5);
        }
        fine.at(x, y) + coarse.at(x, y) - 1.0
    };
    for (index, cell) in arrangement.cells.iter().enumerate() {
        let number = index as u16 + 1;
        let style = style(rng);
        let nucleus = style.nucleus.map(|(size, colour, part)| (cell.within(rng, size), colour, part));
        let margin = style.halo.map_or(0.0, |(width, ..)| width * 3.0);
        cell.pixels(arrangement.size, margin, |pixel, distance| {
            if arrangement.owner[pixel] == 0
                && let Some((width, colour, part)) = style.halo
            {
                picture.blend(pixel, colour, part * (-distance.max(0.0) / width).exp());
            }
            if arrangement.owner[pixel] != number {
                return;
            }
            let depth = (-distance / cell.radius).clamp(0.0, 1.0);
            let light = 1.0 + style.texture * texture(pixel, style.relief);
            let [outer, inner] = style.body;
            let body = [0, 1, 2].map(|plane| (outer[plane] + (inner[plane] - outer[plane]) * depth) * light);
            let fade = (0.5 - distance / style.softness.max(0.5)).clamp(0.0, 1.0);
            picture.blend(pixel, body, style.opacity * fade);
            if let Some((width, colour, part)) = style.rim {
                picture.blend(pixel, colour, part * (1.0 + distance / width).clamp(0.0, 1.0) * fade);
            }
            if let Some((nucleus, colour, part)) = &nucleus {
                let (x, y) = ((pixel % width) as f32 + 0.5, (pixel / width) as f32 + 0.5);
                let cover = (0.5 - nucleus.distance(x, y) / 1.5).clamp(0.0, 1.0);
                picture.blend(pixel, colour.map(|value| value * light), part * cover);
            }
        });
    }
}

/// A colour with some of its brightness taken or given.
pub(super) fn varied(rng: &mut Rng, colour: Colour, by: f32) -> Colour {
    let all = rng.between(-by, by);
    colour.map(|value| (value + all + rng.between(-by, by) * 0.4).clamp(0.0, 1.0))
}

/// Between two colours.
pub(super) fn mixed(one: Colour, other: Colour, part: f32) -> Colour {
    [0, 1, 2].map(|plane| one[plane] + (other[plane] - one[plane]) * part)
}
