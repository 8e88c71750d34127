//! How far a model of reduced precision is from the same model in 32 bits: both are run on the same made-up rows before it
//! serves, and one that is too far is refused.
//!
//! Owns the rows and the measure. Refuses to know how precision is reduced: that is the backend's.

use std::path::Path;

use bytes::Bytes;

use super::{
    backend::{Backend, BackendError, Dense, Device, Instance, Loading, Precision},
    batch::{Batch, Form, Plan, Row},
    error::LoadError,
    manifest::Manifest,
    model::failed,
    warm_up,
};
use crate::tensor::{Datatype, Tensor};

/// So many rows together of the first, the middle and the last shape that are warmed up: what rounding does depends little
/// on more.
const ROWS: usize = 2;
/// Where made-up values begin, so that a load is judged as the one before.
const SEED: u64 = 0x7e0e;

/// Outputs in 32 bits, and of which rows.
pub(super) struct Reference(Vec<Case>);

struct Case {
    lengths: Vec<u64>,
    inputs: Vec<Tensor>,
    /// Of each output; `None` of those that are no floating point.
    outputs: Vec<Option<Vec<f64>>>,
}

/// What a model of reduced precision is to be held against; before it is there itself, so that there is never more than one.
pub(super) fn reference(
    backend: &dyn Backend,
    file: &Path,
    (manifest, device): (&Manifest, Device),
) -> Result<Option<Reference>, LoadError> {
    if manifest.precision.on(device) == Precision::Fp32 {
        return Ok(None);
    }
    Reference::of(backend, file, manifest, device).map(Some).map_err(|error| failed(file, error))
}

/// Refuses an instance that is further from it than `model.toml` allows.
pub(super) fn is_exact(
    reference: &Reference,
    instance: &mut dyn Instance,
    (file, manifest): (&Path, &Manifest),
) -> Result<(), LoadError> {
    let difference = reference.difference(instance, &manifest.plan).map_err(|error| failed(file, error))?;
    let (precision, tolerance) = (manifest.precision.name(), manifest.tolerance);
    tracing::info!(file = %file.display(), precision, difference, tolerance, "held against fp32");
    if difference <= tolerance {
        return Ok(());
    }
    Err(LoadError::Inexact { file: file.into(), precision, difference, tolerance })
}

impl Reference {
    /// Loads the model in 32 bits on that device, runs it and lets it go.
    fn of(backend: &dyn Backend, file: &Path, manifest: &Manifest, device: Device) -> Result<Self, BackendError> {
        let how = Loading { format: manifest.format, device, precision: Precision::Fp32, lanes: 1 };
        let loaded = backend.load(file, &manifest.signature, how)?;
        let (plan, mut chance) = (&*manifest.plan, Chance(SEED));
        let mut instance = loaded.instance()?;
        let mut cases = Vec::new();
        for lengths in spread(&warm_up::shapes(&manifest.buckets)) {
            let rows = ROWS.min(manifest.max_batch_size);
            let inputs = plan.inputs.iter().map(|form| made_up(form, rows, &lengths, &mut chance));
            let inputs: Vec<Tensor> = inputs.collect::<Result<_, _>>()?;
            match outputs(&mut *instance, plan, &inputs, &lengths) {
                Ok(outputs) => cases.push(Case { lengths, inputs, outputs }),
                // Where there is no memory for it, it will not be served either; the first must fit.
                Err(error) if error.short().is_some() && !cases.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self(cases))
    }

    /// The largest difference of this instance's outputs, as a part of the largest output.
    fn difference(&self, instance: &mut dyn Instance, plan: &Plan) -> Result<f64, BackendError> {
        let mut worst = 0.0_f64;
        for case in &self.0 {
            let reduced = outputs(instance, plan, &case.inputs, &case.lengths)?;
            let both = case
                .outputs
                .iter()
                .zip(&reduced)
                .filter_map(|(exact, reduced)| Some((exact.as_ref()?, reduced.as_ref()?)));
            worst = both.map(|(exact, reduced)| difference(exact, reduced)).fold(worst, f64::max);
        }
        Ok(worst)
    }
}

/// The first, the middle and the last.
fn spread(shapes: &[Vec<u64>]) -> Vec<Vec<u64>> {
    let last = shapes.len().saturating_sub(1);
    let mut at = vec![0, last / 2, last];
    at.dedup();
    at.into_iter().filter_map(|at| shapes.get(at).cloned()).collect()
}

/// Numbers that are no finite ones in 32 bits say nothing; all others must be finite.
fn difference(exact: &[f64], reduced: &[f64]) -> f64 {
    let finite = || exact.iter().zip(reduced).filter(|(exact, _)| exact.is_finite());
    let apart =
        |(exact, reduced): (&f64, &f64)| if reduced.is_finite() { (exact - reduced).abs() } else { f64::INFINITY };
    let largest = finite().map(|(exact, _)| exact.abs()).fold(0.0, f64::max);
    match finite().map(apart).fold(0.0, f64::max) {
        0.0 => 0.0,
        worst => worst / largest,
    }
}

fn outputs(
    instance: &mut dyn Instance,
    plan: &Plan,
    inputs: &[Tensor],
    lengths: &[u64],
) -> Result<Vec<Option<Vec<f64>>>, BackendError> {
    let rows = inputs.first().map_or(0, |input| input.layout.rows());
    let each: Vec<_> = (0..rows).map(|index| Row { inputs, index, lengths }).collect();
    let batch = Batch::new(plan, &each);
    let mut found = Vec::new();
    instance.run(&batch, &mut |outputs| {
        batch.check(plan, outputs)?;
        found = outputs.iter().map(numbers).collect();
        Ok(())
    })?;
    Ok(found)
}

/// The elements of a floating tensor.
fn numbers(tensor: &Dense<'_>) -> Option<Vec<f64>> {
    let bytes = tensor.bytes;
    Some(match tensor.datatype? {
        Datatype::Fp64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        Datatype::Fp32 => bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        Datatype::Bf16 => bytes.as_chunks().0.iter().map(|bytes| bf16(u16::from_le_bytes(*bytes))).collect(),
        Datatype::Fp16 => bytes.as_chunks().0.iter().map(|bytes| fp16(u16::from_le_bytes(*bytes))).collect(),
        _ => return None,
    })
}

fn bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

fn fp16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    sign * match exponent {
        0 => fraction * 2_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    }
}

/// Rows with values from everywhere in the range that is stated; floating ones from -1 to 1.
fn made_up(form: &Form, rows: usize, lengths: &[u64], chance: &mut Chance) -> Result<Tensor, BackendError> {
    let plain = warm_up::made_up(form, rows, lengths)?;
    let mut bytes = plain.bytes.to_vec();
    let (datatype, range) = (plain.datatype, form.spec.range);
    for element in bytes.chunks_exact_mut(datatype.width() as usize) {
        let drawn = chance.element(datatype, range);
        element.copy_from_slice(&drawn[..element.len()]);
    }
    Ok(Tensor { bytes: Bytes::from(bytes), ..plain })
}

/// Numbers that look like chance (SplitMix64), the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn element(&mut self, datatype: Datatype, range: Option<(i64, i64)>) -> [u8; 8] {
        let drawn = self.next();
        let part = (drawn >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let mut bytes = [0; 8];
        match (datatype, range) {
            (Datatype::Fp64, _) => bytes = part.to_le_bytes(),
            (Datatype::Fp32, _) => bytes[..4].copy_from_slice(&(part as f32).to_le_bytes()),
            // The upper half of 32 bits is the same number with fewer digits.
            (Datatype::Bf16, _) => bytes[..2].copy_from_slice(&(part as f32).to_le_bytes()[2..]),
            // Any sign and fraction, and an exponent that makes it half to one.
            (Datatype::Fp16, _) => bytes[..2].copy_from_slice(&((drawn as u16 & 0x83ff) | 0x3800).to_le_bytes()),
            (_, Some((low, high))) => {
                // As many as there are from the one to the other; all of them where that is more than 64 bits count.
                let count = high.wrapping_sub(low).cast_unsigned().wrapping_add(1);
                let step = if count == 0 { drawn } else { drawn % count };
                bytes = low.wrapping_add(step.cast_signed()).to_le_bytes();
            }
            (_, None) => bytes[0] = drawn as u8 & 1,
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measure_is_a_part_of_the_largest_output() {
        let inf = f64::INFINITY;
        assert_eq!(difference(&[1.0, -4.0, 0.0], &[1.5, -4.0, 0.25]), 0.125);
        assert_eq!(difference(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert_eq!(difference(&[0.0], &[0.1]), inf);
        assert_eq!(difference(&[1.0], &[f64::NAN]), inf, "what was a number must stay one");
        assert_eq!(difference(&[f64::NAN, 2.0], &[5.0, 2.0]), 0.0);
    }

    #[test]
    fn halves_are_read_as_they_are() {
        assert_eq!([0x3c00, 0xc000, 0x7bff, 0x0001].map(fp16), [1.0, -2.0, 65504.0, 2_f64.powi(-24)]);
        assert!(fp16(0x7e00).is_nan() && fp16(0xfc00) == f64::NEG_INFINITY);
        assert_eq!([0x3f80, 0xc040].map(bf16), [1.0, -3.0]);
    }

    #[test]
    fn made_up_values_keep_to_their_range() {
        let mut chance = Chance(SEED);
        let mut seen = [0; 3];
        for _ in 0..300 {
            let drawn = i64::from_le_bytes(chance.element(Datatype::Int64, Some((-1, 1))));
            seen[(drawn + 1) as usize] += 1;
            let bytes = chance.element(Datatype::Fp32, None);
            let float = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert!((-1.0..=1.0).contains(&float), "{float}");
            let half = chance.element(Datatype::Fp16, None);
            assert!((0.5..1.0).contains(&fp16(u16::from_le_bytes([half[0], half[1]])).abs()));
            assert!(chance.element(Datatype::Bool, None)[0] < 2);
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        chance.element(Datatype::Int64, Some((i64::MIN, i64::MAX)));
    }

    #[test]
    fn the_first_the_middle_and_the_last_shape_are_run() {
        let shapes = |count: u64| (1..=count).map(|extent| vec![extent]).collect::<Vec<_>>();
        assert_eq!(spread(&shapes(1)), [[1]]);
        assert_eq!(spread(&shapes(2)), [[1], [2]]);
        assert_eq!(spread(&shapes(6)), [[1], [3], [6]]);
        assert_eq!(spread(&[vec![]]), [[0; 0]]);
    }
}
