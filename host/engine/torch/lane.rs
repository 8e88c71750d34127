//! One lane's use of a module: rows into input tensors, forward, outputs shown where they lie.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{
    datatype,
    forward::{Forward, said},
    memory::Account,
};
use crate::engine::{BackendError, Batch, Dense, Input, Instance, Read};

/// A lane's module and the memory that its batches are stacked in.
pub(super) struct Lane {
    forward: Forward,
    stacks: Vec<Stack>,
    /// What it holds: stacks, and while a batch runs all of its tensors.
    account: Arc<Account>,
}

impl Lane {
    pub(super) fn new(forward: Forward, account: Arc<Account>) -> Result<Self, BackendError> {
        let stacks = forward.signature.inputs.iter().map(|_| Stack::empty()).collect::<Result<_, _>>()?;
        Ok(Self { forward, stacks, account })
    }
}

impl Instance for Lane {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        let _no_grad = tch::no_grad_guard();
        let _entered = self.account.enter();
        let inputs = batch.inputs().iter().zip(&mut self.stacks).map(|(input, stack)| stack.tensor(input));
        let inputs: Vec<Tensor> = inputs.collect::<Result<_, _>>()?;
        let outputs = self.forward.run(inputs)?.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        read(&outputs.iter().map(dense).collect::<Result<Vec<_>, _>>()?)
    }

    fn peak_bytes(&mut self) -> Option<u64> {
        Some(self.account.take_peak())
    }

    fn limit_memory(&mut self, bytes: u64) {
        self.account.set_limit(bytes);
    }

    fn release_memory(&mut self) {
        self.stacks.iter_mut().for_each(Stack::release);
    }
}

/// Memory that the rows of one input are stacked in, kept from batch to batch: libtorch's own, aligned as its kernels
/// like it.
struct Stack(Tensor);

impl Stack {
    fn empty() -> Result<Self, BackendError> {
        Self::of(0)
    }

    fn of(bytes: usize) -> Result<Self, BackendError> {
        Tensor::f_empty([bytes as i64], (Kind::Uint8, tch::Device::Cpu)).map(Self).map_err(said)
    }

    fn release(&mut self) {
        // Without memory there is nothing to allocate that could fail.
        if let Ok(empty) = Self::empty() {
            *self = empty;
        }
    }

    /// Stacks the rows of an input and shows them as a tensor. It must be gone before the next batch is stacked: `run`
    /// drops it with the batch's outputs.
    fn tensor(&mut self, input: &Input<'_>) -> Result<Tensor, BackendError> {
        let kind = datatype::kind(input.spec().kind.datatype);
        let kind = kind.ok_or_else(|| BackendError::threw("a datatype that libtorch does not know"))?;
        let bytes = input.byte_length();
        if self.0.size().first().is_none_or(|held| (*held as usize) < bytes) {
            // The smaller one first: both at once might not fit where either does.
            self.release();
            *self = Self::of(bytes)?;
        }
        let stacked = bytes_mut(&mut self.0, bytes)?;
        input.stack(stacked);
        let shape: Vec<i64> = input.shape().iter().map(|extent| *extent as i64).collect();
        view(stacked, &shape, kind)
    }
}

/// On the CPU, dense and row-major: as it is, in nearly every case.
fn plain(tensor: &Tensor) -> Result<Tensor, BackendError> {
    if tensor.is_sparse() {
        return Err(BackendError::threw("an output is sparse"));
    }
    let tensor = tensor.f_to(tch::Device::Cpu).map_err(said)?;
    tensor.f_contiguous().map_err(said)
}

pub(super) fn dense(tensor: &Tensor) -> Result<Dense<'_>, BackendError> {
    let kind = tensor.f_kind().map_err(said)?;
    let shape: Vec<u64> = tensor.size().iter().map(|extent| *extent as u64).collect();
    let bytes = shape.iter().product::<u64>() as usize * kind.elt_size_in_bytes();
    Ok(Dense { datatype: datatype::datatype(kind), shape, bytes: bytes_of(tensor, bytes)? })
}

#[expect(
    unsafe_code,
    reason = "libtorch hands out its memory as a pointer; a copy in between would double the traffic"
)]
pub(super) fn bytes_mut(tensor: &mut Tensor, length: usize) -> Result<&mut [u8], BackendError> {
    if length == 0 {
        return Ok(&mut []);
    }
    let pointer = tensor.data_ptr().cast::<u8>();
    if pointer.is_null() {
        return Err(BackendError::threw("libtorch gave a tensor without memory"));
    }
    // SAFETY: the tensor is a `Stack`'s: bytes, at least `length` of them, contiguous, on the CPU, shared with nobody
    // but views that are gone; it is borrowed for as long as the slice lives. Any bytes are valid `u8`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length) })
}

#[expect(unsafe_code, reason = "libtorch computes on the stacked rows where they lie")]
pub(super) fn view(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor, BackendError> {
    // SAFETY: `bytes` is as long as shape and kind say (`Input::byte_length`) and aligned by libtorch's allocator. The
    // memory is the lane's and outlives the view, which `run` drops before the next batch is stacked.
    unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], kind, tch::Device::Cpu) }.map_err(said)
}

#[expect(unsafe_code, reason = "libtorch hands out its memory as a pointer; copying it first would double the traffic")]
fn bytes_of(tensor: &Tensor, length: usize) -> Result<&[u8], BackendError> {
    if length == 0 {
        return Ok(&[]);
    }
    let pointer = tensor.data_ptr().cast::<u8>().cast_const();
    if pointer.is_null() {
        return Err(BackendError::threw("libtorch gave an output without memory"));
    }
    // SAFETY: `plain` made the tensor contiguous on the CPU, `length` is the size of its shape and kind, nothing writes
    // to it any more, and it is borrowed for as long as the slice lives.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}
