//! Models and batches: a repository of models, a queue and lanes for each, rows of many callers in one batch.
//!
//! Owns everything between a checked row and its outputs. Refuses to know functions, plugins and HTTP; of backends it
//! knows the trait in `backend`, and only `torch` knows libtorch.
//!
//! The way of a row: `Model::infer` → `check` → `ticket` → `waiting` (the lock around `queue`, the policy) → `instance`
//! (a lane's thread) → `batch` → `backend` → back into its `ticket` → `Pending::outputs`.

mod accuracy;
mod advice;
mod backend;
mod batch;
mod budget;
mod catalogue;
mod ceiling;
mod change;
mod check;
mod error;
mod explain;
pub mod fake;
mod figures;
mod history;
mod instance;
mod lane;
mod manifest;
mod model;
mod pending;
mod profile;
mod queue;
mod reference;
mod repository;
#[cfg(test)]
mod tests;
mod ticket;
pub mod torch;
mod waiting;
mod warm_up;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

pub use backend::{
    Backend, BackendError, Cause, Dense, Device, DeviceActivity, DeviceMemory, Format, Instance, Loaded, Loading,
    Precision, Read, Short,
};
pub use batch::{Batch, Input};
use budget::Budget;
use catalogue::{Catalogue, Slot, Versions};
pub use catalogue::{Failure, ModelState, ModelStatus};
pub use change::Change;
pub use check::ContractError;
pub use error::{ChangeError, EngineError, InferError, LoadError};
pub use explain::Explanation;
pub use manifest::signature;
pub use model::Model;
pub use pending::Pending;
pub use reference::{ModelReference, Version};
use repository::Found;

use crate::{telemetry::Telemetry, tensor::Staging};

/// More lanes for one model than any machine has cores for.
const MAX_LANES: usize = 1024;
/// A hundred pictures of 640 x 640 in 32 bits.
const DEFAULT_PINNED_BYTES: u64 = 512 << 20;
/// Beyond this it is taken for a slip of the pen.
const MOST_PINNED_BYTES: u64 = 1 << 40;
/// Above this share of the device's memory requests are refused.
const DEFAULT_HIGH_MARK: f64 = 0.9;
/// Less than any model's weights: a slip of the pen.
const LEAST_MEMORY_BYTES: u64 = 1 << 20;
/// How long `stop` waits for running batches.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a model is run before it serves, when its profile is already known. (Without a profile all is measured.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// Every bucket.
    Full,
    /// One row on each lane.
    #[default]
    First,
}

/// How the engine is set up.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model repository.
    pub models: PathBuf,
    /// Where measured profiles are kept.
    pub data: PathBuf,
    /// Lanes for one model at most; the number of cores unless stated.
    pub lanes: Option<usize>,
    /// What models and lanes may hold on a device; three quarters of what there is unless stated.
    pub memory_bytes: Option<u64>,
    /// What they may hold on each GPU; what was free there at the start unless stated.
    pub cuda_memory_bytes: Option<u64>,
    /// Pinned memory that guests write tensors into, where there is a GPU.
    pub pinned_bytes: u64,
    /// The share of it above which requests are refused.
    pub memory_high_mark: f64,
    /// What a restart runs before it serves.
    pub warm_up: WarmUp,
    /// How long `stop` waits for running batches.
    #[serde(skip)]
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let (models, data) = (repository::DEFAULT_REPOSITORY.into(), "data".into());
        Self {
            models,
            data,
            lanes: None,
            memory_bytes: None,
            cuda_memory_bytes: None,
            pinned_bytes: DEFAULT_PINNED_BYTES,
            memory_high_mark: DEFAULT_HIGH_MARK,
            warm_up: WarmUp::default(),
            stop_timeout: DEFAULT_STOP_TIMEOUT,
        }
    }
}

impl Config {
    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<(), EngineError> {
        match self.lanes {
            Some(lanes) if lanes == 0 || lanes > MAX_LANES => {
                Err(EngineError::Config(format!("lanes: must be from 1 to {MAX_LANES}, is {lanes}")))
            }
            _ if self.memory_bytes.is_some_and(|bytes| bytes < LEAST_MEMORY_BYTES) => {
                Err(EngineError::Config(format!("memory_bytes: must be at least {LEAST_MEMORY_BYTES}")))
            }
            _ if self.cuda_memory_bytes.is_some_and(|bytes| bytes < LEAST_MEMORY_BYTES) => {
                Err(EngineError::Config(format!("cuda_memory_bytes: must be at least {LEAST_MEMORY_BYTES}")))
            }
            _ if self.pinned_bytes > MOST_PINNED_BYTES => {
                Err(EngineError::Config(format!("pinned_bytes: must be at most {MOST_PINNED_BYTES}")))
            }
            _ if !(self.memory_high_mark > 0.0 && self.memory_high_mark <= 1.0) => Err(EngineError::Config(format!(
                "memory_high_mark: must be above 0 and at most 1, is {}",
                self.memory_high_mark
            ))),
            _ => Ok(()),
        }
    }

    /// The memory of a device, and how much of it may be used.
    fn budget(&self, backend: &Arc<dyn Backend>, device: Device) -> Arc<Budget> {
        let own =
            backend.memory_bytes(device).map(|bytes| self.cuda_memory_bytes.map_or(bytes, |most| most.min(bytes)));
        let bytes = own.or(self.memory_bytes).unwrap_or_else(budget::default_bytes);
        Budget::new(backend.clone(), device, bytes, self.memory_high_mark)
    }

    fn lanes(&self) -> usize {
        self.lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// The models of this process.
pub struct Engine {
    catalogue: ArcSwap<Catalogue>,
    /// How often the catalogue has changed.
    changes: AtomicU64,
    config: Config,
    backend: Arc<dyn Backend>,
    budgets: BTreeMap<Device, Arc<Budget>>,
    telemetry: Arc<Telemetry>,
    /// Versions that are in no catalogue any more and may still have invocations.
    leaving: Mutex<Vec<Weak<Model>>>,
    stopped: AtomicBool,
}

impl Engine {
    /// Scans the repository, loads and warms every model and starts its lanes. A model that cannot be loaded is listed
    /// as failed with its reason; a repository that cannot be read is an error. Blocks for as long as loading takes.
    pub fn start(
        config: &Config,
        backend: Arc<dyn Backend>,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Arc<Self>, EngineError> {
        config.validate()?;
        let devices = backend.devices();
        let budgets = devices.iter().map(|device| (*device, config.budget(&backend, *device))).collect();
        let (counted, asked, all) = (backend.clone(), backend.clone(), devices.clone());
        telemetry.watch_devices(move || devices.iter().filter_map(|device| counted.memory(*device)).collect());
        telemetry.watch_activity(move || all.iter().filter_map(|device| asked.activity(*device)).collect());
        let mut engine = Self {
            catalogue: ArcSwap::default(),
            changes: AtomicU64::new(0),
            config: config.clone(),
            backend,
            budgets,
            telemetry: telemetry.clone(),
            leaving: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        let found = repository::scan(&config.models)?;
        let models = found.iter().map(|found| (found.name.clone(), Arc::new(engine.first(found))));
        let models = Catalogue(models.collect());
        // All at once: which of them fit must not depend on their order.
        models.models().for_each(|model| model.serve());
        engine.catalogue = ArcSwap::from_pointee(models);
        Ok(Arc::new(engine))
    }

    /// All versions of a model, each for itself: at the start there is nothing that could go on instead.
    fn first(&self, found: &Found) -> Versions {
        let failed = |version: u64, error: &LoadError| {
            tracing::error!(model = found.name, version, %error, "model failed");
            Slot { model: None, failure: Some(Failure::of(error, true)) }
        };
        if found.versions.is_empty() {
            let error = LoadError::NoVersion { folder: found.folder.clone() };
            return Versions([(0, failed(0, &error))].into());
        }
        let start = |version: u64| match self.start_version(found, version, &[]) {
            Ok(model) => Slot::of(model),
            Err(error) => failed(version, &error),
        };
        Versions(found.versions.iter().map(|version| (*version, start(*version))).collect())
    }

    /// A model that serves. Whoever holds it keeps it, whatever serves later.
    pub fn model(&self, name: &str, version: Version) -> Result<Arc<Model>, EngineError> {
        self.catalogue.load().find(name, version)
    }

    /// All models and versions, by name.
    pub fn models(&self) -> Vec<ModelStatus> {
        self.catalogue.load().status()
    }

    /// A model that should serve since the start and does not.
    pub fn missing(&self) -> Option<String> {
        self.catalogue.load().missing().map(str::to_owned)
    }

    /// A number that is another one whenever models have changed: what was refused for a model is worth another try.
    pub fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// Whether it has a device that can be lost while the process goes on.
    pub fn can_be_lost(&self) -> bool {
        self.budgets.keys().any(|device| *device != Device::Cpu)
    }

    /// Why a device takes nothing any more; this process must be started anew.
    pub fn lost(&self) -> Option<String> {
        self.backend.lost()
    }

    /// Memory that guests and host calls write tensors into.
    pub fn staging(&self) -> Arc<dyn Staging> {
        self.backend.staging(self.config.pinned_bytes)
    }

    /// Closes the queues, answers what waits and joins the lanes; bounded, so that a batch that hangs is left behind.
    pub fn stop(&self) {
        let leaving = {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            self.stopped.store(true, SeqCst);
            std::mem::take(&mut *leaving)
        };
        let catalogue = self.catalogue.load();
        let models = catalogue.models().cloned().chain(leaving.iter().filter_map(Weak::upgrade));
        let models: Vec<_> = models.collect();
        models.iter().for_each(|model| model.close());
        let until = Instant::now() + self.config.stop_timeout;
        models.iter().for_each(|model| model.join(until));
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("catalogue", &self.catalogue.load()).finish_non_exhaustive()
    }
}
