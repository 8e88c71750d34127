//! One lane of a module on a GPU: a stream of its own, on which a batch is copied in, computed and copied out, one behind
//! the other, while other lanes' batches do the same on theirs.
//!
//! Owns what a batch needs on its way: pinned memory at both ends, kept from batch to batch, and the mark by which its end
//! is known. Refuses to know the policy and other lanes. A lane has one batch in flight; copies overlap with computing
//! because there are several lanes.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{
    Gpu, datatype,
    device::{self, Event, Stream},
    lane::{Forward, bytes_mut, dense, said},
};
use crate::engine::{BackendError, Batch, Cause, Input, Instance, Precision, Read};

/// A lane on a GPU.
pub(super) struct GpuLane {
    forward: Forward,
    gpu: Arc<Gpu>,
    precision: Precision,
    stream: Stream,
    begin: Event,
    end: Event,
    /// Where rows are stacked and outputs come to, one for each input and output.
    stacks: Vec<Pinned>,
    arrivals: Vec<Pinned>,
    /// What the device held when the lane was last asked for its peak.
    base: u64,
}

impl GpuLane {
    pub(super) fn new(forward: Forward, gpu: Arc<Gpu>, precision: Precision) -> Result<Self, BackendError> {
        let (stream, begin, end) = (Stream::new(gpu.index)?, Event::new()?, Event::new()?);
        let stacks = forward.signature.inputs.iter().map(|_| Pinned::empty()).collect::<Result<_, _>>()?;
        let arrivals = forward.signature.outputs.iter().map(|_| Pinned::empty()).collect::<Result<_, _>>()?;
        Ok(Self { forward, gpu, precision, stream, begin, end, stacks, arrivals, base: 0 })
    }

    fn run_on_stream(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        let _no_grad = tch::no_grad_guard();
        let _on_stream = self.stream.enter()?;
        let to = tch::Device::Cuda(self.gpu.index as usize);
        self.begin.record(self.stream)?;
        let inputs = batch.inputs().iter().zip(&mut self.stacks).map(|(input, stack)| {
            let stacked = stack.stack(input)?;
            stacked.f_to_device_(to, stacked.kind(), true, true).map_err(said)
        });
        let inputs: Vec<Tensor> = inputs.collect::<Result<_, _>>()?;
        let outputs = {
            let _exactly = device::exactly(self.precision)?;
            self.forward.run(inputs)?
        };
        if outputs.len() > self.arrivals.len() {
            return Err(BackendError::threw(format!("{} outputs are declared, it gave more", self.arrivals.len())));
        }
        let came = outputs.iter().zip(&mut self.arrivals).map(|(output, arrival)| arrival.fetch(output));
        let came: Vec<Tensor> = came.collect::<Result<_, _>>()?;
        self.end.record(self.stream)?;
        // Until then nothing else touches the pinned memory. (Device memory is reused in the stream's order.)
        self.end.wait()?;
        self.gpu.busy.note(&self.begin, &self.end, self.stream);
        read(&came.iter().map(dense).collect::<Result<Vec<_>, _>>()?)
    }
}

impl Instance for GpuLane {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        self.gpu.works()?;
        let Err(error) = self.run_on_stream(batch, read) else { return Ok(()) };
        // What was handed over before it threw still reads the pinned memory. And whether the device is lost is told by
        // whether it does anything any more: libtorch says `CUDA error` of much that concerns one call alone.
        let still_works = self.end.record(self.stream).and_then(|()| self.end.wait());
        if let Err(lost) = still_works {
            return Err(self.gpu.is_lost(lost));
        }
        match error.cause {
            Cause::OutOfMemory(_) => {
                // What is only kept may be what a smaller batch needs, in another size.
                let _ = device::empty_cache();
                Err(error)
            }
            Cause::Broken | Cause::Threw => Err(BackendError::threw(error.detail)),
        }
    }

    fn peak_bytes(&mut self) -> Option<u64> {
        // Of the whole device: what other models' lanes run meanwhile counts along.
        let figures = device::figures(self.gpu.index).ok()?;
        let peak = figures.peak.saturating_sub(self.base);
        device::reset_peak(self.gpu.index).ok()?;
        self.base = figures.allocated;
        Some(peak)
    }

    fn release_memory(&mut self) {
        if self.gpu.works().is_err() {
            return;
        }
        // Without memory there is nothing to allocate that could fail.
        for pinned in self.stacks.iter_mut().chain(&mut self.arrivals) {
            if let Ok(empty) = Pinned::empty() {
                *pinned = empty;
            }
        }
    }
}

impl Drop for GpuLane {
    fn drop(&mut self) {
        // Freeing pinned memory asks the device whether it is done with it, and one that is lost throws in a destructor, which
        // ends the process before anybody has been answered. The process ends soon in any case.
        if self.gpu.works().is_err() {
            std::mem::forget((std::mem::take(&mut self.stacks), std::mem::take(&mut self.arrivals)));
        }
    }
}

/// Memory that the GPU copies from or to by itself, as large as the largest batch so far.
struct Pinned(Tensor);

impl Pinned {
    fn empty() -> Result<Self, BackendError> {
        device::pinned(0).map(Self)
    }

    fn at_least(&mut self, bytes: usize) -> Result<&mut Tensor, BackendError> {
        if self.0.size().first().is_none_or(|held| (*held as usize) < bytes) {
            *self = Self(device::pinned(bytes)?);
        }
        Ok(&mut self.0)
    }

    /// A part of it as a tensor of that form.
    fn view(&mut self, bytes: usize, shape: &[i64], kind: Kind) -> Result<Tensor, BackendError> {
        let whole = self.at_least(bytes)?;
        let part = whole.f_narrow(0, 0, bytes as i64).and_then(|part| part.f_view_dtype(kind)).map_err(said)?;
        part.f_view(shape).map_err(said)
    }

    /// Stacks the rows of an input.
    fn stack(&mut self, input: &Input<'_>) -> Result<Tensor, BackendError> {
        let kind = datatype::kind(input.spec().kind.datatype);
        let kind = kind.ok_or_else(|| BackendError::threw("a datatype that libtorch does not know"))?;
        let bytes = input.byte_length();
        input.stack(bytes_mut(self.at_least(bytes)?, bytes)?);
        let shape: Vec<i64> = input.shape().iter().map(|extent| *extent as i64).collect();
        self.view(bytes, &shape, kind)
    }

    /// Has an output copied here, behind what the stream has to do.
    fn fetch(&mut self, output: &Tensor) -> Result<Tensor, BackendError> {
        if output.is_sparse() {
            return Err(BackendError::threw("an output is sparse"));
        }
        let kind = output.f_kind().map_err(said)?;
        let plain = output.f_contiguous().map_err(said)?;
        let shape = plain.size();
        let bytes = shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        if bytes == 0 {
            return Tensor::f_empty(&shape, (kind, tch::Device::Cpu)).map_err(said);
        }
        let mut here = self.view(bytes, &shape, kind)?;
        device::copy(&mut here, &plain)?;
        Ok(here)
    }
}
