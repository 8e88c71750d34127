//! The first rows of a model: made up here, run before anybody's. They prove that the model keeps to its `model.toml`,
//! pay for what only first runs cost, and are what the profile is measured with. Knows neither queue nor lanes.

use std::{path::Path, time::Instant};

use bytes::Bytes;

use super::{
    Config, WarmUp,
    backend::{Backend, BackendError, Device, Format, Instance, Precision},
    batch::{Batch, Form, Pad, Plan, Row},
    manifest::Manifest,
    profile::{Key, Profile, Sample, Taken},
};
use crate::tensor::{Layout, Tensor};

/// Where profiles lie in the data folder.
const PROFILES: &str = "profiles";
/// A value of the middle for floating point: zeros and denormals have paths of their own.
const PLAIN: f64 = 0.5;

/// The first two runs of a model are up to five times slower (libtorch's executor profiles), whatever their shape.
const FIRST_RUNS: usize = 2;
/// Seen on an H100: the first took 15 times as long as later ones, the second up to twice.
const SHAPE_RUNS: usize = 3;

/// What the times of a model depend on.
pub(super) fn key(backend: &dyn Backend, digest: &str, (device, precision): (Device, Precision)) -> Key {
    let backend = match (device, precision.on(device)) {
        // Without a word for it, as profiles were before a processor had other ones.
        (Device::Cpu, Precision::Fp32) => backend.fingerprint(device),
        (_, precision) => format!("{}-{}", backend.fingerprint(device), precision.name()),
    };
    Key { model: digest.into(), device: device.to_string(), backend }
}

/// The stored profile after a first run, or a new one.
pub(super) fn profile(
    key: Key,
    (manifest, device): (&Manifest, Device),
    config: &Config,
    instance: &mut dyn Instance,
) -> Result<Profile, BackendError> {
    let (plan, shapes) = (&manifest.plan, shapes(&manifest.buckets));
    let folder: &Path = &config.data.join(PROFILES);
    if manifest.format == Format::Aoti {
        fits(instance, (manifest, device), &shapes)?;
    }
    let counts = instance.peak_bytes().is_some();
    // One that was measured where nobody counted bytes does not serve where they are.
    if let Some(profile) = Profile::read(folder, &key).filter(|profile| profile.counts_bytes() || !counts) {
        // Lanes run their first row themselves; a full warm-up meets every shape once more.
        let again = if config.warm_up == WarmUp::Full { &shapes[..] } else { &[] };
        for lengths in again {
            run(instance, plan, 1, lengths)?;
        }
        return Ok(profile);
    }
    begin(instance, plan, &shapes[0])?;
    let run = |Sample { rows, lengths, fresh }: Sample<'_>| {
        if fresh {
            instance.release_memory();
            shape(instance, device, plan, (rows, lengths))?;
        }
        run(instance, plan, rows, lengths)
    };
    let profile = Profile::measure(key, &shapes, manifest.max_batch_size, run)?;
    if !profile.is_whole() {
        return Ok(profile);
    }
    if let Err(error) = profile.write(folder) {
        tracing::warn!(folder = %folder.display(), %error, "the profile is not stored: it will be measured again");
    }
    Ok(profile)
}

/// Runs one row as often as it takes until runs are no slower than later ones.
pub(super) fn begin(instance: &mut dyn Instance, plan: &Plan, lengths: &[u64]) -> Result<(), BackendError> {
    (0..FIRST_RUNS).try_for_each(|_| run(instance, plan, 1, lengths).map(drop))
}

/// Runs so many rows of such extents as often as it takes on this device until they are no slower than later: a GPU's first
/// batches of every new shape choose kernels and get memory.
fn shape(
    instance: &mut dyn Instance,
    device: Device,
    plan: &Plan,
    (rows, lengths): (usize, &[u64]),
) -> Result<(), BackendError> {
    let runs = if device == Device::Cpu { 0 } else { SHAPE_RUNS };
    (0..runs).try_for_each(|_| run(instance, plan, rows, lengths).map(drop))
}

/// Runs what is smallest and largest of a package, whose sizes are compiled in: model.toml may be another one by now than when
/// it was measured, and who is too narrow is to be found before rows are.
fn fits(
    instance: &mut dyn Instance,
    (manifest, device): (&Manifest, Device),
    shapes: &[Vec<u64>],
) -> Result<(), BackendError> {
    let plan = &manifest.plan;
    // Where nobody pads, rows come as short as they are.
    let shortest = (device == Device::Cpu).then(|| vec![1; shapes[0].len()]);
    for lengths in shortest.iter().chain(shapes) {
        run(instance, plan, 1, lengths)?;
    }
    let most = manifest.max_batch_elements / shapes[0].iter().product::<u64>().max(1);
    match run(instance, plan, (manifest.max_batch_size as u64).min(most) as usize, &shapes[0]) {
        // There may be no memory for so many, now or ever.
        Err(error) if error.short().is_none() => Err(error),
        _ => Ok(()),
    }
}

/// The shapes to run, as the extents of a row: the buckets of all dimensions side by side, the shorter lists ending in
/// their maximum. A model without ragged dimensions has one shape.
pub(super) fn shapes(buckets: &[Vec<u64>]) -> Vec<Vec<u64>> {
    let count = buckets.iter().map(Vec::len).max().unwrap_or(1);
    let at = |index: usize| buckets.iter().filter_map(|list| list.get(index).or(list.last()).copied()).collect();
    (0..count).map(at).collect()
}

/// Runs `rows` made-up rows of the given extents and takes time and memory.
pub(super) fn run(
    instance: &mut dyn Instance,
    plan: &Plan,
    rows: usize,
    lengths: &[u64],
) -> Result<Taken, BackendError> {
    let inputs: Vec<Tensor> = plan.inputs.iter().map(|form| made_up(form, rows, lengths)).collect::<Result<_, _>>()?;
    let each: Vec<_> = (0..rows).map(|index| Row { inputs: &inputs, index, lengths }).collect();
    let batch = Batch::new(plan, &each);
    // The peak so far is that of earlier batches.
    let _ = instance.peak_bytes();
    let begun = Instant::now();
    instance.run(&batch, &mut |outputs| batch.check(plan, outputs))?;
    Ok(Taken { time: begun.elapsed(), bytes: instance.peak_bytes() })
}

/// Rows of one input, all alike.
pub(super) fn made_up(form: &Form, rows: usize, lengths: &[u64]) -> Result<Tensor, BackendError> {
    let extents = form.spec.kind.row_shape().iter();
    let ragged = form.ragged.map_or(0, |(_, dimension)| lengths[dimension]);
    let fixed = |extent: &crate::tensor::Extent| {
        if let crate::tensor::Extent::Fixed(extent) = extent { *extent } else { ragged }
    };
    let shape: Vec<u64> = [rows as u64].into_iter().chain(extents.map(fixed)).collect();
    let datatype = form.spec.kind.datatype;
    let size = |error: crate::tensor::LayoutError| BackendError::threw(error.to_string());
    let layout = Layout::fixed(&shape).map_err(size)?;
    let mut bytes = vec![0; layout.byte_length(datatype).map_err(size)? as usize];
    // Ones where they are allowed: a mask of zeros would let a model skip its work.
    let value = form.spec.range.map_or(PLAIN, |(low, high)| 1.clamp(low, high) as f64);
    if let Some(element) = Pad::new(datatype, value) {
        element.fill(&mut bytes, datatype.width() as usize);
    }
    Ok(Tensor { datatype, layout, bytes: Bytes::from(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_several_dimensions_go_side_by_side() {
        assert_eq!(shapes(&[vec![1, 2, 4], vec![10, 20]]), [[1, 10], [2, 20], [4, 20]]);
        assert_eq!(shapes(&[]), [[0; 0]]);
    }
}
