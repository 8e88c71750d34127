//! A U-Net: down four times, up four times, and at each size what was seen on the way down beside what comes up. Owns
//! the architecture.

use tch::{TchError, Tensor};

use super::{FOLDED, Segmenter, UNFOLDED};
use crate::vision::layers::{Convolution, Layers, doubled};

/// Channels at a half, a quarter, an eighth, a sixteenth and a thirty-second of the size.
const WIDTHS: [i64; 5] = [16, 32, 48, 64, 96];

/// Two convolutions.
struct Pair(Convolution, Convolution);

impl Pair {
    fn new(layers: &Layers<'_>, from: i64, to: i64) -> anyhow::Result<Self> {
        Ok(Self(layers.normed("one", [from, to], 3, 1)?, layers.normed("two", [to, to], 3, 1)?))
    }

    fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        self.1.relu(&self.0.relu(x, learning)?, learning)
    }
}

/// On the way up: what comes from below is narrowed and enlarged, and joined with what was seen at this size.
struct Rise {
    narrow: Convolution,
    join: Convolution,
}

/// The whole net.
pub(super) struct Net {
    down: Vec<Pair>,
    up: Vec<Rise>,
    last: Convolution,
}

impl Net {
    pub(super) fn new(layers: &Layers<'_>) -> anyhow::Result<Self> {
        let down = (0..WIDTHS.len()).map(|index| {
            let from = if index == 0 { FOLDED } else { WIDTHS[index - 1] };
            Pair::new(&layers.below("down").below(index), from, WIDTHS[index])
        });
        let up = (0..WIDTHS.len() - 1).rev().map(|index| {
            let (place, width) = (layers.below("up").below(index), WIDTHS[index]);
            anyhow::Ok(Rise {
                narrow: place.normed("narrow", [WIDTHS[index + 1], width], 1, 1)?,
                join: place.normed("join", [2 * width, width], 3, 1)?,
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
        let mut seen = vec![self.down[0].forward(folded, learning)?];
        for pair in &self.down[1..] {
            let half = seen[seen.len() - 1].f_max_pool2d(2, 2, 0, 1, false)?;
            seen.push(pair.forward(&half, learning)?);
        }
        let mut x = seen[seen.len() - 1].shallow_clone();
        for (rise, beside) in self.up.iter().zip(seen.iter().rev().skip(1)) {
            let below = doubled(&rise.narrow.relu(&x, learning)?)?;
            x = rise.join.relu(&Tensor::f_cat(&[below, beside.shallow_clone()], 1)?, learning)?;
        }
        self.last.forward(&x, learning)
    }
}
