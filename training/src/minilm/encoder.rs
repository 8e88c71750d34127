//! The encoder's mathematics: token ids in, one unit vector for each row out, or all hidden states for whoever puts another
//! head on it. Knows nothing of files but the weights.
//! Written so that no shape passes through a Rust integer: see `export::Forward`.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, ensure};
use tch::{Kind, TchError, Tensor};

use super::config::Config;

/// Added to the attention scores of padding. Finite, so that a row of nothing but padding gives numbers, not NaN.
const MASKED: f64 = -3.0e38;
/// Keeps the mean of a row of nothing but padding from dividing by zero.
const FEWEST_TOKENS: f64 = 1e-9;
/// Keeps a zero vector from dividing by zero when it is normalised.
const SHORTEST: f64 = 1e-12;

/// Weight and bias of a linear layer or of a layer norm.
struct Pair {
    weight: Tensor,
    bias: Tensor,
}

impl Pair {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }

    fn norm(&self, x: &Tensor, epsilon: f64) -> Result<Tensor, TchError> {
        let width = self.weight.size();
        x.f_layer_norm(width.as_slice(), Some(&self.weight), Some(&self.bias), epsilon, false)
    }
}

struct Layer {
    query: Pair,
    key: Pair,
    value: Pair,
    attention: Pair,
    attention_norm: Pair,
    widen: Pair,
    narrow: Pair,
    norm: Pair,
}

/// The weights, in the order of their use.
pub(crate) struct Encoder {
    words: Tensor,
    positions: Tensor,
    types: Tensor,
    norm: Pair,
    layers: Vec<Layer>,
    heads: [i64; 2],
    epsilon: f64,
}

/// Hands out each tensor of the weight file once, with the shape it must have.
struct Weights {
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    fn take(&mut self, name: &str, shape: &[i64]) -> anyhow::Result<Tensor> {
        let tensor = self.tensors.remove(name).with_context(|| format!("no tensor {name:?}"))?;
        ensure!(
            tensor.size() == shape && tensor.kind() == Kind::Float,
            "{name:?} is {:?} {:?}, expected Float {shape:?}",
            tensor.kind(),
            tensor.size()
        );
        Ok(tensor)
    }

    fn pair(&mut self, name: &str, shape: &[i64]) -> anyhow::Result<Pair> {
        Ok(Pair {
            weight: self.take(&format!("{name}.weight"), shape)?,
            bias: self.take(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    fn layer(&mut self, index: i64, config: &Config) -> anyhow::Result<Layer> {
        let at = format!("encoder.layer.{index}");
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        Ok(Layer {
            query: self.pair(&format!("{at}.attention.self.query"), &[width, width])?,
            key: self.pair(&format!("{at}.attention.self.key"), &[width, width])?,
            value: self.pair(&format!("{at}.attention.self.value"), &[width, width])?,
            attention: self.pair(&format!("{at}.attention.output.dense"), &[width, width])?,
            attention_norm: self.pair(&format!("{at}.attention.output.LayerNorm"), &[width])?,
            widen: self.pair(&format!("{at}.intermediate.dense"), &[wide, width])?,
            narrow: self.pair(&format!("{at}.output.dense"), &[width, wide])?,
            norm: self.pair(&format!("{at}.output.LayerNorm"), &[width])?,
        })
    }
}

impl Encoder {
    /// Reads the weights and checks every shape, so that computing cannot fail later for want of one.
    pub(crate) fn load(file: &Path, config: &Config) -> anyhow::Result<Self> {
        let tensors = Tensor::read_safetensors(file).with_context(|| format!("reading {}", file.display()))?;
        let mut weights = Weights { tensors: tensors.into_iter().collect() };
        Self::build(&mut weights, config).with_context(|| format!("{}", file.display()))
    }

    fn build(weights: &mut Weights, config: &Config) -> anyhow::Result<Self> {
        let width = config.hidden_size;
        Ok(Self {
            words: weights.take("embeddings.word_embeddings.weight", &[config.vocab_size, width])?,
            positions: weights
                .take("embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?,
            types: weights.take("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, width])?,
            norm: weights.pair("embeddings.LayerNorm", &[width])?,
            layers: (0..config.num_hidden_layers)
                .map(|index| weights.layer(index, config))
                .collect::<anyhow::Result<_>>()?,
            heads: [config.num_attention_heads, width / config.num_attention_heads],
            epsilon: config.layer_norm_eps,
        })
    }

    /// `[ids, mask, type ids]`, each `[rows, seq]`, to `[embedding]`, `[rows, width]`.
    pub(super) fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let (mut hidden, mask) = self.hidden(inputs)?;
        let last = hidden.pop().expect("the embedding at least");
        Ok(vec![pool(&last, &mask)?])
    }

    /// Of the same inputs: the embedding and what each layer made of it, `[rows, seq, width]` each; and the mask as numbers.
    pub(crate) fn hidden(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Tensor), TchError> {
        let [ids, mask, types] = inputs else {
            return Err(TchError::Convert(format!("3 inputs expected, {} given", inputs.len())));
        };
        let mask = mask.f_to_dtype(Kind::Float, false, false)?;
        // [rows, 1, 1, seq]: 0 where there is a token, very negative where there is padding.
        let bias = mask.f_rsub_scalar(1.0)?.f_mul_scalar(MASKED)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
        let mut hidden = vec![self.embed(ids, types)?];
        for layer in &self.layers {
            let next = self.layer(layer, &hidden[hidden.len() - 1], &bias)?;
            hidden.push(next);
        }
        Ok((hidden, mask))
    }

    fn embed(&self, ids: &Tensor, types: &Tensor) -> Result<Tensor, TchError> {
        // Counting ones gives 0, 1, 2, … for whatever length comes at run time.
        let positions = ids.f_ones_like()?.f_cumsum(1, Kind::Int64)?.f_sub_scalar(1)?;
        let sum = Tensor::f_embedding(&self.words, ids, -1, false, false)?
            .f_add(&Tensor::f_embedding(&self.types, types, -1, false, false)?)?
            .f_add(&Tensor::f_embedding(&self.positions, &positions, -1, false, false)?)?;
        self.norm.norm(&sum, self.epsilon)
    }

    fn layer(&self, layer: &Layer, x: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
        let heads = |pair: &Pair| pair.linear(x)?.f_unflatten(2, self.heads)?.f_transpose(1, 2);
        let (query, key, value) = (heads(&layer.query)?, heads(&layer.key)?, heads(&layer.value)?);
        let mixed = Tensor::f_scaled_dot_product_attention(&query, &key, &value, Some(bias), 0.0, false, None, false)?
            .f_transpose(1, 2)?
            .f_flatten(2, 3)?;
        let attended = layer.attention_norm.norm(&layer.attention.linear(&mixed)?.f_add(x)?, self.epsilon)?;
        let wide = layer.widen.linear(&attended)?.f_gelu("none")?;
        layer.norm.norm(&layer.narrow.linear(&wide)?.f_add(&attended)?, self.epsilon)
    }
}

/// The mean over the tokens that are not padding, scaled to length one.
fn pool(hidden: &Tensor, mask: &Tensor) -> Result<Tensor, TchError> {
    let axis = [1_i64].as_slice();
    let weights = mask.f_unsqueeze(2)?;
    let sum = hidden.f_mul(&weights)?.f_sum_dim_intlist(axis, false, Kind::Float)?;
    let count = weights.f_sum_dim_intlist(axis, false, Kind::Float)?.f_clamp_min(FEWEST_TOKENS)?;
    let mean = sum.f_div(&count)?;
    let length = mean.f_norm_scalaropt_dim(2, axis, true)?.f_clamp_min(SHORTEST)?;
    mean.f_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_ignores_padding_and_gives_unit_length() {
        let hidden = Tensor::from_slice(&[3.0_f32, 4.0, 9.0, 9.0, 0.0, 2.0, 0.0, 4.0]).view([2, 2, 2]);
        let mask = Tensor::from_slice(&[1.0_f32, 0.0, 1.0, 1.0]).view([2, 2]);
        let pooled = pool(&hidden, &mask).unwrap();
        let values = Vec::<f32>::try_from(pooled.flatten(0, -1)).unwrap();
        for (actual, expected) in values.iter().zip([0.6, 0.8, 0.0, 1.0]) {
            assert!((actual - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn a_row_of_padding_gives_numbers() {
        let pooled = pool(&Tensor::ones([1, 2, 2], tch::kind::FLOAT_CPU), &Tensor::zeros([1, 2], tch::kind::FLOAT_CPU));
        assert_eq!(Vec::<f32>::try_from(pooled.unwrap().flatten(0, -1)).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn a_missing_or_misshapen_weight_is_named() {
        let tensors = HashMap::from([("a.weight".to_owned(), Tensor::zeros([2, 3], tch::kind::FLOAT_CPU))]);
        let mut weights = Weights { tensors };
        let error = weights.take("b.weight", &[1]).unwrap_err().to_string();
        assert!(error.contains("b.weight"), "{error}");
        let error = weights.take("a.weight", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
    }
}
