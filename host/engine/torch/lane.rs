//! One lane's use of a module: rows into input tensors, forward, outputs shown where they lie.

use std::sync::Arc;

use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::{datatype, device, memory::Account};
use crate::{
    engine::{BackendError, Batch, Dense, Input, Instance, Read},
    tensor::Signature,
};

/// What `tch` says when `forward_ts` meets a tuple.
const NO_TENSOR: &str = "forward did not return a tensor";

/// One readable line of what libtorch said.
pub(super) fn said(error: TchError) -> BackendError {
    let text = match error {
        TchError::Torch(text) => text,
        other => other.to_string(),
    };
    device::error(&text)
}

/// A module as a lane runs it.
#[derive(Clone)]
pub(super) struct Forward {
    module: Arc<CModule>,
    pub(super) signature: Arc<Signature>,
    /// Whether `forward` was seen to give one plain tensor, or might.
    gives_tensor: bool,
    /// What floating inputs are converted to; outputs come back as they are declared.
    kind: Option<Kind>,
}

/// A lane's module and the memory that its batches are stacked in.
pub(super) struct Lane {
    forward: Forward,
    stacks: Vec<Stack>,
    /// What it holds: stacks, and while a batch runs all of its tensors.
    account: Arc<Account>,
}

impl Forward {
    pub(super) fn new(module: Arc<CModule>, signature: Arc<Signature>) -> Self {
        let gives_tensor = signature.outputs.len() == 1;
        Self { module, signature, gives_tensor, kind: None }
    }

    /// For a module whose weights are of this kind.
    pub(super) fn in_kind(self, kind: Option<Kind>) -> Self {
        Self { kind, ..self }
    }

    /// From inputs as declared to outputs as declared.
    pub(super) fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BackendError> {
        let Some(kind) = self.kind else { return self.forward(inputs) };
        let inputs = inputs.iter().map(|input| converted(input, Some(kind))).collect::<Result<_, _>>()?;
        let outputs = self.forward(inputs)?;
        // Of outputs that are not declared there is no kind; who reads them says that they are too many.
        let declared = self.signature.outputs.iter().map(|output| datatype::kind(output.kind.datatype));
        let declared = declared.chain(std::iter::repeat(None));
        outputs.iter().zip(declared).map(|(output, kind)| converted(output, kind)).collect()
    }

    /// `tch` leaks the inputs' headers when `forward_is` throws (their memory is the lane's own), and does not when
    /// `forward_ts` does: so the latter is used for every model that allows it.
    fn forward(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BackendError> {
        if self.gives_tensor {
            match self.module.forward_ts(&inputs) {
                Ok(tensor) => return Ok(vec![tensor]),
                Err(TchError::Torch(text)) if text.contains(NO_TENSOR) => self.gives_tensor = false,
                Err(error) => return Err(said(error)),
            }
        }
        // On a device the leaked headers would keep their memory: it is taken out of them.
        let mut on_device: Vec<Tensor> =
            inputs.iter().filter(|input| input.device() != tch::Device::Cpu).map(Tensor::shallow_clone).collect();
        let inputs: Vec<IValue> = inputs.into_iter().map(IValue::Tensor).collect();
        let output = self.module.forward_is(&inputs);
        if output.is_err() {
            on_device.iter_mut().for_each(|input| drop(input.f_set_()));
        }
        in_order(output.map_err(said)?, &self.signature)
    }
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

/// The same in another kind, if both are floating; everything else stays what it is.
fn converted(tensor: &Tensor, kind: Option<Kind>) -> Result<Tensor, BackendError> {
    let is_floating = |kind: Kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let now = tensor.f_kind().map_err(said)?;
    match kind.filter(|kind| *kind != now && is_floating(*kind) && is_floating(now)) {
        Some(kind) => tensor.f_to_kind(kind).map_err(said),
        None => Ok(tensor.shallow_clone()),
    }
}

/// The outputs in the signature's order: a tensor, a tuple or list of them, or a dictionary by name.
fn in_order(value: IValue, signature: &Signature) -> Result<Vec<Tensor>, BackendError> {
    let odd = || BackendError::threw("an output is neither a tensor nor a tuple, list or dictionary of tensors");
    let tensor = |value| if let IValue::Tensor(tensor) = value { Ok(tensor) } else { Err(odd()) };
    match value {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::TensorList(tensors) => Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => values.into_iter().map(tensor).collect(),
        IValue::GenericDict(mut entries) => {
            let mut named = |name: &str| {
                let is_named = |(key, _): &(IValue, IValue)| matches!(key, IValue::String(key) if key == name);
                let found = entries.iter().position(is_named);
                let missing = || BackendError::threw(format!("the model's dictionary has no output `{name}`"));
                tensor(entries.swap_remove(found.ok_or_else(missing)?).1)
            };
            signature.outputs.iter().map(|output| named(&output.name)).collect()
        }
        _ => Err(odd()),
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
    let pointer = tensor.data_ptr().cast::<u8>();
    if pointer.is_null() {
        return Err(BackendError::threw("libtorch gave a tensor without memory"));
    }
    // SAFETY: the tensor is a `Stack`'s: bytes, at least `length` of them, contiguous, on the CPU, shared with nobody
    // but views that are gone; it is borrowed for as long as the slice lives. Any bytes are valid `u8`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length) })
}

#[expect(unsafe_code, reason = "libtorch computes on the stacked rows where they lie")]
fn view(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor, BackendError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorSpec;

    #[test]
    fn outputs_may_come_as_tensor_tuple_list_or_dictionary() {
        let spec = |name: &str| TensorSpec { name: name.into(), kind: "FP32[rows]".parse().unwrap(), range: None };
        let outputs = vec![spec("one"), spec("two")];
        let signature = Signature { inputs: Vec::new(), outputs, dimensions: Vec::new() };
        let tensor = |value: f32| Tensor::from_slice(&[value]);
        let value = |value: f32| IValue::Tensor(tensor(value));
        let sums = |value| {
            let tensors = in_order(value, &signature).map_err(|error| error.detail)?;
            Ok::<_, String>(tensors.iter().map(|tensor| tensor.double_value(&[0])).collect::<Vec<_>>())
        };
        assert_eq!(sums(value(1.0)), Ok(vec![1.0]));
        assert_eq!(sums(IValue::Tuple(vec![value(1.0), value(2.0)])), Ok(vec![1.0, 2.0]));
        assert_eq!(sums(IValue::TensorList(vec![tensor(1.0), tensor(2.0)])), Ok(vec![1.0, 2.0]));
        let entry = |name: &str, of| (IValue::String(name.into()), value(of));
        let dictionary = vec![entry("x", 0.0), entry("two", 2.0), entry("one", 1.0)];
        assert_eq!(sums(IValue::GenericDict(dictionary)), Ok(vec![1.0, 2.0]));
        let said = sums(IValue::GenericDict(vec![entry("one", 1.0)])).unwrap_err();
        assert_eq!(said, "the model's dictionary has no output `two`");
        assert!(sums(IValue::Tuple(vec![IValue::Int(1)])).is_err());
    }
}
