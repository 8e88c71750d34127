//! What one request works with, to its end, whatever is swapped meanwhile: a revision, and the resolved version of every
//! model that it is bound to.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::Revision;
use crate::{
    cache::{KeyBuilder, ScopeId},
    engine::Model,
    sandbox::TextModel,
};

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
    /// Differs wherever an answer may: of the plugin's names, versions and files.
    pub(super) identity: [u8; 32],
    /// What names of answers of the one revision that has these begin with, and what they can be invalidated by.
    pub(super) named: OnceLock<(KeyBuilder, Arc<[ScopeId]>)>,
}

impl Models {
    /// Notes what they are, once all are there.
    pub(super) fn identified(mut self) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (alias, model) in &self.by_alias {
            let version = model.version().to_string();
            let digests = model.digests().iter().map(String::as_str);
            for part in [alias, model.name(), &version].into_iter().chain(digests) {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
            // How many digests there are differs.
            hasher.update(&u64::MAX.to_le_bytes());
        }
        self.identity = *hasher.finalize().as_bytes();
        self
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let revision = &self.revision;
        f.debug_tuple("Snapshot").field(&revision.tenant).field(&revision.function).field(&revision.number).finish()
    }
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
