//! The seam between the engine and whatever computes: three small traits, one for each moment in a model's life.
//!
//! Owns what a backend must do; refuses to know how (libtorch, a fake, later others) and what rows mean. A backend is
//! given the rows of a batch one by one and not as a stacked buffer, because a device copies each row from its pinned
//! memory straight into its slice of the batch, while a CPU lane stacks them first: both stay the backend's choice.

use std::{fmt, path::Path, sync::Arc};

use super::batch::Batch;
pub use crate::telemetry::{DeviceActivity, DeviceMemory};
use crate::tensor::{Datatype, HeapStaging, Signature, Staging};

/// Where an instance computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// A lane on the host's processor.
    Cpu,
    /// A stream on this GPU.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// How exactly a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits throughout.
    #[default]
    Fp32,
    /// Inputs of matrix products and convolutions are rounded to 10 bits of mantissa, on a GPU; a processor computes in 32.
    Tf32,
    /// 16 bits, of which 8 are the mantissa's.
    Bf16,
    /// 16 bits, of which 11 are the mantissa's, and no number above 65504; on a GPU alone.
    Fp16,
}

impl Precision {
    /// From exact to quick.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Tf32, Self::Bf16, Self::Fp16];

    /// The name in `model.toml`.
    pub fn name(self) -> &'static str {
        ["fp32", "tf32", "bf16", "fp16"][self as usize]
    }

    /// What it comes to on a device.
    pub fn on(self, device: Device) -> Self {
        if (self, device) == (Self::Tf32, Device::Cpu) { Self::Fp32 } else { self }
    }

    /// How far outputs may be from those in 32 bits, of the largest of them, unless `model.toml` says otherwise: some ten
    /// roundings of this precision.
    pub fn tolerance(self) -> f64 {
        [0.0, 5e-3, 2e-2, 5e-3][self as usize]
    }
}

/// What a model file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A TorchScript module: runs wherever the host does.
    #[default]
    TorchScript,
    /// A package of AOTInductor: compiled for one kind of device, and native code like the host's own.
    Aoti,
}

impl Format {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::TorchScript, Self::Aoti];

    /// The name in `model.toml`.
    pub fn name(self) -> &'static str {
        ["torchscript", "aoti"][self as usize]
    }

    /// The name of the file in a version's folder.
    pub fn file(self) -> &'static str {
        ["model.pt", "model.pt2"][self as usize]
    }
}

/// How a model file is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// What it is.
    pub format: Format,
    /// Where it computes.
    pub device: Device,
    /// How exactly.
    pub precision: Precision,
    /// How many lanes run it at once.
    pub lanes: usize,
}

/// What is to be done about an error of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Some row made it throw: find out which.
    Threw,
    /// It wanted more memory than it may have: fewer rows may pass.
    OutOfMemory(Short),
    /// The device or the lane takes nothing any more, whatever the rows.
    Broken,
}

/// Who had too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The lane, of its own: the same rows will not pass later either.
    Lane,
    /// The device, which others use, too: the same rows may pass later.
    Device,
}

/// What a backend says when it cannot: one readable line, fit for an operator's log and a tenant's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BackendError {
    /// What is to be done about it.
    pub cause: Cause,
    /// What it said.
    pub detail: String,
}

/// Something that can load model files. Once per process.
pub trait Backend: Send + Sync {
    /// What runs files of this format, as the Open Inference Protocol's `platform` tells it.
    fn platform(&self, format: Format) -> &'static str;

    /// What measured times depend on beside model and device's place: releases, threads, which GPU it is.
    fn fingerprint(&self, device: Device) -> String;

    /// The devices that there are.
    fn devices(&self) -> Vec<Device> {
        vec![Device::Cpu]
    }

    /// Why a device takes nothing any more until this process is started anew; `None` while all is well.
    fn lost(&self) -> Option<String> {
        None
    }

    /// Reads a model file; what comes back is shared read-only by all instances.
    fn load(&self, file: &Path, signature: &Arc<Signature>, how: Loading) -> Result<Arc<dyn Loaded>, BackendError>;

    /// Whether batches on this device are padded to the model's buckets: where each new shape costs something, few shapes
    /// pay. A CPU lane computes any shape as it comes.
    fn pads_to_buckets(&self, device: Device) -> bool {
        match device {
            Device::Cpu => false,
            Device::Cuda(_) => true,
        }
    }

    /// Memory that rows are written into and copied to the device from; so many bytes of it, if it is of a special kind.
    fn staging(&self, _bytes: u64) -> Arc<dyn Staging> {
        Arc::new(HeapStaging)
    }

    /// What a device's memory is used for; `None` where nobody counts.
    fn memory(&self, _device: Device) -> Option<DeviceMemory> {
        None
    }

    /// What a device does at present; `None` where nobody tells. May ask a driver, so it is for whoever looks at figures.
    fn activity(&self, _device: Device) -> Option<DeviceActivity> {
        None
    }

    /// What there was of a device's own memory at the start; `None` for the processor, whose memory is the machine's.
    fn memory_bytes(&self, _device: Device) -> Option<u64> {
        None
    }

    /// How much of a device's memory models and lanes may use together.
    fn limit_memory(&self, _device: Device, _bytes: u64) {}
}

/// A model in memory. Once per model version and device.
pub trait Loaded: Send + Sync {
    /// What one lane needs to run it. Called on the lane's thread, which the instance never leaves: streams, events and
    /// batch tensors belong to it.
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError>;

    /// What it holds by itself, without any lane; 0 where nobody counts.
    fn weight_bytes(&self) -> u64 {
        0
    }
}

/// Shows the outputs of a batch while they lie in the backend's memory, so that each row is copied out once.
pub type Read<'a> = dyn FnMut(&[Dense<'_>]) -> Result<(), BackendError> + 'a;

/// One execution lane of a model.
pub trait Instance {
    /// Runs a batch and shows its outputs, in the signature's order, before it returns. An error says that the batch as
    /// a whole threw; the engine then finds out which row it was.
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError>;

    /// The most memory that it held since this was last asked; `None` where nobody counts.
    fn peak_bytes(&mut self) -> Option<u64> {
        None
    }

    /// How much memory a batch may use here. More ends in an error of cause `OutOfMemory`.
    fn limit_memory(&mut self, _bytes: u64) {}

    /// Gives back what is only kept for the next batch.
    fn release_memory(&mut self) {}
}

/// A dense tensor in host memory: row-major, every row as long as the batch's longest.
#[derive(Clone, Debug)]
pub struct Dense<'a> {
    /// The type of the elements; `None` if the protocol has no name for it.
    pub datatype: Option<Datatype>,
    /// Rows first.
    pub shape: Vec<u64>,
    /// The elements.
    pub bytes: &'a [u8],
}

/// The longest text of a backend that is passed on.
const MAX_DETAIL_CHARACTERS: usize = 300;

impl BackendError {
    /// A batch, or a file, made it throw.
    pub fn threw(detail: impl Into<String>) -> Self {
        Self { cause: Cause::Threw, detail: detail.into() }
    }

    /// It had too little memory.
    pub fn out_of_memory(short: Short, detail: impl Into<String>) -> Self {
        Self { cause: Cause::OutOfMemory(short), detail: detail.into() }
    }

    /// It will not work again.
    pub fn broken(detail: impl Into<String>) -> Self {
        Self { cause: Cause::Broken, detail: detail.into() }
    }

    /// Whether fewer rows might have passed, and who had too little.
    pub fn short(&self) -> Option<Short> {
        if let Cause::OutOfMemory(short) = self.cause { Some(short) } else { None }
    }

    /// One readable line of a library's error text: the first line that says something, cut to a bounded length.
    pub fn one_line(text: &str) -> Self {
        let is_noise = |line: &&str| {
            let line = line.trim();
            let heading = ["Traceback", "The following operation failed", "Serialized"];
            line.is_empty()
                || heading.iter().any(|noise| line.starts_with(noise))
                || line.starts_with("File \"")
                || line.chars().all(|character| "~ ^.<->H".contains(character))
        };
        // TorchScript puts the cause last, after the model's own source; a plain error has it first.
        let cause = text.lines().rev().find(|line| line.trim_start().starts_with("RuntimeError:"));
        let line = cause.or_else(|| text.lines().find(|line| !is_noise(line))).unwrap_or("no reason was given");
        let printable = line.trim().chars().filter(|character| !character.is_control());
        Self::threw(printable.take(MAX_DETAIL_CHARACTERS).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_libtorch_error_the_cause_remains() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized \
                    code (most recent call last):\n  File \"code/__torch__.py\", line 5, in forward\n    return x\n    \
                    ~~~~~ <--- HERE\n\nRuntimeError: index out of range in self\n";
        assert_eq!(BackendError::one_line(text).detail, "RuntimeError: index out of range in self");
        assert_eq!(BackendError::one_line("\n  broken file\nframe #0: x").detail, "broken file");
        assert_eq!(BackendError::one_line("").detail, "no reason was given");
        assert_eq!(BackendError::one_line(&"x".repeat(1000)).detail.len(), MAX_DETAIL_CHARACTERS);
    }
}
