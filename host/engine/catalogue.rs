//! Which versions of which models there are at present, and what is to be told of each: an immutable map that is
//! exchanged as a whole.
//!
//! Owns what `name@serving` means and the words for a version that does not serve. Refuses to know how a version comes
//! up and goes (`change`), and who uses it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    error::{EngineError, LoadError},
    model::Model,
    reference::{ModelReference, Version},
};
use crate::tensor::Signature;

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
    /// Why its latest load failed; beside a version that serves, why it could not be replaced.
    pub failure: Option<Failure>,
    /// As the Open Inference Protocol's `platform`; empty if it does not serve.
    pub platform: &'static str,
    /// Where it computes; empty if it does not serve.
    pub device: String,
    /// How many lanes it has.
    pub instances: usize,
    /// What it takes and gives; `None` if it does not serve.
    pub signature: Option<Signature>,
    /// Rows in a batch at most.
    pub max_batch_size: usize,
    /// Of its largest rows, as far as memory lets them share a batch now.
    pub safe_batch_size: usize,
    /// What its weights hold on the device; 0 where nobody counts.
    pub weight_bytes: u64,
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
    /// An operator took it out of service.
    Unloaded,
}

/// Why a version could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For operators, with paths.
    pub detail: String,
    /// For everybody: what kind of thing is wrong.
    pub reason: &'static str,
    /// Whether it was so when the host started: then the host is not what its operator meant it to be.
    pub(super) at_start: bool,
}

impl Failure {
    /// What is told of an error.
    pub(super) fn of(error: &LoadError, at_start: bool) -> Self {
        Self { detail: error.to_string(), reason: error.reason(), at_start }
    }
}

/// The place of one version: a model that serves, or nothing, and what went wrong lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) model: Option<Arc<Model>>,
    pub(super) failure: Option<Failure>,
}

impl Slot {
    /// A version that serves.
    pub(super) fn of(model: Arc<Model>) -> Self {
        Self { model: Some(model), failure: None }
    }

    fn state(&self) -> ModelState {
        match (&self.model, &self.failure) {
            (Some(_), _) => ModelState::Ready,
            (None, Some(failure)) => ModelState::Failed { error: failure.detail.clone() },
            (None, None) => ModelState::Unloaded,
        }
    }
}

/// All versions of one model, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(pub(super) BTreeMap<u64, Slot>);

impl Versions {
    /// The models that serve, ascending.
    pub(super) fn models(&self) -> impl DoubleEndedIterator<Item = (u64, &Arc<Model>)> {
        self.0.iter().filter_map(|(version, slot)| Some((*version, slot.model.as_ref()?)))
    }

    /// The model that a reference means, or why there is none.
    pub(super) fn find(&self, name: &str, version: Version) -> Result<Arc<Model>, Option<EngineError>> {
        let (slot, model) = match version {
            Version::Serving => {
                (self.0.last_key_value().map(|(_, slot)| slot), self.models().next_back().map(|(_, model)| model))
            }
            Version::Number(number) => {
                let slot = self.0.get(&number);
                (slot, slot.and_then(|slot| slot.model.as_ref()))
            }
        };
        if let Some(model) = model {
            return Ok(model.clone());
        }
        let model = || ModelReference { name: name.into(), version }.to_string();
        Err(slot.map(|slot| match &slot.failure {
            Some(failure) => EngineError::Failed { model: model(), reason: failure.reason.into() },
            None => EngineError::Unloaded { model: model(), name: name.into() },
        }))
    }
}

/// Every model of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue(pub(super) BTreeMap<String, Arc<Versions>>);

impl Catalogue {
    /// The model that serves under a reference.
    pub(super) fn find(&self, name: &str, version: Version) -> Result<Arc<Model>, EngineError> {
        let found = self.0.get(name).map_or(Err(None), |versions| versions.find(name, version));
        found.map_err(|error| {
            error.unwrap_or_else(|| EngineError::NotFound {
                model: ModelReference { name: name.into(), version }.to_string(),
                known: self.names(),
            })
        })
    }

    /// All names, for a message.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.0.keys().map(String::as_str).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }

    /// Every model that serves.
    pub(super) fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.0.values().flat_map(|versions| versions.models().map(|(_, model)| model))
    }

    /// The first model that does not serve although it should since the start.
    pub(super) fn missing(&self) -> Option<&str> {
        let failed = |slot: &Slot| slot.failure.as_ref().is_some_and(|failure| failure.at_start);
        let missing =
            self.0.iter().find(|(_, versions)| versions.models().next().is_none() && versions.0.values().any(failed));
        missing.map(|(name, _)| name.as_str())
    }

    /// All versions, by name.
    pub(super) fn status(&self) -> Vec<ModelStatus> {
        let each = self.0.iter().flat_map(|(name, versions)| {
            let serving = versions.models().next_back().map(|(version, _)| version);
            versions.0.iter().map(move |(version, slot)| (name, *version, serving == Some(*version), slot))
        });
        each.map(|(name, version, serving, slot)| {
            let model = slot.model.as_ref();
            ModelStatus {
                name: name.clone(),
                version,
                serving,
                state: slot.state(),
                failure: slot.failure.clone(),
                platform: model.map_or("", |model| model.platform()),
                device: model.map(|model| model.device()).unwrap_or_default(),
                instances: model.map_or(0, |model| model.instances()),
                signature: model.map(|model| model.signature().clone()),
                max_batch_size: model.map_or(0, |model| model.max_batch_size()),
                safe_batch_size: model.map_or(0, |model| model.safe_batch_size()),
                weight_bytes: model.map_or(0, |model| model.weight_bytes()),
                queue_rows: model.map_or(0, |model| model.queue_rows()),
                queue_limit_rows: model.map_or(0, |model| model.queue_limit_rows()),
            }
        })
        .collect()
    }
}
