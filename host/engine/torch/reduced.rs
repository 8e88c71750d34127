//! Modules that compute in 16 bits: their weights are converted once, when they are loaded.
//!
//! Owns which kind that is and how a file becomes such a module. Refuses to judge whether it is exact enough: the engine
//! compares outputs. Converting weights instead of casting around each operation, because autocast under TorchScript was
//! seen to take eight times as long as 32 bits.

use std::{
    ffi::{CString, c_char, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    slice,
    sync::Arc,
};

use tch::{CModule, Kind, Tensor};

use super::{
    datatype, device,
    forward::{Forward, said},
};
use crate::{
    engine::{BackendError, Device, Precision},
    tensor::{Extent, Signature, TensorSpec},
};

/// The longest a row is made for the first try: a kind that does not fit shows with any length.
const TRIED_EXTENT: u64 = 16;

type Take = unsafe extern "C" fn(whose: *mut c_void, bytes: *const c_char, length: usize);

#[expect(unsafe_code, reason = "tch reaches nothing of a module's graph")]
// SAFETY: script.cpp defines it with these types. It calls `take` at most once, with bytes that live for that call, writes at
// most `room` bytes of text, and throws nothing.
unsafe extern "C" {
    fn tenon_script_reduced(
        file: *const c_char,
        brain: bool,
        casts: bool,
        take: Take,
        whose: *mut c_void,
        text: *mut c_char,
        room: usize,
    ) -> i32;
}

/// A module, and how many bytes its file would have.
pub(super) struct Reduced {
    pub(super) module: CModule,
    pub(super) bytes: u64,
}

/// What weights and floating inputs are converted to; `None` where they stay as they are.
pub(super) fn kind(precision: Precision) -> Option<Kind> {
    match precision {
        Precision::Fp32 | Precision::Tf32 => None,
        Precision::Bf16 => Some(Kind::BFloat16),
        Precision::Fp16 => Some(Kind::Half),
    }
}

/// Whether a device computes so at all.
pub(super) fn may(device: Device, precision: Precision) -> Result<(), BackendError> {
    if (device, precision) == (Device::Cpu, Precision::Fp16) {
        let message =
            "model.precision: `fp16` is for GPUs, and this model is to run on the processor: state `bf16` or `fp32`";
        return Err(BackendError::threw(message));
    }
    Ok(())
}

/// Loads a file with weights of this kind. Where the module asks for 32 bits by name, it gets them; only where that does not
/// go together with the rest, it gets this kind there, too.
pub(super) fn load(
    file: &Path,
    signature: &Arc<Signature>,
    (to, kind): (tch::Device, Kind),
) -> Result<Reduced, BackendError> {
    let attempt = |casts| {
        let bytes = converted(file, kind, casts)?;
        let mut module = CModule::load_data_on_device(&mut &bytes[..], to).map_err(said)?;
        module.f_set_eval().map_err(said)?;
        let module = Arc::new(module);
        tried(Forward::script(module.clone(), Some(kind), signature.clone()), to)?;
        let module = Arc::into_inner(module).ok_or_else(|| BackendError::threw("its first try holds it"))?;
        Ok(Reduced { module, bytes: bytes.len() as u64 })
    };
    attempt(false).or_else(|first: BackendError| match first.short() {
        Some(_) => Err(first),
        // What is wrong with the module itself is wrong again, and then the first one tells it better.
        None => attempt(true).map_err(|_| first),
    })
}

fn converted(file: &Path, kind: Kind, casts: bool) -> Result<Vec<u8>, BackendError> {
    let name = CString::new(file.as_os_str().as_bytes()).map_err(|error| BackendError::threw(error.to_string()))?;
    let mut bytes: Vec<u8> = Vec::new();
    let whose = (&raw mut bytes).cast();
    #[expect(unsafe_code, reason = "the shim's calls")]
    // SAFETY: a text that ends with 0, a vector that `take` appends to and nobody else uses meanwhile, and room for what is said.
    device::call(|text, room| unsafe {
        tenon_script_reduced(name.as_ptr(), kind == Kind::BFloat16, casts, take, whose, text, room)
    })?;
    Ok(bytes)
}

#[expect(unsafe_code, reason = "what script.cpp made is handed on as a pointer")]
unsafe extern "C" fn take(whose: *mut c_void, bytes: *const c_char, length: usize) {
    // SAFETY: `converted` gave `whose`, a vector that lives until the call is over; `bytes` has `length` bytes during it.
    let (into, bytes) = unsafe { (&mut *whose.cast::<Vec<u8>>(), slice::from_raw_parts(bytes.cast::<u8>(), length)) };
    into.extend_from_slice(bytes);
}

/// Runs one made-up row: kinds that do not go together throw.
fn tried(mut forward: Forward, to: tch::Device) -> Result<(), BackendError> {
    let _no_grad = tch::no_grad_guard();
    let signature = forward.signature.clone();
    let inputs = signature.inputs.iter().map(|input| made_up(input, &signature, to));
    forward.run(inputs.collect::<Result<_, _>>()?).map(drop)
}

fn made_up(input: &TensorSpec, signature: &Signature, to: tch::Device) -> Result<Tensor, BackendError> {
    let max = |name: &str| signature.dimensions.iter().find(|(known, _)| known == name).map_or(1, |(_, max)| *max);
    let extent = |extent: &Extent| match extent {
        Extent::Rows => 1,
        Extent::Fixed(extent) => *extent as i64,
        Extent::Ragged(name) => max(name).min(TRIED_EXTENT) as i64,
    };
    let shape: Vec<i64> = input.kind.shape.iter().map(extent).collect();
    let kind = datatype::kind(input.kind.datatype);
    let kind = kind.ok_or_else(|| BackendError::threw("a datatype that libtorch does not know"))?;
    let value = input.range.map_or(1, |(low, high)| 1.clamp(low, high));
    Tensor::f_full(&shape[..], value, (kind, to)).map_err(said)
}
