//! The head: from hidden states of the frozen encoder to a score for each label. Owns its weights and their file. Why a
//! look at the neighbours beside what the encoder saw of them: where a name ends is decided by the next token, and three
//! tokens of a small convolution learn that from far fewer sentences.

use std::path::Path as File;

use anyhow::{Context, ensure};
use tch::{Kind, TchError, Tensor, nn::Path};

use super::tokens::LABELS;

/// The hidden states that are looked at: 0 is the embedding, 6 the last. The first knows the word, the later ones what it
/// does in the sentence.
pub(super) const LAYERS: [usize; 3] = [2, 4, 6];
/// Numbers of one hidden state.
const WIDTH: i64 = 384;
/// Numbers of a token's features.
pub(super) const FEATURES: i64 = WIDTH * LAYERS.len() as i64;
const INNER: i64 = 256;
const NEIGHBOURLY: i64 = 128;
/// Tokens that the convolution sees.
const SIGHT: i64 = 3;

/// Each weight's name in the file and its shape.
const SHAPES: [(&str, &[i64]); 6] = [
    ("inner.weight", &[INNER, FEATURES]),
    ("inner.bias", &[INNER]),
    ("neighbours.weight", &[NEIGHBOURLY, INNER, SIGHT]),
    ("neighbours.bias", &[NEIGHBOURLY]),
    ("labels.weight", &[LABELS as i64, NEIGHBOURLY]),
    ("labels.bias", &[LABELS as i64]),
];

/// The weights, in the order of `SHAPES`.
pub(super) struct Head {
    weights: [Tensor; 6],
}

impl Head {
    /// Random weights, the same for the same seed of libtorch's.
    pub(super) fn fresh() -> Self {
        let weights = SHAPES.map(|(_, shape)| {
            let inputs: i64 = shape[1..].iter().product();
            let spread = if shape.len() == 1 { 0.0 } else { (2.0 / inputs as f64).sqrt() };
            Tensor::randn(shape, tch::kind::FLOAT_CPU) * spread
        });
        Self { weights }
    }

    pub(super) fn load(file: &File) -> anyhow::Result<Self> {
        let read = Tensor::read_safetensors(file).with_context(|| format!("reading {}", file.display()))?;
        let take = |(name, shape): (&str, &[i64])| {
            let found = read.iter().find(|(found, _)| found == name);
            let (_, tensor) = found.with_context(|| format!("{}: no tensor {name:?}", file.display()))?;
            let fits = tensor.size() == shape && tensor.kind() == Kind::Float;
            ensure!(fits, "{}: {name:?} is {:?} {:?}", file.display(), tensor.kind(), tensor.size());
            Ok(tensor.shallow_clone())
        };
        let weights: Vec<_> = SHAPES.into_iter().map(take).collect::<anyhow::Result<_>>()?;
        let weights = weights.try_into().expect("one for each shape");
        Ok(Self { weights })
    }

    pub(super) fn save(&self, file: &File) -> anyhow::Result<()> {
        let named: Vec<_> = SHAPES.iter().map(|(name, _)| *name).zip(self.weights.iter().map(Tensor::detach)).collect();
        Tensor::write_safetensors(&named, file).with_context(|| format!("writing {}", file.display()))
    }

    /// The same weights as variables that an optimizer knows.
    pub(super) fn in_store(&self, root: &Path<'_>) -> Self {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut pairs = names.iter().zip(&self.weights);
        let weights = std::array::from_fn(|_| {
            let (name, weight) = pairs.next().expect("a name for each weight");
            root.var_copy(name, weight)
        });
        Self { weights }
    }

    #[cfg(test)]
    fn weights(&self) -> &[Tensor] {
        &self.weights
    }

    /// `[rows, seq, FEATURES]` and a mask `[rows, seq]` of 0 and 1 to `[rows, seq, LABELS]`. What is masked is as if it were
    /// not there, so that a row's scores do not depend on how far it is padded. `dropout` is for training.
    pub(super) fn forward(&self, features: &Tensor, mask: &Tensor, dropout: f64) -> Result<Tensor, TchError> {
        let [inner, inner_bias, neighbours, neighbours_bias, labels, labels_bias] = &self.weights;
        let training = dropout > 0.0;
        let drop = |x: Tensor| if training { x.f_dropout(dropout, true) } else { Ok(x) };
        let hidden = drop(features.shallow_clone())?.f_linear(inner, Some(inner_bias))?.f_gelu("none")?;
        let hidden = drop(hidden)?.f_mul(&mask.f_unsqueeze(2)?)?.f_transpose(1, 2)?;
        let seen = hidden.f_conv1d(neighbours, Some(neighbours_bias), 1, SIGHT / 2, 1, 1)?;
        drop(seen.f_transpose(1, 2)?.f_gelu("none")?)?.f_linear(labels, Some(labels_bias))
    }
}

/// What the head looks at, of all hidden states of the encoder.
pub(super) fn features(hidden: &[Tensor]) -> Result<Tensor, TchError> {
    let chosen: Vec<_> = LAYERS.iter().map(|layer| &hidden[*layer]).collect();
    Tensor::f_cat(&chosen, -1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_changes_nothing() {
        tch::manual_seed(1);
        let head = Head::fresh();
        let long = Tensor::randn([1, 9, FEATURES], tch::kind::FLOAT_CPU);
        let short = long.narrow(1, 0, 5);
        let mask = Tensor::from_slice(&[1.0_f32, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).view([1, 9]);
        let padded = head.forward(&long, &mask, 0.0).unwrap().narrow(1, 0, 5);
        let alone = head.forward(&short, &Tensor::ones([1, 5], tch::kind::FLOAT_CPU), 0.0).unwrap();
        let difference = (padded - alone).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn weights_come_back_and_others_are_refused() {
        tch::manual_seed(2);
        let file = std::env::temp_dir().join(format!("tenon-training-head-{}.safetensors", std::process::id()));
        let head = Head::fresh();
        head.save(&file).unwrap();
        assert!(std::fs::metadata(&file).unwrap().len() <= 2_000_000);
        let again = Head::load(&file).unwrap();
        assert!(head.weights().iter().zip(again.weights()).all(|(a, b)| a.detach() == *b));
        Tensor::write_safetensors(&[("inner.bias", Tensor::zeros([3], tch::kind::FLOAT_CPU))], &file).unwrap();
        assert!(Head::load(&file).is_err());
        std::fs::remove_file(&file).unwrap();
    }
}
