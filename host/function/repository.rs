//! The model repository as the Open Inference Protocol asks for it: what is there, and changes of it at run time.
//!
//! Owns the questions; how models are changed is `models`' business.

use super::{
    InvokeError, ModelError, Runtime,
    oip::{IndexEntry, ModelMetadata},
};
use crate::{
    access::Caller,
    engine::{ModelState, ModelStatus},
};

/// A change of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryChange {
    /// Bring the model to what its folder says.
    Load,
    /// Take it out of service.
    Unload,
}

impl Runtime {
    /// What a model takes and gives, of a version or (empty) the one that serves.
    pub fn model_metadata(&self, caller: &Caller, name: &str, version: &str) -> Result<ModelMetadata, InvokeError> {
        let model = self.model_for(caller, name, version)?;
        let all = self.engine.models();
        let ready = |status: &&ModelStatus| status.name == model.name() && status.state == ModelState::Ready;
        let versions = all.iter().filter(ready).map(|status| status.version.to_string()).collect();
        let found = all.iter().filter(ready).find(|status| status.version == model.version());
        let gone = || InvokeError::NoModel { detail: format!("the model `{name}` does not serve"), known: true };
        Ok(ModelMetadata::of(found.ok_or_else(gone)?, versions))
    }

    /// Whether a model would answer now; an error if there is none of that name.
    pub fn model_ready(&self, caller: &Caller, name: &str, version: &str) -> Result<bool, InvokeError> {
        match self.model_for(caller, name, version) {
            Ok(_) => Ok(!self.admission.is_draining()),
            Err(InvokeError::NoModel { known: true, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every version in the repository that the caller may ask, or only those that are ready.
    pub fn repository_index(&self, caller: &Caller, ready: bool) -> Vec<IndexEntry> {
        let mut listed = self.engine.models();
        listed.retain(|status| self.may_ask(caller, &status.name) && (!ready || status.state == ModelState::Ready));
        listed.iter().map(IndexEntry::from).collect()
    }

    /// Loads or unloads all versions of a model. What functions are bound to is not unloaded.
    pub async fn change_repository(&self, change: RepositoryChange, model: &str) -> Result<(), ModelError> {
        match change {
            RepositoryChange::Load => self.models.load(model, None).await.map(drop),
            RepositoryChange::Unload => self.models.unload(model, None, false).await.map(drop),
        }
    }
}
