//! libtorch: TorchScript modules on CPU lanes. The only room of the host that knows `tch`.
//!
//! Owns loading and the process-wide settings; `lane` runs batches. Every call that can throw in C++ goes through the
//! variant that returns the error: an exception must never unwind through Rust.

mod datatype;
mod lane;
mod memory;
#[cfg(test)]
pub(super) mod tests;

use std::{path::Path, sync::Arc};

use tch::CModule;

use super::{Backend, BackendError, Device, DeviceMemory, Instance, Loaded};
use crate::tensor::Signature;
use lane::Lane;
use memory::Account;

/// The release that this program is linked against.
const LIBTORCH: &str = "2.11.0";
/// One thread for each lane: two of them spin against each other when the cores are busy.
pub const DEFAULT_INTRA_OP_THREADS: usize = 1;

/// libtorch as a backend.
#[derive(Debug)]
pub struct Torch {
    intra_op_threads: usize,
    memory: Memory,
}

/// What is held on the CPU: by models, and by lanes.
#[derive(Clone, Debug)]
struct Memory {
    device: Arc<Account>,
    weights: Arc<Account>,
    lanes: Arc<Account>,
}

impl Default for Torch {
    fn default() -> Self {
        Self::new(DEFAULT_INTRA_OP_THREADS)
    }
}

impl Torch {
    /// Sets how many threads one operation may use. Holds for the whole process: make one.
    pub fn new(intra_op_threads: usize) -> Self {
        let intra_op_threads = intra_op_threads.max(1);
        tch::set_num_threads(i32::try_from(intra_op_threads).unwrap_or(i32::MAX));
        memory::install();
        let device = Account::device();
        let memory = Memory { weights: device.part(), lanes: device.part(), device };
        Self { intra_op_threads, memory }
    }
}

impl Backend for Torch {
    fn platform(&self) -> &'static str {
        "pytorch_torchscript"
    }

    fn fingerprint(&self) -> String {
        format!("libtorch-{LIBTORCH}-threads-{}", self.intra_op_threads)
    }

    fn load(&self, file: &Path, signature: &Arc<Signature>, device: Device) -> Result<Arc<dyn Loaded>, BackendError> {
        for tensor in signature.inputs.iter().chain(&signature.outputs) {
            datatype::kind(tensor.kind.datatype).ok_or_else(|| {
                BackendError::threw(format!(
                    "`{}`: libtorch does not compute with {}",
                    tensor.name, tensor.kind.datatype
                ))
            })?;
        }
        let Device::Cpu = device;
        let weights = self.memory.weights.part();
        let entered = weights.enter();
        let mut module = CModule::load_on_device(file, tch::Device::Cpu).map_err(lane::said)?;
        module.f_set_eval().map_err(lane::said)?;
        drop(entered);
        let (module, lanes) = (Arc::new(module), self.memory.lanes.clone());
        Ok(Arc::new(Module { module, signature: signature.clone(), weights, lanes }))
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let Memory { device, weights, lanes } = &self.memory;
        Some(DeviceMemory {
            device: "cpu".into(),
            weight_bytes: weights.held(),
            lane_bytes: lanes.held(),
            other_bytes: memory::other_bytes(),
            limit_bytes: device.limit(),
        })
    }

    fn limit_memory(&self, bytes: u64) {
        self.memory.device.set_limit(bytes);
    }
}

struct Module {
    module: Arc<CModule>,
    signature: Arc<Signature>,
    weights: Arc<Account>,
    /// What its lanes' accounts are parts of.
    lanes: Arc<Account>,
}

impl Loaded for Module {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(Lane::new(self.module.clone(), self.signature.clone(), self.lanes.lane())?))
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.held()
    }
}
