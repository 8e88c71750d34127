//! libtorch: TorchScript modules and packages of AOTInductor, on CPU lanes and on GPUs. The only room of the host that knows
//! `tch`.
//!
//! Owns loading and the process-wide settings; `lane` and `gpu` run batches. Every call that can throw in C++ goes through the
//! variant that returns the error: an exception must never unwind through Rust.

mod archive;
mod busy;
mod datatype;
mod device;
mod forward;
mod gpu;
mod lane;
mod memory;
mod nvml;
mod package;
mod pinned;
mod reduced;
mod staging;
#[cfg(test)]
pub(super) mod tests;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tch::CModule;

use super::{Backend, BackendError, Device, DeviceActivity, DeviceMemory, Format, Instance, Loaded, Loading};
use crate::tensor::{HeapStaging, Signature, Staging};
use busy::Busy;
use forward::Forward;
use gpu::GpuLane;
use lane::Lane;
use memory::{Account, Held};
use nvml::{Bus, Driver};
use package::Package;
use staging::{PinnedStaging, Region};

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
    staging: Shared,
    driver: Option<Driver>,
}

/// The pinned memory of guests' tensors, once somebody has asked for it.
type Shared = Arc<OnceLock<Arc<Region>>>;

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
    /// Where guests' rows may lie; all GPUs copy from the same.
    staging: Shared,
    weights: AtomicU64,
    /// Of packages, which hold theirs beside libtorch's allocator.
    packages: AtomicU64,
    limit: AtomicU64,
    lost: Mutex<Option<String>>,
}

impl Gpu {
    fn new(index: u32, staging: Shared) -> Result<Arc<Self>, BackendError> {
        let bytes = device::figures(index)?.free.saturating_sub(SPARE_BYTES);
        let (weights, packages, limit) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(bytes));
        let lost = Mutex::default();
        let bus = Bus::of(index).inspect_err(|error| tracing::warn!(%error, "a GPU's utilisation is not told")).ok();
        Ok(Arc::new(Self { index, bytes, bus, busy: Busy::default(), staging, weights, packages, limit, lost }))
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

    /// The same, asked of the device: no lane may have noticed yet.
    fn still_works(&self) -> Result<(), BackendError> {
        self.works()?;
        device::answers(self.index).map_err(|error| self.is_lost(error))
    }

    fn lost(&self) -> MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weights_of(&self, format: Format) -> &AtomicU64 {
        match format {
            Format::TorchScript => &self.weights,
            Format::Aoti => &self.packages,
        }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let allocated = device::allocated(self.index).ok()?;
        let weight_bytes = self.weights.load(Relaxed).min(allocated);
        Some(DeviceMemory {
            device: Device::Cuda(self.index).to_string().into(),
            weight_bytes: weight_bytes + self.packages.load(Relaxed),
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
        let staging = Shared::default();
        let gpus = device::load().and_then(|count| {
            (0..count)
                .map(|index| Gpu::new(index, staging.clone()).map_err(|error| error.detail))
                .collect::<Result<Vec<_>, _>>()
        });
        // A host with a broken driver serves on its processor, and says so.
        let gpus = gpus.inspect_err(|error| tracing::error!(error, "there is a driver, but its GPUs cannot be used"));
        let gpus = gpus.unwrap_or_default();
        let driver = (!gpus.is_empty()).then(Driver::load);
        let told = |error: &String| tracing::warn!(error, "GPUs' utilisation, temperature and power are not told");
        let driver = driver.and_then(|driver| driver.inspect_err(told).ok());
        Self { intra_op_threads, memory, gpus, staging, driver }
    }

    fn gpu(&self, device: Device) -> Option<&Arc<Gpu>> {
        let Device::Cuda(index) = device else { return None };
        self.gpus.iter().find(|gpu| gpu.index == index)
    }
}

impl Backend for Torch {
    fn platform(&self, format: Format) -> &'static str {
        match format {
            Format::TorchScript => "pytorch_torchscript",
            Format::Aoti => "pytorch_aoti",
        }
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

    fn load(&self, file: &Path, signature: &Arc<Signature>, how: Loading) -> Result<Arc<dyn Loaded>, BackendError> {
        for tensor in signature.inputs.iter().chain(&signature.outputs) {
            datatype::kind(tensor.kind.datatype).ok_or_else(|| {
                BackendError::threw(format!(
                    "`{}`: libtorch does not compute with {}",
                    tensor.name, tensor.kind.datatype
                ))
            })?;
        }
        reduced::may(how.device, how.precision)?;
        if let Some(gpu) = self.gpu(how.device) {
            return Ok(Arc::new(OnGpu::load(file, signature, (gpu.clone(), how))?));
        }
        let weights = self.memory.weights.part();
        // What a package holds does not come through libtorch's allocator: it is charged before.
        // Twice, because it is there as it is mapped and as it is copied.
        let bytes = if how.format == Format::Aoti { 2 * file_bytes(file) } else { 0 };
        let held = weights.hold(bytes)?;
        let entered = weights.enter();
        let (forward, _) = forward(file, signature, (tch::Device::Cpu, how))?;
        drop(entered);
        Ok(Arc::new(OnCpu { forward, weights, lanes: self.memory.lanes.clone(), _held: held }))
    }

    fn staging(&self, bytes: u64) -> Arc<dyn Staging> {
        if self.gpus.is_empty() || bytes == 0 {
            return Arc::new(HeapStaging);
        }
        if self.staging.get().is_none() {
            match device::pinned(bytes as usize) {
                Ok(memory) => drop(self.staging.set(Arc::new(Region::new(memory)))),
                Err(error) => {
                    tracing::warn!(%error, bytes, "no pinned memory for tensors: they are gathered for each batch")
                }
            }
        }
        match self.staging.get() {
            Some(region) => Arc::new(PinnedStaging(region.clone())),
            None => Arc::new(HeapStaging),
        }
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

/// A model as it is to compute, and how many bytes its weights have.
fn forward(
    file: &Path,
    signature: &Arc<Signature>,
    (to, how): (tch::Device, Loading),
) -> Result<(Forward, u64), BackendError> {
    let script = |module, kind| Forward::script(Arc::new(module), kind, signature.clone());
    if how.format == Format::Aoti {
        let package = Package::load(file, to, how.lanes)?;
        return Ok((Forward::package(package, signature.clone()), file_bytes(file)));
    }
    if let Some(kind) = reduced::kind(how.precision) {
        let reduced = reduced::load(file, signature, (to, kind))?;
        return Ok((script(reduced.module, Some(kind)), reduced.bytes));
    }
    // Loading there and not moving there: constants of a trace only come along so.
    let mut module = CModule::load_on_device(file, to).map_err(forward::said)?;
    module.f_set_eval().map_err(forward::said)?;
    Ok((script(module, None), file_bytes(file)))
}

/// Weights lie in a file as they lie in memory.
fn file_bytes(file: &Path) -> u64 {
    file.metadata().map_or(0, |file| file.len())
}

/// A model in a GPU's memory.
struct OnGpu {
    forward: Forward,
    gpu: Arc<Gpu>,
    how: Loading,
    weight_bytes: u64,
}

impl OnGpu {
    fn load(file: &Path, signature: &Arc<Signature>, (gpu, how): (Arc<Gpu>, Loading)) -> Result<Self, BackendError> {
        // By the file, and not by what the allocator holds more now, which may be others' batches.
        let to = tch::Device::Cuda(gpu.index as usize);
        if how.format == Format::Aoti {
            // A package takes memory from CUDA itself, which does not know what libtorch only keeps.
            device::empty_cache()?;
        }
        let (forward, weight_bytes) = forward(file, signature, (to, how))?;
        gpu.weights_of(how.format).fetch_add(weight_bytes, Relaxed);
        Ok(Self { forward, gpu, how, weight_bytes })
    }
}

impl Drop for OnGpu {
    fn drop(&mut self) {
        self.gpu.weights_of(self.how.format).fetch_sub(self.weight_bytes, Relaxed);
        if self.how.format == Format::Aoti && self.gpu.still_works().is_err() {
            // A package frees by CUDA's own calls, which throw on a device that is lost, in a destructor.
            std::mem::forget(self.forward.clone());
        }
    }
}

impl Loaded for OnGpu {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        self.gpu.works()?;
        Ok(Box::new(GpuLane::new(self.forward.clone(), self.gpu.clone(), self.how.precision)?))
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// A model in the process's memory.
struct OnCpu {
    forward: Forward,
    weights: Arc<Account>,
    /// What its lanes' accounts are parts of.
    lanes: Arc<Account>,
    _held: Held,
}

impl Loaded for OnCpu {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(Lane::new(self.forward.clone(), self.lanes.lane())?))
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.held()
    }
}
