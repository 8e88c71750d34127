//! A net in the manner of HRNet: branches at a quarter, an eighth, a sixteenth and a thirty-second of the size run side
//! by side and tell each other what they see after every stage, so that the finest is never lost. Owns the
//! architecture.

use tch::{TchError, Tensor};

use super::{FOLDED, Segmenter, UNFOLDED};
use crate::vision::layers::{Convolution, Layers};

/// Channels of the branches, finest first.
const WIDTHS: [i64; 4] = [32, 48, 64, 80];
/// Channels at half the size, which go around the branches.
const FINE: i64 = 16;
/// Branches in each stage.
const STAGES: [usize; 3] = [2, 3, 4];

/// Two convolutions, added to the input.
struct Block(Convolution, Convolution);

impl Block {
    fn new(layers: &Layers<'_>, width: i64) -> anyhow::Result<Self> {
        let convolution = |name| layers.normed(name, [width, width], 3, 1);
        Ok(Self(convolution("one")?, convolution("two")?))
    }

    fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        self.1.forward(&self.0.relu(x, learning)?, learning)?.f_add(x)?.f_relu()
    }
}

/// A block for each branch, then the exchange: each branch gets the sum of all.
struct Stage {
    blocks: Vec<Block>,
    /// `exchange[to][from]`: narrowed and enlarged from coarser ones, halved step by step from finer ones.
    exchange: Vec<Vec<Vec<Convolution>>>,
}

impl Stage {
    fn new(layers: &Layers<'_>, branches: usize) -> anyhow::Result<Self> {
        let blocks = (0..branches).map(|index| Block::new(&layers.below("branch").below(index), WIDTHS[index]));
        let path = |to: usize, from: usize| {
            let place = layers.below("exchange").below(format!("{from}-{to}"));
            let (wide, narrow) = (WIDTHS[from], WIDTHS[to]);
            if from > to {
                return Ok(vec![place.normed("narrow", [wide, narrow], 1, 1)?]);
            }
            // Only the last step changes the width.
            (from..to)
                .map(|step| {
                    let width = if step + 1 == to { narrow } else { wide };
                    place.normed(&format!("halve{step}"), [wide, width], 3, 2)
                })
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let exchange = (0..branches)
            .map(|to| (0..branches).map(|from| path(to, from)).collect::<anyhow::Result<Vec<_>>>())
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { blocks: blocks.collect::<anyhow::Result<_>>()?, exchange })
    }

    fn forward(&self, branches: &[Tensor], learning: bool) -> Result<Vec<Tensor>, TchError> {
        let run = |(block, x): (&Block, &Tensor)| block.forward(x, learning);
        let inner = self.blocks.iter().zip(branches).map(run).collect::<Result<Vec<_>, _>>()?;
        let mut outer = Vec::new();
        for (to, paths) in self.exchange.iter().enumerate() {
            let mut sum = inner[to].shallow_clone();
            for (from, path) in paths.iter().enumerate().filter(|(from, _)| *from != to) {
                sum = sum.f_add(&carry(&inner[from], path, from.saturating_sub(to), learning)?)?;
            }
            outer.push(sum.f_relu()?);
        }
        Ok(outer)
    }
}

/// What one branch tells another.
fn carry(x: &Tensor, path: &[Convolution], coarser: usize, learning: bool) -> Result<Tensor, TchError> {
    let mut x = x.shallow_clone();
    for (index, convolution) in path.iter().enumerate() {
        x = if index + 1 == path.len() {
            convolution.forward(&x, learning)?
        } else {
            convolution.relu(&x, learning)?
        };
    }
    enlarged(&x, 1 << coarser)
}

/// So many times as high and wide, smoothly.
fn enlarged(x: &Tensor, times: i64) -> Result<Tensor, TchError> {
    if times == 1 {
        return Ok(x.shallow_clone());
    }
    let size = x.size();
    x.f_upsample_bilinear2d([times * size[2], times * size[3]], false, None, None)
}

/// The whole net.
pub(super) struct Net {
    fine: Convolution,
    stem: Convolution,
    /// Each begins a coarser branch.
    begin: Vec<Convolution>,
    stages: Vec<Stage>,
    join: Convolution,
    last: Convolution,
}

impl Net {
    pub(super) fn new(layers: &Layers<'_>) -> anyhow::Result<Self> {
        let begin =
            |index: usize| layers.below("begin").normed(&index.to_string(), [WIDTHS[index - 1], WIDTHS[index]], 3, 2);
        let stages = STAGES.iter().map(|branches| Stage::new(&layers.below("stage").below(branches), *branches));
        let all: i64 = WIDTHS.iter().sum();
        Ok(Self {
            fine: layers.normed("fine", [FOLDED, FINE], 3, 1)?,
            stem: layers.normed("stem", [FINE, WIDTHS[0]], 3, 2)?,
            begin: (1..WIDTHS.len()).map(begin).collect::<anyhow::Result<_>>()?,
            stages: stages.collect::<anyhow::Result<_>>()?,
            join: layers.normed("join", [all, WIDTHS[0]], 1, 1)?,
            last: layers.plain("last", [FINE + WIDTHS[0], UNFOLDED], 3)?,
        })
    }
}

impl Segmenter for Net {
    fn logits(&self, folded: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let fine = self.fine.relu(folded, learning)?;
        let mut branches = vec![self.stem.relu(&fine, learning)?];
        for (stage, begin) in self.stages.iter().zip(&self.begin) {
            let coarsest = &branches[branches.len() - 1];
            branches.push(begin.relu(coarsest, learning)?);
            branches = stage.forward(&branches, learning)?;
        }
        let parts = branches.iter().enumerate().map(|(index, x)| enlarged(x, 1 << index));
        let all = Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 1)?;
        let joined = enlarged(&self.join.relu(&all, learning)?, 2)?;
        self.last.forward(&Tensor::f_cat(&[joined, fine], 1)?, learning)
    }
}
