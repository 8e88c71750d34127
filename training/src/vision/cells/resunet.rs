//! A residual U-Net with attention (CBAM): each block adds to its input, and weighs first its channels (by their mean
//! and maximum over the picture), then its pixels (by their mean and maximum over the channels). Owns the architecture.

use tch::{Kind, TchError, Tensor};

use super::{FOLDED, Segmenter, UNFOLDED};
use crate::vision::layers::{Convolution, Layers, doubled};

/// Channels at a half, a quarter, an eighth, a sixteenth and a thirty-second of the size.
const WIDTHS: [i64; 5] = [16, 32, 48, 64, 96];
/// Channels to each of a channel gate's inner numbers.
const SQUEEZE: i64 = 4;
/// Pixels of a side of what a pixel's weight depends on.
const WINDOW: i64 = 7;

/// Weighs channels, then pixels.
struct Attention {
    squeeze: Convolution,
    widen: Convolution,
    place: Convolution,
}

impl Attention {
    fn new(layers: &Layers<'_>, width: i64) -> anyhow::Result<Self> {
        Ok(Self {
            squeeze: layers.plain("squeeze", [width, width / SQUEEZE], 1)?,
            widen: layers.plain("widen", [width / SQUEEZE, width], 1)?,
            place: layers.plain("place", [2, 1], WINDOW)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        const PLANE: [i64; 2] = [2, 3];
        let weigh = |summary: Tensor| self.widen.forward(&self.squeeze.relu(&summary, false)?, false);
        let mean = weigh(x.f_mean_dim(PLANE.as_slice(), true, Kind::Float)?)?;
        let most = weigh(x.f_amax(PLANE.as_slice(), true)?)?;
        let x = x.f_mul(&mean.f_add(&most)?.f_sigmoid()?)?;
        let mean = x.f_mean_dim([1_i64].as_slice(), true, Kind::Float)?;
        let most = x.f_amax([1_i64].as_slice(), true)?;
        let places = self.place.forward(&Tensor::f_cat(&[mean, most], 1)?, false)?;
        x.f_mul(&places.f_sigmoid()?)
    }
}

/// Two convolutions and attention, added to the input.
struct Block {
    one: Convolution,
    two: Convolution,
    attention: Attention,
    shortcut: Convolution,
}

impl Block {
    fn new(layers: &Layers<'_>, [from, to]: [i64; 2], stride: i64) -> anyhow::Result<Self> {
        Ok(Self {
            one: layers.normed("one", [from, to], 3, stride)?,
            two: layers.normed("two", [to, to], 3, 1)?,
            attention: Attention::new(&layers.below("attention"), to)?,
            shortcut: layers.normed("shortcut", [from, to], 1, stride)?,
        })
    }

    fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let inner = self.two.forward(&self.one.relu(x, learning)?, learning)?;
        self.attention.forward(&inner)?.f_add(&self.shortcut.forward(x, learning)?)?.f_relu()
    }
}

/// On the way up: what comes from below is narrowed and enlarged, and joined with what was seen at this size.
struct Rise {
    narrow: Convolution,
    join: Convolution,
    attention: Attention,
}

/// The whole net.
pub(super) struct Net {
    down: Vec<Block>,
    up: Vec<Rise>,
    last: Convolution,
}

impl Net {
    pub(super) fn new(layers: &Layers<'_>) -> anyhow::Result<Self> {
        let down = (0..WIDTHS.len()).map(|index| {
            let (from, stride) = if index == 0 { (FOLDED, 1) } else { (WIDTHS[index - 1], 2) };
            Block::new(&layers.below("down").below(index), [from, WIDTHS[index]], stride)
        });
        let up = (0..WIDTHS.len() - 1).rev().map(|index| {
            let (place, width) = (layers.below("up").below(index), WIDTHS[index]);
            anyhow::Ok(Rise {
                narrow: place.normed("narrow", [WIDTHS[index + 1], width], 1, 1)?,
                join: place.normed("join", [2 * width, width], 3, 1)?,
                attention: Attention::new(&place.below("attention"), width)?,
            })
        });
        Ok(Self {
            down: down.collect::<anyhow::Result<_>>()?,
            up: up.collect::<anyhow::Result<_>>()?,
            last: layers.plain("last", [WIDTHS[0], UNFOLDED], 3)?,
        })
    }
}

impl Segmenter for Net {
    fn logits(&self, folded: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let mut seen: Vec<Tensor> = Vec::new();
        for block in &self.down {
            let next = block.forward(seen.last().unwrap_or(folded), learning)?;
            seen.push(next);
        }
        let mut x = seen[seen.len() - 1].shallow_clone();
        for (rise, beside) in self.up.iter().zip(seen.iter().rev().skip(1)) {
            let below = doubled(&rise.narrow.relu(&x, learning)?)?;
            let joined =
                rise.join.forward(&Tensor::f_cat(&[below.shallow_clone(), beside.shallow_clone()], 1)?, learning)?;
            x = rise.attention.forward(&joined)?.f_add(&below)?.f_relu()?;
        }
        self.last.forward(&x, learning)
    }
}
