//! A backend without a model, for tests of this room and of those around it: it implements the same traits as libtorch.
//!
//! What it computes: an output that is declared like an input is that input; any other one has in every element the sum
//! of the row's first input. Padding with zeros does not change it, so batching must be invisible here too. It records
//! batch sizes, can be held at the gate while a test arranges what waits, and throws when it is told to.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Backend, BackendError, Batch, Dense, Device, Input, Instance, Loaded, Read};
use crate::tensor::{Datatype, Signature};

/// How the fake behaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How long a batch takes.
    pub delay: Duration,
    /// A batch with a row whose first element is this throws.
    pub throws_on: Option<i64>,
    /// A batch with a row whose first element is this panics.
    pub panics_on: Option<i64>,
    /// A batch with a row whose first element is this panics, and the instance panics once more when it is freed: that
    /// is nobody's error any more and ends the lane.
    pub dies_on: Option<i64>,
    /// How many instances are refused after each panic.
    pub no_instance_for: usize,
    /// Every so-manieth batch throws, whoever is in it.
    pub throws_every: Option<usize>,
}

/// The fake; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    behaviour: Behaviour,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    running: usize,
    batches: Vec<usize>,
    /// Instances that are still to be refused.
    refusals: usize,
}

impl Fake {
    /// A fake that behaves so.
    pub fn new(behaviour: Behaviour) -> Self {
        Self(Arc::new(Shared { behaviour, ..Shared::default() }))
    }

    /// From now on batches stop before they compute.
    pub fn hold(&self) {
        self.0.state().held = true;
    }

    /// Lets them go on.
    pub fn release(&self) {
        self.0.state().held = false;
        self.0.changed.notify_all();
    }

    /// Blocks until so many batches are running or held.
    pub fn wait_running(&self, count: usize) {
        let state = self.0.state();
        drop(self.0.changed.wait_while(state, |state| state.running != count));
    }

    /// How many rows each batch had so far, those of the warm-up included.
    pub fn batches(&self) -> Vec<usize> {
        self.0.state().batches.clone()
    }

    /// Forgets the batches so far.
    pub fn clear(&self) {
        self.0.state().batches.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, rows: usize) -> Result<(), BackendError> {
        let mut state = self.state();
        state.running += 1;
        state.batches.push(rows);
        let number = state.batches.len();
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.held).unwrap_or_else(PoisonError::into_inner);
        if !self.behaviour.delay.is_zero() {
            let wait = self.changed.wait_timeout_while(state, self.behaviour.delay, |_| true);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running -= 1;
        drop(state);
        self.changed.notify_all();
        match self.behaviour.throws_every {
            Some(every) if number.is_multiple_of(every) => Err(BackendError("a seeded fault".into())),
            _ => Ok(()),
        }
    }
}

impl Backend for Fake {
    fn platform(&self) -> &'static str {
        "fake"
    }

    fn fingerprint(&self) -> String {
        "fake".into()
    }

    fn load(&self, file: &Path, signature: &Arc<Signature>, _: Device) -> Result<Arc<dyn Loaded>, BackendError> {
        let text = std::fs::read(file).map_err(|error| BackendError(error.to_string()))?;
        if text == b"broken" {
            return Err(BackendError("the file says that it is broken".into()));
        }
        Ok(Arc::new(FakeModel { fake: self.clone(), signature: signature.clone(), dead: false }))
    }
}

#[derive(Clone)]
struct FakeModel {
    fake: Fake,
    signature: Arc<Signature>,
    dead: bool,
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        assert!(!self.dead, "an instance that cannot be freed");
    }
}

impl Loaded for FakeModel {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        let mut state = self.fake.0.state();
        if state.refusals > 0 {
            state.refusals -= 1;
            return Err(BackendError("there is no instance at present".into()));
        }
        Ok(Box::new(self.clone()))
    }
}

impl Instance for FakeModel {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        let stacked: Vec<Vec<u8>> = batch.inputs().iter().map(stack).collect();
        self.fake.0.pass(batch.rows())?;
        let behaviour = &self.fake.0.behaviour;
        let first = &batch.inputs()[0];
        let rows: Vec<&[u8]> = stacked[0].chunks_exact(stacked[0].len() / batch.rows()).collect();
        for row in &rows {
            let element = element(first, row).next().map(|value| value as i64);
            if element.is_some() && element == behaviour.throws_on {
                return Err(BackendError("a bad row".into()));
            }
            let is = |number: Option<i64>| element.is_some() && element == number;
            if is(behaviour.panics_on) || is(behaviour.dies_on) {
                self.fake.0.state().refusals = behaviour.no_instance_for;
                self.dead = is(behaviour.dies_on);
                panic!("a row that panics");
            }
        }
        let sums: Vec<f64> = rows.iter().map(|row| element(first, row).sum()).collect();
        let outputs: Vec<_> = self
            .signature
            .outputs
            .iter()
            .map(|output| {
                let same = batch.inputs().iter().position(|input| input.spec().kind == output.kind);
                match same {
                    Some(position) => (batch.inputs()[position].shape().to_vec(), stacked[position].clone()),
                    None => sum_output(output, batch, &sums),
                }
            })
            .collect();
        let dense: Vec<_> = self
            .signature
            .outputs
            .iter()
            .zip(&outputs)
            .map(|(output, (shape, bytes))| Dense { datatype: Some(output.kind.datatype), shape: shape.clone(), bytes })
            .collect();
        read(&dense)
    }
}

fn stack(input: &Input<'_>) -> Vec<u8> {
    let mut bytes = vec![0; input.byte_length()];
    input.stack(&mut bytes);
    bytes
}

fn element<'a>(input: &Input<'_>, row: &'a [u8]) -> impl Iterator<Item = f64> + 'a {
    let datatype = input.spec().kind.datatype;
    row.chunks_exact(datatype.width() as usize).map(move |bytes| {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        match datatype {
            Datatype::Fp32 => f64::from(f32::from_le_bytes([wide[0], wide[1], wide[2], wide[3]])),
            Datatype::Fp64 => f64::from_le_bytes(wide),
            _ => i64::from_le_bytes(wide) as f64,
        }
    })
}

fn sum_output(output: &crate::tensor::TensorSpec, batch: &Batch<'_>, sums: &[f64]) -> (Vec<u64>, Vec<u8>) {
    let longest = |name: &str| {
        let of = batch.inputs().iter().find_map(|input| {
            let (axis, ragged) = input.spec().kind.ragged()?;
            (ragged == name).then(|| input.shape()[axis + 1])
        });
        of.unwrap_or(0)
    };
    let extent = |extent: &crate::tensor::Extent| match extent {
        crate::tensor::Extent::Rows => batch.rows() as u64,
        crate::tensor::Extent::Fixed(extent) => *extent,
        crate::tensor::Extent::Ragged(name) => longest(name),
    };
    let shape: Vec<u64> = output.kind.shape.iter().map(extent).collect();
    let per_row = shape[1..].iter().product::<u64>() as usize;
    let element = |sum: &f64| match output.kind.datatype {
        Datatype::Fp32 => (*sum as f32).to_le_bytes().to_vec(),
        Datatype::Fp64 => sum.to_le_bytes().to_vec(),
        other => (*sum as i64).to_le_bytes()[..other.width() as usize].to_vec(),
    };
    let bytes = sums.iter().flat_map(|sum| element(sum).repeat(per_row)).collect();
    (shape, bytes)
}
