//! Turns a function over tensors into a TorchScript module, and checks that the saved file computes the same.
//! Knows nothing of particular models or of where files go. Why tracing: it needs only the native libtorch, no Python,
//! and what it records is the very function that was checked.

use std::{io::Write, path::Path};

use anyhow::{Context, ensure};
use tch::{CModule, IValue, TchError, Tensor};

use crate::{folder::Folder, program};

/// A model as a function. Shapes must reach the result only through tensor operations, never through Rust integers:
/// an integer is recorded as a constant, and the module would then serve the example's shape alone.
pub(crate) type Forward<'a> = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, TchError> + 'a;

/// How far a saved module may be from the function it was traced from: the executor may fuse or reorder.
const TOLERANCE: f64 = 1e-6;

/// A model that is to be a folder: what it is called, what it is made of, what says so, what lies beside its module, and the
/// inputs that it is traced with (the first) and compared at (the others).
pub(crate) struct Model<'a> {
    pub(crate) name: &'a str,
    pub(crate) recipe: &'a str,
    pub(crate) manifest: &'a str,
    pub(crate) beside: &'a [(&'a str, Vec<u8>)],
    pub(crate) examples: &'a [Vec<Tensor>],
}

impl Model<'_> {
    /// Traces `forward`, compares what was saved with it, puts the model into `place`, and says so.
    pub(crate) fn publish(&self, forward: &Forward<'_>, place: &Folder, out: &mut impl Write) -> anyhow::Result<()> {
        let Self { name, recipe, manifest, beside, examples } = self;
        let mut largest = 0.0;
        place.write(recipe, manifest, beside, |file| {
            save(name, forward, &examples[0], file)?;
            largest = verify(forward, &examples[1..], file)?;
            Ok(())
        })?;
        let (home, others) = (place.home().display(), examples.len() - 1);
        writeln!(
            out,
            "model {name}: written to {home}; equal to its source at {others} other shapes (largest difference {largest:e})"
        )?;
        Ok(())
    }
}

/// Records `forward` on `example` and saves the module as `file`.
pub(crate) fn save(name: &str, forward: &Forward<'_>, example: &[Tensor], file: &Path) -> anyhow::Result<()> {
    let mut failure = None;
    let mut count = 0;
    let mut closure = |inputs: &[Tensor]| {
        let outputs = forward(inputs).and_then(|outputs| {
            count = outputs.len();
            if count > 1 { program::mark(&outputs) } else { Ok(outputs) }
        });
        outputs.unwrap_or_else(|error| {
            // Tracing must still be ended with an output of the trace; the error is what gets reported.
            failure = Some(error);
            inputs.iter().take(1).map(Tensor::shallow_clone).collect()
        })
    };
    // The name becomes a class in TorchScript's own syntax.
    let class = name.replace('-', "_");
    let module = tch::no_grad(|| CModule::create_by_tracing(&class, "forward", example, &mut closure));
    if let Some(error) = failure {
        return Err(error).with_context(|| format!("{name}: computing the example"));
    }
    let mut module = module.with_context(|| format!("{name}: tracing"))?;
    module.f_set_eval().with_context(|| format!("{name}: switching to evaluation"))?;
    module.save(file).with_context(|| format!("{name}: saving {}", file.display()))?;
    if count > 1 {
        program::answer_all(file, count).with_context(|| format!("{name}: {}", file.display()))?;
    }
    program::refuse_fixed_device(file).with_context(|| format!("{name}: {}", file.display()))
}

/// Loads `file` again and compares it with `forward` on every example; answers the largest difference seen.
pub(crate) fn verify(forward: &Forward<'_>, examples: &[Vec<Tensor>], file: &Path) -> anyhow::Result<f64> {
    let module = CModule::load(file).with_context(|| format!("loading {}", file.display()))?;
    let mut largest = 0.0_f64;
    for inputs in examples {
        let shapes: Vec<_> = inputs.iter().map(Tensor::size).collect();
        let expected = tch::no_grad(|| forward(inputs)).context("computing the expected outputs")?;
        // Twice: the first run profiles, the second is what the executor made of the profile.
        for _ in 0..2 {
            let actual = run(&module, inputs).with_context(|| format!("running {} at {shapes:?}", file.display()))?;
            ensure!(
                actual.len() == expected.len(),
                "{}: {} outputs instead of {} at {shapes:?}",
                file.display(),
                actual.len(),
                expected.len()
            );
            for (actual, expected) in actual.iter().zip(&expected) {
                largest = largest.max(difference(actual, expected)?);
            }
        }
        ensure!(largest <= TOLERANCE, "{}: differs from its source by {largest:e} at {shapes:?}", file.display());
    }
    Ok(largest)
}

/// Runs a module whose outputs are one tensor or a tuple of tensors.
pub(crate) fn run(module: &CModule, inputs: &[Tensor]) -> anyhow::Result<Vec<Tensor>> {
    let inputs: Vec<_> = inputs.iter().map(|tensor| IValue::Tensor(tensor.shallow_clone())).collect();
    let output = tch::no_grad(|| module.forward_is(&inputs))?;
    match output {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::Tuple(values) => values
            .into_iter()
            .map(|value| match value {
                IValue::Tensor(tensor) => Ok(tensor),
                other => anyhow::bail!("an output is not a tensor: {other:?}"),
            })
            .collect(),
        other => anyhow::bail!("the outputs are neither a tensor nor a tuple: {other:?}"),
    }
}

/// The largest absolute difference of two tensors; an error if shape or datatype differ or a value is not a number.
pub(crate) fn difference(actual: &Tensor, expected: &Tensor) -> anyhow::Result<f64> {
    ensure!(
        actual.size() == expected.size() && actual.kind() == expected.kind(),
        "{:?} {:?} instead of {:?} {:?}",
        actual.kind(),
        actual.size(),
        expected.kind(),
        expected.size()
    );
    if actual.numel() == 0 {
        return Ok(0.0);
    }
    let largest = actual.f_sub(expected)?.f_abs()?.f_max()?.f_double_value(&[])?;
    ensure!(!largest.is_nan(), "a value is not a number");
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use tch::{Kind, kind::FLOAT_CPU};

    use super::*;

    #[test]
    fn a_different_shape_is_not_a_small_difference() {
        let one = Tensor::zeros([2, 3], FLOAT_CPU);
        assert!(difference(&one, &Tensor::zeros([3, 2], FLOAT_CPU)).is_err());
        assert!(difference(&one, &Tensor::zeros([2, 3], (Kind::Int64, tch::Device::Cpu))).is_err());
    }

    #[test]
    fn not_a_number_is_refused() {
        let odd = Tensor::from_slice(&[1.0_f32, f32::NAN]);
        assert!(difference(&odd, &odd).is_err());
    }

    #[test]
    fn the_largest_difference_counts() {
        let one = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
        let two = Tensor::from_slice(&[1.0_f32, 1.5, 3.25]);
        assert_eq!(difference(&one, &two).unwrap(), 0.5);
    }
}
