//! One lane of a module on a GPU: a stream of its own, on which a batch is copied in, computed and copied out, one behind
//! the other, while other lanes' batches do the same on theirs.
//!
//! Owns what a batch needs on its way: pinned memory at both ends, kept from batch to batch, and the mark by which its end
//! is known. Refuses to know the policy and other lanes. A lane has one batch in flight; copies overlap with computing
//! because there are several lanes.

use std::sync::Arc;

use tch::Tensor;

use super::{
    Gpu,
    device::{self, Event, Stream},
    forward::Forward,
    lane::dense,
    pinned::Pinned,
};
use crate::engine::{BackendError, Batch, Cause, Instance, Precision, Read};

/// A lane on a GPU.
pub(super) struct GpuLane {
    forward: Forward,
    gpu: Arc<Gpu>,
    precision: Precision,
    stream: Stream,
    begin: Event,
    end: Event,
    /// Where rows are gathered and outputs come to, one for each input and output.
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
        let region = self.gpu.staging.get().map(|region| &**region);
        let inputs = batch.inputs().iter().zip(&mut self.stacks).map(|(input, stack)| stack.bring(input, to, region));
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
