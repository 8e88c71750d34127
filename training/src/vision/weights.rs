//! A net's parameters by name, and their file. Owns the form on disk: safetensors in 16 bits, which is half the size
//! and no figure's loss (figures are measured with what was read back). Refuses weights that are missing, of another
//! shape, or no numbers.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use tch::{Kind, Tensor, nn};

/// Parameters in 32 bits, by name.
#[derive(Debug)]
pub(crate) struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Copies of a store's variables, running statistics included.
    pub(crate) fn of(store: &nn::VarStore) -> Self {
        Self(store.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect())
    }

    /// Reads a file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let named = Tensor::read_safetensors(file).with_context(|| format!("reading {}", file.display()))?;
        let widen = |(name, tensor): (String, Tensor)| {
            let tensor = tensor.f_to_kind(Kind::Float)?;
            let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1;
            ensure!(finite, "{}: {name} is not all numbers", file.display());
            Ok((name, tensor))
        };
        Ok(Self(named.into_iter().map(widen).collect::<anyhow::Result<_>>()?))
    }

    /// Writes a file, in 16 bits, under another name first.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let named: Vec<_> = self.0.iter().map(|(name, tensor)| (name, tensor.to_kind(Kind::Half))).collect();
        let partial = file.with_extension("partial");
        let saved = Tensor::write_safetensors(&named, &partial).map_err(anyhow::Error::from);
        saved.and_then(|()| Ok(std::fs::rename(&partial, file)?)).with_context(|| format!("writing {}", file.display()))
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Tensor::numel).sum()
    }

    /// A parameter of this shape.
    pub(super) fn take(&self, name: &str, shape: &[i64]) -> anyhow::Result<Tensor> {
        let tensor = self.0.get(name).with_context(|| format!("the weights have no `{name}`"))?;
        ensure!(tensor.size() == shape, "the weights' `{name}` is {:?} instead of {shape:?}", tensor.size());
        Ok(tensor.shallow_clone())
    }

    /// Overwrites a store's variables.
    pub(super) fn put_into(&self, store: &nn::VarStore) -> anyhow::Result<()> {
        tch::no_grad(|| {
            for (name, mut variable) in store.variables() {
                variable.f_copy_(&self.take(&name, &variable.size())?)?;
            }
            Ok(())
        })
    }

    /// Moves every parameter towards the store's by a part of the distance: a mean over the latest steps, which is
    /// steadier than the last one.
    pub(super) fn follow(&mut self, store: &nn::VarStore, part: f64) -> anyhow::Result<()> {
        let latest = store.variables();
        tch::no_grad(|| {
            for (name, kept) in &mut self.0 {
                let variable = latest.get(name).with_context(|| format!("`{name}` is gone"))?;
                let _ = kept.f_lerp_(&variable.detach(), part)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn store() -> nn::VarStore {
        let store = nn::VarStore::new(Device::Cpu);
        let _ = store.root().sub("a").add("kernel", Tensor::from_slice(&[1.0_f32, 2.0, 0.1]), true);
        store
    }

    #[test]
    fn what_is_written_is_read() {
        let file = std::env::temp_dir().join(format!("tenon-training-weights-{}.safetensors", std::process::id()));
        let weights = Weights::of(&store());
        weights.write(&file).unwrap();
        let read = Weights::read(&file).unwrap();
        assert_eq!(read.count(), 3);
        let kernel = read.take("a.kernel", &[3]).unwrap();
        assert_eq!((kernel.kind(), kernel.double_value(&[1])), (Kind::Float, 2.0));
        assert!((kernel.double_value(&[2]) - 0.1).abs() < 1e-3);
        assert!(read.take("a.kernel", &[4]).is_err());
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let file = std::env::temp_dir().join(format!("tenon-training-odd-{}.safetensors", std::process::id()));
        Tensor::write_safetensors(&[("a", Tensor::from_slice(&[1.0_f32, f32::INFINITY]))], &file).unwrap();
        assert!(Weights::read(&file).unwrap_err().to_string().contains("a is not all numbers"));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn the_mean_follows() {
        let store = store();
        let mut weights = Weights::of(&store);
        let _ = tch::no_grad(|| store.variables()["a.kernel"].shallow_clone().fill_(2.0));
        weights.follow(&store, 0.25).unwrap();
        assert_eq!(weights.take("a.kernel", &[3]).unwrap().double_value(&[0]), 1.25);
        weights.put_into(&store).unwrap();
        assert_eq!(store.variables()["a.kernel"].double_value(&[0]), 1.25);
    }
}
