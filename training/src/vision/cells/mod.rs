//! `cells-hrnet`, `cells-resunet`, `cells-unet`: which pixels of a microscope's picture are cell. Owns how all three
//! are taught and measured and what they answer; each architecture has its own file. Only their nets differ, so that
//! they can be compared.

mod hrnet;
mod loss;
mod resunet;
mod unet;

use tch::{Kind, TchError, Tensor};

use super::{
    layers::Layers,
    lesson::{Lesson, Measured, Network, Recipe},
};
use crate::microscopy::{Ground, Specimen};

/// Pixels of a side of the input.
const SIDE: usize = 256;
/// What pictures are trained on, smaller than what is served: most of what cells look like is seen on 128 pixels, at a
/// quarter of the time. Until this progress the first side, then the second and fewer pictures: fewer still, and the
/// norms' statistics would be of too few looks.
const SIDES: (f64, [usize; 2]) = (0.75, [128, 192]);
/// Pictures that are measured at once.
const AT_ONCE: usize = 4;
/// Probability from which on a pixel counts as cell, as a byte.
const THRESHOLD: f64 = 128.0;
/// What a model takes: (pixel - MEAN) / DEVIATION, pixels from 0 to 1.
const MEAN: f64 = 0.5;
const DEVIATION: f64 = 0.25;

/// One architecture.
pub(crate) struct Cells {
    name: &'static str,
    manifest: &'static str,
    rate: f64,
    build: fn(&Layers<'_>) -> anyhow::Result<Box<dyn Segmenter>>,
}

/// All three.
pub(crate) const HRNET: Cells = Cells {
    name: "cells-hrnet",
    manifest: include_str!("hrnet.toml"),
    rate: 2e-3,
    build: |layers| Ok(Box::new(hrnet::Net::new(layers)?)),
};
pub(crate) const RESUNET: Cells = Cells {
    name: "cells-resunet",
    manifest: include_str!("resunet.toml"),
    rate: 2e-3,
    build: |layers| Ok(Box::new(resunet::Net::new(layers)?)),
};
pub(crate) const UNET: Cells = Cells {
    name: "cells-unet",
    manifest: include_str!("unet.toml"),
    rate: 2e-3,
    build: |layers| Ok(Box::new(unet::Net::new(layers)?)),
};

/// Nets see and say four pixels at once, as channels of half the size: planes of full size would take most of the time.
const FOLD: i64 = 2;
/// Channels of a folded picture, and of a folded mask.
const FOLDED: i64 = 3 * FOLD * FOLD;
const UNFOLDED: i64 = FOLD * FOLD;

/// A net from a folded picture, `[rows, 12, height / 2, width / 2]`, to folded logits, `[rows, 4, …]`. Sides of the
/// picture are multiples of 32.
trait Segmenter {
    fn logits(&self, folded: &Tensor, learning: bool) -> Result<Tensor, TchError>;
}

struct Masked(Box<dyn Segmenter>);

impl Network for Masked {
    fn forward(&self, images: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let folded = images.f_pixel_unshuffle(FOLD)?;
        self.0.logits(&folded, learning)?.f_pixel_shuffle(FOLD)?.f_squeeze_dim(1)
    }

    /// `mask`: probability times 255, rounded.
    fn answer(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let probability = self.forward(images, false)?.f_sigmoid()?;
        probability.f_mul_scalar(255.0)?.f_round()?.f_to_dtype(Kind::Uint8, false, false)
    }
}

impl Lesson for Cells {
    fn name(&self) -> &'static str {
        self.name
    }

    fn manifest(&self) -> &'static str {
        self.manifest
    }

    fn recipe(&self) -> Recipe {
        Recipe { steps: 10_000, batch: 8, rate: self.rate, figure: ("IoU", 0.85), held_out: 200 }
    }

    fn network(&self, layers: &Layers<'_>) -> anyhow::Result<Box<dyn Network>> {
        Ok(Box::new(Masked((self.build)(layers)?)))
    }

    fn loss(&self, network: &dyn Network, seeds: &[u64], progress: f64) -> anyhow::Result<Tensor> {
        let (until, [small, large]) = SIDES;
        let (side, count) = if progress < until { (small, seeds.len()) } else { (large, seeds.len().div_ceil(2)) };
        let drawn = Drawn::new(&seeds[..count], side);
        let logits = network.forward(&drawn.images, true)?;
        Ok(loss::loss(&logits, &drawn.cells, &drawn.weights)?)
    }

    fn measure(&self, network: &dyn Network, seeds: &[u64]) -> anyhow::Result<Measured> {
        let (mut common, mut union, mut right, mut pixels) = (0.0, 0.0, 0.0, 0.0);
        for seeds in seeds.chunks(AT_ONCE) {
            let drawn = Drawn::new(seeds, SIDE);
            let said = network.answer(&drawn.images)?.f_ge(THRESHOLD)?;
            let there = drawn.cells.f_gt(0.5)?;
            let count = |mask: Tensor| mask.f_sum(Kind::Float)?.f_double_value(&[]);
            common += count(said.f_logical_and(&there)?)?;
            union += count(said.f_logical_or(&there)?)?;
            right += count(said.f_eq_tensor(&there)?)?;
            pixels += there.numel() as f64;
        }
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 1.0 };
        Ok(Measured { figure: share(common, union), others: vec![("pixel accuracy".into(), share(right, pixels))] })
    }

    fn example(&self, rows: i64) -> Tensor {
        let seeds: Vec<_> = (0..rows.unsigned_abs()).collect();
        Drawn::new(&seeds, SIDE).images
    }
}

/// Specimens as tensors.
struct Drawn {
    /// FP32[rows, 3, side, side], normalised.
    images: Tensor,
    /// FP32[rows, side, side]: 1 where there is a cell.
    cells: Tensor,
    /// As much as each pixel counts.
    weights: Tensor,
}

impl Drawn {
    fn new(seeds: &[u64], side: usize) -> Self {
        let specimens: Vec<_> = seeds.iter().map(|seed| Specimen::new(*seed, side, side)).collect();
        let images: Vec<_> = specimens.iter().map(|specimen| specimen.picture.tensor()).collect();
        let ground: Vec<u8> =
            specimens.iter().flat_map(|specimen| specimen.ground.iter().map(|ground| *ground as u8)).collect();
        let shape = [seeds.len() as i64, side as i64, side as i64];
        let ground = Tensor::from_slice(&ground).view(shape);
        let of = |kind: Ground| ground.eq(kind as i64).to_kind(Kind::Float);
        Self {
            images: (Tensor::stack(&images, 0) - MEAN) / DEVIATION,
            cells: of(Ground::Cell),
            weights: of(Ground::Gap) * loss::GAP_WEIGHT + 1.0,
        }
    }
}
