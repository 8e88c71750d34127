//! libtorch: TorchScript modules on CPU lanes. The only room of the host that knows `tch`.
//!
//! Owns loading and the process-wide settings; `lane` runs batches. Every call that can throw in C++ goes through the
//! variant that returns the error: an exception must never unwind through Rust.

mod busy;
mod datatype;
mod device;
mod gpu;
mod lane;
mod memory;
mod nvml;
mod reduced;
#[cfg(test)]
pub(super) mod tests;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tch::CModule;

use super::{Backend, BackendError, Device, DeviceActivity, DeviceMemory, Instance, Loaded, Precision};
use crate::tensor::Signature;
use busy::Busy;
use gpu::GpuLane;
use lane::{Forward, Lane};
use memory::Account;
use nvml::{Bus, Driver};

/// The release that this program is linked against.
const LIBTORCH: &str = "2.11.0";
/// One thread for each lane: two of them spin against each other when the cores are busy.
pub const DEFAULT_INTRA_OP_THREADS: usize = 1;
/// What of a GPU's free memory is left alone at first: kernels that are loaded later, other libraries' scratch.
const SPARE_BYTES: u64 = 512 << 20;

/// libtorch as a backend.
#[derive(Debug)]
pub struct Torch {
    intra_op_threads: usize,
    memory: Memory,
    gpus: Vec<Arc<Gpu>>,
    driver: Option<Driver>,
}

/// What is held on the CPU: by models, and by lanes.
#[derive(Clone, Debug)]
struct Memory {
    device: Arc<Account>,
    weights: Arc<Account>,
    lanes: Arc<Account>,
}

/// A GPU, and what is known of it beside what libtorch counts.
#[derive(Debug)]
struct Gpu {
    index: u32,
    /// What was free at the start, less what is left alone.
    bytes: u64,
    /// By which the driver knows it.
    bus: Option<Bus>,
    busy: Busy,
    weights: AtomicU64,
    limit: AtomicU64,
    lost: Mutex<Option<String>>,
}

impl Gpu {
    fn new(index: u32) -> Result<Arc<Self>, BackendError> {
        let bytes = device::figures(index)?.free.saturating_sub(SPARE_BYTES);
        let (weights, limit, lost) = (AtomicU64::new(0), AtomicU64::new(bytes), Mutex::default());
        let bus = Bus::of(index).inspect_err(|error| tracing::warn!(%error, "a GPU's utilisation is not told")).ok();
        Ok(Arc::new(Self { index, bytes, bus, busy: Busy::default(), weights, limit, lost }))
    }

    /// Remembers why it takes nothing any more: such an error stays until the process ends.
    fn is_lost(&self, error: BackendError) -> BackendError {
        let mut lost = self.lost();
        if lost.is_none() {
            tracing::error!(device = %Device::Cuda(self.index), %error, "the device is lost");
            *lost = Some(error.detail.clone());
        }
        BackendError::broken(error.detail)
    }

    /// Whether it still takes work.
    fn works(&self) -> Result<(), BackendError> {
        self.lost().clone().map_or(Ok(()), |why| Err(BackendError::broken(why)))
    }

    fn lost(&self) -> MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let allocated = device::allocated(self.index).ok()?;
        let weight_bytes = self.weights.load(Relaxed).min(allocated);
        Some(DeviceMemory {
            device: Device::Cuda(self.index).to_string().into(),
            weight_bytes,
            lane_bytes: allocated - weight_bytes,
            other_bytes: 0,
            limit_bytes: self.limit.load(Relaxed),
        })
    }
}

impl Default for Torch {
    fn default() -> Self {
        Self::new(DEFAULT_INTRA_OP_THREADS)
    }
}

impl Torch {
    /// Sets how many threads one operation may use, and looks for GPUs. Holds for the whole process: make one.
    pub fn new(intra_op_threads: usize) -> Self {
        let intra_op_threads = intra_op_threads.max(1);
        tch::set_num_threads(i32::try_from(intra_op_threads).unwrap_or(i32::MAX));
        memory::install();
        let device = Account::device();
        let memory = Memory { weights: device.part(), lanes: device.part(), device };
        let gpus = device::load().and_then(|count| {
            (0..count).map(|index| Gpu::new(index).map_err(|error| error.detail)).collect::<Result<Vec<_>, _>>()
        });
        // A host with a broken driver serves on its processor, and says so.
        let gpus = gpus.inspect_err(|error| tracing::error!(error, "there is a driver, but its GPUs cannot be used"));
        let gpus = gpus.unwrap_or_default();
        let driver = (!gpus.is_empty()).then(Driver::load);
        let told = |error: &String| tracing::warn!(error, "GPUs' utilisation, temperature and power are not told");
        let driver = driver.and_then(|driver| driver.inspect_err(told).ok());
        Self { intra_op_threads, memory, gpus, driver }
    }

    fn gpu(&self, device: Device) -> Option<&Arc<Gpu>> {
        let Device::Cuda(index) = device else { return None };
        self.gpus.iter().find(|gpu| gpu.index == index)
    }
}

impl Backend for Torch {
    fn platform(&self) -> &'static str {
        "pytorch_torchscript"
    }

    fn fingerprint(&self, device: Device) -> String {
        match self.gpu(device) {
            // Which GPU it is, libtorch's device-generic half does not tell; how much memory it has comes near.
            Some(gpu) => {
                let total = device::figures(gpu.index).map_or(0, |figures| figures.total);
                format!("libtorch-{LIBTORCH}-cuda-{}-mib", total >> 20)
            }
            None => format!("libtorch-{LIBTORCH}-threads-{}", self.intra_op_threads),
        }
    }

    fn devices(&self) -> Vec<Device> {
        std::iter::once(Device::Cpu).chain(self.gpus.iter().map(|gpu| Device::Cuda(gpu.index))).collect()
    }

    fn lost(&self) -> Option<String> {
        let why = |gpu: &Arc<Gpu>| Some(format!("{}: {}", Device::Cuda(gpu.index), gpu.lost().clone()?));
        self.gpus.iter().find_map(why)
    }

    fn load(
        &self,
        file: &Path,
        signature: &Arc<Signature>,
        (device, precision): (Device, Precision),
    ) -> Result<Arc<dyn Loaded>, BackendError> {
        for tensor in signature.inputs.iter().chain(&signature.outputs) {
            datatype::kind(tensor.kind.datatype).ok_or_else(|| {
                BackendError::threw(format!(
                    "`{}`: libtorch does not compute with {}",
                    tensor.name, tensor.kind.datatype
                ))
            })?;
        }
        reduced::may(device, precision)?;
        if let Some(gpu) = self.gpu(device) {
            return Ok(Arc::new(OnGpu::load(file, signature, (gpu.clone(), precision))?));
        }
        let weights = self.memory.weights.part();
        let entered = weights.enter();
        let (module, _) = module(file, signature, (tch::Device::Cpu, precision))?;
        drop(entered);
        let forward = Forward::new(Arc::new(module), signature.clone()).in_kind(reduced::kind(precision));
        Ok(Arc::new(Module { forward, weights, lanes: self.memory.lanes.clone() }))
    }

    fn memory(&self, device: Device) -> Option<DeviceMemory> {
        if let Some(gpu) = self.gpu(device) {
            return gpu.memory();
        }
        let Memory { device, weights, lanes } = &self.memory;
        Some(DeviceMemory {
            device: "cpu".into(),
            weight_bytes: weights.held(),
            lane_bytes: lanes.held(),
            other_bytes: memory::other_bytes(),
            limit_bytes: device.limit(),
        })
    }

    fn activity(&self, device: Device) -> Option<DeviceActivity> {
        let gpu = self.gpu(device)?;
        let busy_seconds = Some(gpu.busy.seconds());
        let mut activity = DeviceActivity { busy_seconds, ..DeviceActivity::of(device.to_string()) };
        if let Some((driver, bus)) = self.driver.as_ref().zip(gpu.bus.as_ref()) {
            driver.ask(bus, &mut activity);
        }
        Some(activity)
    }

    fn memory_bytes(&self, device: Device) -> Option<u64> {
        self.gpu(device).map(|gpu| gpu.bytes)
    }

    fn limit_memory(&self, device: Device, bytes: u64) {
        match self.gpu(device) {
            Some(gpu) => gpu.limit.store(bytes, Relaxed),
            None => self.memory.device.set_limit(bytes),
        }
    }
}

/// A module as it is to compute, and how many bytes its file has.
fn module(
    file: &Path,
    signature: &Arc<Signature>,
    (to, precision): (tch::Device, Precision),
) -> Result<(CModule, u64), BackendError> {
    if let Some(kind) = reduced::kind(precision) {
        let reduced = reduced::load(file, signature, (to, kind))?;
        return Ok((reduced.module, reduced.bytes));
    }
    // Loading there and not moving there: constants of a trace only come along so.
    let mut module = CModule::load_on_device(file, to).map_err(lane::said)?;
    module.f_set_eval().map_err(lane::said)?;
    Ok((module, file.metadata().map_or(0, |file| file.len())))
}

/// A module in a GPU's memory.
struct OnGpu {
    forward: Forward,
    gpu: Arc<Gpu>,
    precision: Precision,
    weight_bytes: u64,
}

impl OnGpu {
    fn load(
        file: &Path,
        signature: &Arc<Signature>,
        (gpu, precision): (Arc<Gpu>, Precision),
    ) -> Result<Self, BackendError> {
        // Weights lie in the file as they lie in memory. What the allocator holds more now may be others' batches.
        let to = tch::Device::Cuda(gpu.index as usize);
        let (module, weight_bytes) = module(file, signature, (to, precision))?;
        gpu.weights.fetch_add(weight_bytes, Relaxed);
        let forward = Forward::new(Arc::new(module), signature.clone()).in_kind(reduced::kind(precision));
        Ok(Self { forward, gpu, precision, weight_bytes })
    }
}

impl Drop for OnGpu {
    fn drop(&mut self) {
        self.gpu.weights.fetch_sub(self.weight_bytes, Relaxed);
    }
}

impl Loaded for OnGpu {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        self.gpu.works()?;
        Ok(Box::new(GpuLane::new(self.forward.clone(), self.gpu.clone(), self.precision)?))
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

struct Module {
    forward: Forward,
    weights: Arc<Account>,
    /// What its lanes' accounts are parts of.
    lanes: Arc<Account>,
}

impl Loaded for Module {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(Lane::new(self.forward.clone(), self.lanes.lane())?))
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.held()
    }
}
