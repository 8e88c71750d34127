//! What one request works with, to its end, whatever is swapped meanwhile: a revision, and the resolved version of every
//! model that it is bound to.

use std::{collections::BTreeMap, sync::Arc};

use super::Revision;
use crate::{engine::Model, sandbox::TextModel};

/// A revision and its models. Cloning takes two counts.
#[derive(Clone)]
pub struct Snapshot {
    /// The revision that serves.
    pub revision: Arc<Revision>,
    /// Its models, as they were when the snapshot was made.
    pub(super) models: Arc<Models>,
}

/// Bound models by the plugin's name for them.
#[derive(Default)]
pub(super) struct Models {
    pub(super) by_alias: BTreeMap<String, Arc<Model>>,
    /// Models that are out of service: while there is one, the function is not available.
    pub(super) missing: Vec<String>,
    pub(super) text: Arc<BTreeMap<String, TextModel>>,
}

impl Snapshot {
    /// The models in use, as `alias` → `name@version`.
    pub fn bound(&self) -> BTreeMap<String, String> {
        let models = self.models.by_alias.iter();
        models.map(|(alias, model)| (alias.clone(), format!("{}@{}", model.name(), model.version()))).collect()
    }

    /// Whether it is bound to any version of a model.
    pub(super) fn asks(&self, model: &str) -> bool {
        self.revision.manifest.models.values().any(|bound| bound.model.split('@').next() == Some(model))
    }
}
