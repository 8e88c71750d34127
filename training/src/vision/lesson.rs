//! What a model to be trained brings along: how its net is made, what its loss is, how well it does. Owns that seam
//! between `trainer`, `served` and the models. Refuses to know any of them.

use tch::{TchError, Tensor};

use super::layers::Layers;

/// Seeds from here on are never trained with: figures are measured on them.
const HELD_OUT: u64 = 1 << 48;

/// A net: from a batch of pictures to numbers.
pub(crate) trait Network {
    /// What losses are computed of. `learning` uses the batch's own statistics.
    fn forward(&self, input: &Tensor, learning: bool) -> Result<Tensor, TchError>;

    /// What the served model answers, as its `model.toml` says.
    fn answer(&self, input: &Tensor) -> Result<Tensor, TchError>;
}

/// How a model is trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Steps where no time is given.
    pub(crate) steps: u64,
    /// Pictures in a step.
    pub(crate) batch: u64,
    /// The highest rate of learning.
    pub(crate) rate: f64,
    /// The figure's name and the least that committed weights must come to.
    pub(crate) figure: (&'static str, f64),
    /// Held-out pictures for that figure.
    pub(crate) held_out: u64,
}

/// A model to be trained.
pub(crate) trait Lesson: Sync {
    /// The model's name, and its folder's.
    fn name(&self) -> &'static str;

    /// What `model.toml` says.
    fn manifest(&self) -> &'static str;

    /// How it is trained.
    fn recipe(&self) -> Recipe;

    /// A net on those layers.
    fn network(&self, layers: &Layers<'_>) -> anyhow::Result<Box<dyn Network>>;

    /// The loss on the pictures of these seeds: one number. `progress` (0 to 1) is for lessons that begin easily.
    fn loss(&self, network: &dyn Network, seeds: &[u64], progress: f64) -> anyhow::Result<Tensor>;

    /// The figure on the pictures of these seeds, and further ones to be told with it.
    fn measure(&self, network: &dyn Network, seeds: &[u64]) -> anyhow::Result<Measured>;

    /// An input of so many rows that the served model takes.
    fn example(&self, rows: i64) -> Tensor;
}

/// How well a model does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// The recipe's figure, from 0 to 1.
    pub(crate) figure: f64,
    /// Others, by name.
    pub(crate) others: Vec<(String, f64)>,
}

/// The seeds of a step's pictures. Every training seed has its own.
pub(super) fn seeds_of_step(seed: u64, step: u64, batch: u64) -> Vec<u64> {
    let first = seed.wrapping_mul(0x9E37_79B9).wrapping_add(step).wrapping_mul(batch);
    (0..batch).map(|index| first.wrapping_add(index) % HELD_OUT).collect()
}

/// Seeds of held-out pictures.
pub(crate) fn held_out(count: u64) -> Vec<u64> {
    (HELD_OUT..HELD_OUT + count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_training_picture_is_held_out_or_comes_twice() {
        let mut seen = std::collections::HashSet::new();
        for step in 0..100 {
            for seed in seeds_of_step(3, step, 16) {
                assert!(seed < HELD_OUT && seen.insert(seed));
            }
        }
        assert!(held_out(10).iter().all(|seed| *seed >= HELD_OUT));
    }
}
