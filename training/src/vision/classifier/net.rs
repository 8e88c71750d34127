//! The classifier's net: seven convolutions that halve the picture four times, a mean, five scores. Owns the
//! architecture.

use tch::{Kind, TchError, Tensor};

use crate::{
    scenes::CLASSES,
    vision::{
        layers::{Convolution, Layers},
        lesson::Network,
    },
};

/// Pixels of a side of the input.
pub(super) const SIDE: i64 = 64;
/// Channels of each convolution, and by how much it shrinks the picture.
const SHAPE: [([i64; 2], i64); 7] =
    [([3, 24], 2), ([24, 48], 2), ([48, 48], 1), ([48, 96], 2), ([96, 96], 1), ([96, 128], 2), ([128, 128], 1)];

/// The whole net.
pub(super) struct Classifier {
    convolutions: Vec<Convolution>,
    last: Convolution,
}

impl Classifier {
    pub(super) fn new(layers: &Layers<'_>) -> anyhow::Result<Self> {
        let convolutions = SHAPE
            .iter()
            .enumerate()
            .map(|(index, &(channels, stride))| layers.normed(&index.to_string(), channels, 3, stride))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { convolutions, last: layers.plain("last", [128, CLASSES.len() as i64], 1)? })
    }
}

impl Network for Classifier {
    /// Logits, `[rows, 5]`.
    fn forward(&self, images: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let mut x = images.shallow_clone();
        for convolution in &self.convolutions {
            x = convolution.relu(&x, learning)?;
        }
        let mean = x.f_mean_dim([2_i64, 3].as_slice(), true, Kind::Float)?;
        self.last.forward(&mean, learning)?.f_flatten(1, 3)
    }

    /// `scores`: probabilities.
    fn answer(&self, images: &Tensor) -> Result<Tensor, TchError> {
        self.forward(images, false)?.f_softmax(1, Kind::Float)
    }
}
