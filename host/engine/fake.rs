//! A backend without a model, for tests of this room and of those around it: it implements the same traits as libtorch.
//!
//! What it computes: an output that is declared like an input is that input; any other one has in every element the sum
//! of the row's first input. Padding with zeros does not change it, so batching must be invisible here too. It records
//! batch sizes, can be held at the gate while a test arranges what waits, throws when it is told to, and has as much
//! memory as a test says: a batch needs a byte for each padded element of its first input.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Backend, BackendError, Batch, Dense, Device, DeviceMemory, Format, Input, Instance, Loaded, Loading, Read, Short,
};
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
    /// How many GPUs it claims to have; they share their memory.
    pub gpus: u32,
    /// What it has of memory; `None`: it does not count.
    pub memory: Option<Memory>,
}

/// The fake's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What a batch may need at first, in rows x padded elements; `None`: no limit. (`set_capacity` changes it.)
    pub capacity: Option<u64>,
    /// What the chance begins with that `set_faults` gives to running out of memory.
    pub seed: u64,
    /// What each model holds without any lane.
    pub weight_bytes: u64,
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
    /// Rows that each device had.
    on: BTreeMap<Device, usize>,
    capacity: Option<u64>,
    fault_in: Option<u64>,
    chance: u64,
    /// Whether the batch before ran out of memory by chance.
    faulted: bool,
    out_of_memory: usize,
    limit: Option<u64>,
    weights: u64,
    held_bytes: u64,
    /// Instances that are still to be refused.
    refusals: usize,
}

impl Fake {
    /// A fake that behaves so.
    pub fn new(behaviour: Behaviour) -> Self {
        let memory = behaviour.memory.clone().unwrap_or_default();
        let state = State { capacity: memory.capacity, chance: memory.seed, ..State::default() };
        Self(Arc::new(Shared { behaviour, state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// From now on a batch may need so much, in rows x padded elements.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.0.state().capacity = capacity;
    }

    /// From now on one batch in so many runs out of memory by chance, but never two in succession.
    pub fn set_faults(&self, one_in: u64) {
        self.0.state().fault_in = Some(one_in);
    }

    /// From now on lanes are told to hold so many bytes.
    pub fn set_held(&self, bytes: u64) {
        self.0.state().held_bytes = bytes;
    }

    /// From now on somebody else is told to hold so many bytes like models.
    pub fn set_weights(&self, bytes: u64) {
        self.0.state().weights = bytes;
    }

    /// How many batches ran out of memory.
    pub fn out_of_memory(&self) -> usize {
        self.0.state().out_of_memory
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

    /// How many rows each device had since `clear`.
    pub fn rows_on(&self, device: Device) -> usize {
        self.0.state().on.get(&device).copied().unwrap_or(0)
    }

    /// Forgets the batches so far.
    pub fn clear(&self) {
        let mut state = self.0.state();
        state.batches.clear();
        state.on.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, device: Device, rows: usize) -> Result<(), BackendError> {
        let mut state = self.state();
        state.running += 1;
        state.batches.push(rows);
        *state.on.entry(device).or_default() += rows;
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
            Some(every) if number.is_multiple_of(every) => Err(BackendError::threw("a seeded fault")),
            _ => Ok(()),
        }
    }

    /// Takes memory for a batch, as far as there is any.
    fn allocate(&self, elements: u64, lane_limit: u64) -> Result<(), BackendError> {
        if self.behaviour.memory.is_none() {
            return Ok(());
        }
        let state = &mut *self.state();
        // A linear congruential generator: the same seed, the same faults.
        state.chance = state.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let by_chance = state.fault_in.is_some_and(|one_in| (state.chance >> 33).is_multiple_of(one_in));
        state.faulted = by_chance && !state.faulted;
        let short = if elements > lane_limit { Short::Lane } else { Short::Device };
        if short == Short::Lane || state.faulted || state.capacity.is_some_and(|capacity| elements > capacity) {
            state.out_of_memory += 1;
            return Err(BackendError::out_of_memory(short, format!("{elements} elements are too many")));
        }
        Ok(())
    }
}

impl Backend for Fake {
    fn platform(&self, _: Format) -> &'static str {
        "fake"
    }

    fn fingerprint(&self, _: Device) -> String {
        "fake".into()
    }

    fn devices(&self) -> Vec<Device> {
        let gpus = (0..self.0.behaviour.gpus).map(Device::Cuda);
        std::iter::once(Device::Cpu).chain(gpus).collect()
    }

    fn load(
        &self,
        file: &Path,
        signature: &Arc<Signature>,
        Loading { device, .. }: Loading,
    ) -> Result<Arc<dyn Loaded>, BackendError> {
        let text = std::fs::read(file).map_err(|error| BackendError::threw(error.to_string()))?;
        if text == b"broken" {
            return Err(BackendError::threw("the file says that it is broken"));
        }
        let (weight, signature) = (Arc::new(Weight::of(self)), signature.clone());
        let fake = self.clone();
        Ok(Arc::new(FakeModel { fake, device, weight, signature, limit: u64::MAX, peak: 0, dead: false }))
    }

    fn memory(&self, device: Device) -> Option<DeviceMemory> {
        self.0.behaviour.memory.as_ref()?;
        let state = self.0.state();
        Some(DeviceMemory {
            device: device.to_string().into(),
            weight_bytes: state.weights,
            lane_bytes: state.held_bytes,
            other_bytes: 0,
            limit_bytes: state.limit.unwrap_or(u64::MAX),
        })
    }

    fn limit_memory(&self, _: Device, bytes: u64) {
        self.0.state().limit = Some(bytes);
    }
}

/// What a model holds, told for as long as anybody has it.
struct Weight(Fake, u64);

impl Weight {
    fn of(fake: &Fake) -> Self {
        let bytes = fake.0.behaviour.memory.as_ref().map_or(0, |memory| memory.weight_bytes);
        fake.0.state().weights += bytes;
        Self(fake.clone(), bytes)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.0.0.state().weights -= self.1;
    }
}

#[derive(Clone)]
struct FakeModel {
    fake: Fake,
    device: Device,
    weight: Arc<Weight>,
    signature: Arc<Signature>,
    limit: u64,
    peak: u64,
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
            return Err(BackendError::threw("there is no instance at present"));
        }
        Ok(Box::new(self.clone()))
    }

    fn weight_bytes(&self) -> u64 {
        self.weight.1
    }
}

impl Instance for FakeModel {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        let stacked: Vec<Vec<u8>> = batch.inputs().iter().map(stack).collect();
        let elements = batch.inputs()[0].shape().iter().product();
        self.fake.0.pass(self.device, batch.rows())?;
        self.fake.0.allocate(elements, self.limit)?;
        self.peak = self.peak.max(elements);
        let behaviour = &self.fake.0.behaviour;
        let first = &batch.inputs()[0];
        let rows: Vec<&[u8]> = stacked[0].chunks_exact(stacked[0].len() / batch.rows()).collect();
        for row in &rows {
            let element = element(first, row).next().map(|value| value as i64);
            if element.is_some() && element == behaviour.throws_on {
                return Err(BackendError::threw("a bad row"));
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

    fn peak_bytes(&mut self) -> Option<u64> {
        self.fake.0.behaviour.memory.as_ref()?;
        Some(std::mem::take(&mut self.peak))
    }

    fn limit_memory(&mut self, bytes: u64) {
        self.limit = bytes;
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
