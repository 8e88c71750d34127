//! What nets are made of: convolutions with batch norm. Owns that one construction makes a net to be trained (fresh
//! variables, norms that learn) or to be served (weights that were kept, norms folded into the convolutions, nothing
//! that asks for gradients, as tracing wants it). Refuses to know architectures.

use tch::{Device, Kind, TchError, Tensor, nn};

use super::weights::Weights;

/// How much a batch adds to the running statistics.
const MOMENTUM: f64 = 0.03;
const EPSILON: f64 = 1e-3;

/// Where a net's parameters come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Drawn, and trained from there.
    Fresh(&'a nn::VarStore),
    /// As a training left them.
    Kept(&'a Weights),
}

/// A place in a net: names what is made there.
#[derive(Clone)]
pub(crate) struct Layers<'a> {
    source: Source<'a>,
    prefix: String,
}

impl<'a> Layers<'a> {
    /// The root of a net.
    pub(crate) fn new(source: Source<'a>) -> Self {
        Self { source, prefix: String::new() }
    }

    /// A place below this one.
    pub(crate) fn below(&self, name: impl std::fmt::Display) -> Self {
        Self { source: self.source, prefix: format!("{}{name}.", self.prefix) }
    }

    /// A convolution with batch norm, `from` to `to` channels, padded so that stride 1 keeps the size.
    pub(crate) fn normed(
        &self,
        name: &str,
        [from, to]: [i64; 2],
        window: i64,
        stride: i64,
    ) -> anyhow::Result<Convolution> {
        let place = self.below(name);
        let mut kernel = place.kernel([from, to], window)?;
        let at = |name| place.vector(name, to);
        let (scale, shift, mean, variance) =
            (at("norm.scale")?, at("norm.shift")?, at("norm.mean")?, at("norm.variance")?);
        let (bias, norm) = match self.source {
            Source::Fresh(_) => (None, Some(Norm { scale, shift, mean, variance })),
            Source::Kept(_) => {
                let factor = scale.f_div(&variance.f_add_scalar(EPSILON)?.f_sqrt()?)?;
                kernel = kernel.f_mul(&factor.f_view([to, 1, 1, 1])?)?;
                (Some(shift.f_sub(&mean.f_mul(&factor)?)?), None)
            }
        };
        Ok(Convolution { kernel, bias, norm, stride, padding: window / 2 })
    }

    /// A convolution with a bias and no norm: the last of a head, or where a norm would do harm.
    pub(crate) fn plain(&self, name: &str, [from, to]: [i64; 2], window: i64) -> anyhow::Result<Convolution> {
        let place = self.below(name);
        let bias = Some(place.vector("bias", to)?);
        Ok(Convolution { kernel: place.kernel([from, to], window)?, bias, norm: None, stride: 1, padding: window / 2 })
    }

    fn kernel(&self, [from, to]: [i64; 2], window: i64) -> anyhow::Result<Tensor> {
        let shape = [to, from, window, window];
        let name = format!("{}kernel", self.prefix);
        match self.source {
            Source::Kept(weights) => weights.take(&name, &shape),
            Source::Fresh(store) => {
                let deviation = (2.0 / (from * window * window) as f64).sqrt();
                // A store's own names may not have dots in them; its path joins them again.
                Ok(root(store, &name, |path, leaf| path.f_randn(leaf, &shape, 0.0, deviation))?)
            }
        }
    }

    /// `norm.scale` and `norm.variance` begin at 1, all others at 0; running statistics are not trained.
    fn vector(&self, leaf: &str, width: i64) -> anyhow::Result<Tensor> {
        let name = format!("{}{leaf}", self.prefix);
        match self.source {
            Source::Kept(weights) => weights.take(&name, &[width]),
            Source::Fresh(store) => {
                let trained = !matches!(leaf, "norm.mean" | "norm.variance");
                let begin = if matches!(leaf, "norm.scale" | "norm.variance") { 1.0 } else { 0.0 };
                let vector = Tensor::f_full([width], begin, (Kind::Float, Device::Cpu))?;
                Ok(root(store, &name, |path, leaf| Ok(path.add(leaf, vector, trained)))?)
            }
        }
    }
}

/// Calls `make` with the path that a dotted name has in a store, and the name's last part.
fn root(
    store: &nn::VarStore,
    name: &str,
    make: impl FnOnce(&nn::Path<'_>, &str) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    let (places, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let path = places.split('.').filter(|place| !place.is_empty()).fold(store.root(), |path, place| path.sub(place));
    make(&path, leaf)
}

/// A convolution, and the norm after it while it learns.
#[derive(Debug)]
pub(crate) struct Convolution {
    kernel: Tensor,
    bias: Option<Tensor>,
    norm: Option<Norm>,
    stride: i64,
    padding: i64,
}

#[derive(Debug)]
struct Norm {
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Convolution {
    /// What comes out, without an activation. `learning`: the norm uses the batch's own statistics and notes them.
    pub(crate) fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let y = x.f_conv2d(&self.kernel, self.bias.as_ref(), self.stride, self.padding, 1, 1)?;
        match &self.norm {
            None => Ok(y),
            Some(norm) => y.f_batch_norm(
                Some(&norm.scale),
                Some(&norm.shift),
                Some(&norm.mean),
                Some(&norm.variance),
                learning,
                MOMENTUM,
                EPSILON,
                false,
            ),
        }
    }

    /// The same, cut at 0.
    pub(crate) fn relu(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        self.forward(x, learning)?.f_relu()
    }

    /// Sets what comes out of a plain convolution before it has learnt anything.
    pub(crate) fn begin_at(&self, value: f64) -> Result<(), TchError> {
        if let Some(bias) = &self.bias
            && bias.requires_grad()
        {
            let _ = tch::no_grad(|| bias.shallow_clone().f_fill_(value))?;
        }
        Ok(())
    }
}

/// Each pixel four times. The size is a constant of the trace, so pictures of a served net have one size.
pub(crate) fn doubled(x: &Tensor) -> Result<Tensor, TchError> {
    let size = x.size();
    x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_convolution_equals_the_one_with_its_norm() {
        let store = nn::VarStore::new(Device::Cpu);
        tch::manual_seed(1);
        let fresh = Layers::new(Source::Fresh(&store)).below("a").normed("b", [3, 5], 3, 2).unwrap();
        let x = Tensor::randn([4, 3, 8, 8], tch::kind::FLOAT_CPU);
        for _ in 0..20 {
            let _ = fresh.forward(&x.f_mul_scalar(3.0).unwrap(), true).unwrap();
        }
        let weights = Weights::of(&store);
        let kept = Layers::new(Source::Kept(&weights)).below("a").normed("b", [3, 5], 3, 2).unwrap();
        assert!(kept.norm.is_none() && !kept.kernel.requires_grad());
        let difference = tch::no_grad(|| fresh.forward(&x, false).unwrap() - kept.forward(&x, false).unwrap());
        assert!(difference.abs().max().double_value(&[]) < 1e-5);
        assert!(kept.forward(&x, false).unwrap().size() == [4, 5, 4, 4]);
    }

    #[test]
    fn a_missing_or_odd_weight_is_named() {
        let weights = Weights::of(&nn::VarStore::new(Device::Cpu));
        let error = Layers::new(Source::Kept(&weights)).below("a").plain("b", [3, 5], 1).unwrap_err();
        assert!(error.to_string().contains("a.b.bias"), "{error}");
    }
}
