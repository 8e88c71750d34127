//! Models and batches: a repository of models, a queue and lanes for each, rows of many callers in one batch.
//!
//! Owns everything between a checked row and its outputs. Refuses to know functions, plugins and HTTP; of backends it
//! knows the trait in `backend`, and only `torch` knows libtorch.
//!
//! The way of a row: `Model::infer` → `check` → `ticket` → `waiting` (the lock around `queue`, the policy) → `instance`
//! (a lane's thread) → `batch` → `backend` → back into its `ticket` → `Pending::outputs`.

mod advice;
mod backend;
mod batch;
mod check;
mod error;
mod explain;
pub mod fake;
mod figures;
mod history;
mod instance;
mod manifest;
mod model;
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
    sync::Arc,
    time::{Duration, Instant},
};

pub use backend::{Backend, BackendError, Dense, Device, Instance, Loaded, Read};
pub use batch::{Batch, Input};
pub use check::ContractError;
pub use error::{EngineError, InferError, LoadError};
pub use explain::Explanation;
pub use manifest::signature;
pub use model::{Model, Pending};
pub use reference::{ModelReference, Version};
use repository::Found;

use crate::{
    telemetry::Telemetry,
    tensor::{Signature, Staging},
};

/// More lanes for one model than any machine has cores for.
const MAX_LANES: usize = 1024;
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
    /// What a restart runs before it serves.
    pub warm_up: WarmUp,
    /// How long `stop` waits for running batches.
    #[serde(skip)]
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let (models, data) = (repository::DEFAULT_REPOSITORY.into(), "data".into());
        Self { models, data, lanes: None, warm_up: WarmUp::default(), stop_timeout: DEFAULT_STOP_TIMEOUT }
    }
}

impl Config {
    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<(), EngineError> {
        match self.lanes {
            Some(lanes) if lanes == 0 || lanes > MAX_LANES => {
                Err(EngineError::Config(format!("lanes: must be from 1 to {MAX_LANES}, is {lanes}")))
            }
            _ => Ok(()),
        }
    }

    fn lanes(&self) -> usize {
        self.lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// What there is to tell about a model version.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// The version; 0 for a model without one.
    pub version: u64,
    /// Whether `name@serving` means this version.
    pub serving: bool,
    /// Whether it serves.
    pub state: ModelState,
    /// As the Open Inference Protocol's `platform`.
    pub platform: &'static str,
    /// Where it computes; empty if it failed.
    pub device: String,
    /// How many lanes it has.
    pub instances: usize,
    /// What it takes and gives; `None` if it failed.
    pub signature: Option<Signature>,
    /// Rows in a batch at most.
    pub max_batch_size: usize,
    /// Rows that wait.
    pub queue_rows: usize,
    /// Rows that may wait.
    pub queue_limit_rows: usize,
}

/// Whether a model version serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It does.
    Ready,
    /// It could not be loaded.
    Failed {
        /// Why, for the operator.
        error: String,
    },
}

/// The models of this process.
pub struct Engine {
    /// Versions of each model, ascending; the reason in place of one that failed.
    models: BTreeMap<String, BTreeMap<u64, Result<Arc<Model>, String>>>,
    backend: Arc<dyn Backend>,
    stop_timeout: Duration,
}

impl Engine {
    /// Scans the repository, loads and warms every model and starts its lanes. A model that cannot be loaded is listed
    /// as failed with its reason; a repository that cannot be read is an error. Blocks for as long as loading takes.
    pub fn start(config: &Config, backend: Arc<dyn Backend>, telemetry: &Telemetry) -> Result<Arc<Self>, EngineError> {
        config.validate()?;
        let mut models = BTreeMap::new();
        for found in repository::scan(&config.models)? {
            models.insert(found.name.clone(), Self::start_model(&found, config, &*backend, telemetry));
        }
        Ok(Arc::new(Self { models, backend, stop_timeout: config.stop_timeout }))
    }

    fn start_model(
        found: &Found,
        config: &Config,
        backend: &dyn Backend,
        telemetry: &Telemetry,
    ) -> BTreeMap<u64, Result<Arc<Model>, String>> {
        let start = |version: u64| {
            let (begun, name) = (Instant::now(), &found.name);
            let model = Model::start(found, version, config, backend, telemetry.model(name));
            match &model {
                Ok(_) => tracing::info!(model = name, version, seconds = begun.elapsed().as_secs_f64(), "model ready"),
                Err(error) => tracing::error!(model = name, version, %error, "model failed"),
            }
            (version, model.map_err(|error| error.to_string()))
        };
        if found.versions.is_empty() {
            let error = LoadError::NoVersion { folder: found.folder.clone() };
            tracing::error!(model = found.name, %error, "model failed");
            return BTreeMap::from([(0, Err(error.to_string()))]);
        }
        found.versions.iter().copied().map(start).collect()
    }

    /// A model that serves. Whoever holds it keeps it, whatever serves later.
    pub fn model(&self, name: &str, version: Version) -> Result<Arc<Model>, EngineError> {
        let versions = self.models.get(name);
        let found = versions.and_then(|versions| match version {
            Version::Serving => versions.last_key_value().map(|(_, model)| model),
            Version::Number(number) => versions.get(&number),
        });
        let model = || ModelReference { name: name.into(), version }.to_string();
        match found {
            Some(Ok(found)) => Ok(found.clone()),
            Some(Err(reason)) => Err(EngineError::Failed { model: model(), reason: reason.clone() }),
            None => {
                let names: Vec<_> = self.models.keys().map(String::as_str).collect();
                let known = if names.is_empty() { "none".into() } else { names.join(", ") };
                Err(EngineError::NotFound { model: model(), known })
            }
        }
    }

    /// All models and versions, by name.
    pub fn models(&self) -> Vec<ModelStatus> {
        let status = |(name, versions): (&String, &BTreeMap<u64, Result<Arc<Model>, String>>)| {
            let serving = versions.last_key_value().map_or(0, |(version, _)| *version);
            let each = versions.iter().map(move |(version, model)| (*version, *version == serving, model));
            each.map(|(version, serving, model)| self.status(name, (version, serving), model)).collect::<Vec<_>>()
        };
        self.models.iter().flat_map(status).collect()
    }

    fn status(&self, name: &str, (version, serving): (u64, bool), model: &Result<Arc<Model>, String>) -> ModelStatus {
        let state = match model {
            Ok(_) => ModelState::Ready,
            Err(error) => ModelState::Failed { error: error.clone() },
        };
        let model = model.as_ref().ok();
        ModelStatus {
            name: name.into(),
            version,
            serving,
            state,
            platform: self.backend.platform(),
            device: model.map(|model| model.device()).unwrap_or_default(),
            instances: model.map_or(0, |model| model.instances()),
            signature: model.map(|model| model.signature().clone()),
            max_batch_size: model.map_or(0, |model| model.max_batch_size()),
            queue_rows: model.map_or(0, |model| model.queue_rows()),
            queue_limit_rows: model.map_or(0, |model| model.queue_limit_rows()),
        }
    }

    /// Memory that guests and host calls write tensors into.
    pub fn staging(&self) -> Arc<dyn Staging> {
        self.backend.staging()
    }

    /// Closes the queues, answers what waits and joins the lanes; bounded, so that a batch that hangs is left behind.
    pub fn stop(&self) {
        let models: Vec<_> = self.models.values().flat_map(BTreeMap::values).flatten().collect();
        models.iter().for_each(|model| model.close());
        let until = Instant::now() + self.stop_timeout;
        models.iter().for_each(|model| model.join(until));
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("models", &self.models.keys()).finish_non_exhaustive()
    }
}
