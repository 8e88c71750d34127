//! Models as they are listed, to callers and to operators.

use serde::Serialize;

use super::{EngineError, ModelError, Runtime};
use crate::{
    access::Caller,
    engine::{Explanation, ModelState, ModelStatus, Version},
    tensor::TensorSpec,
};

/// A model version.
#[derive(Debug, Serialize)]
pub struct ModelListing {
    name: String,
    version: u64,
    serving: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    platform: &'static str,
    device: String,
    instances: usize,
    inputs: Vec<TensorListing>,
    outputs: Vec<TensorListing>,
    max_batch_size: usize,
    safe_batch_size: usize,
    weight_bytes: u64,
    queue_rows: usize,
    queue_limit_rows: usize,
}

/// An input or output: name, datatype, and extents as `model.toml` writes them.
#[derive(Debug, Serialize)]
struct TensorListing {
    name: String,
    datatype: &'static str,
    shape: Vec<String>,
}

impl ModelListing {
    /// For everybody: what is wrong is told without the host's paths.
    pub(super) fn public(status: ModelStatus) -> Self {
        let error = status.failure.as_ref().map(|failure| failure.reason.to_owned());
        Self::new(status, error)
    }

    /// The model's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// For operators.
    pub(super) fn whole(status: ModelStatus) -> Self {
        let error = status.failure.as_ref().map(|failure| failure.detail.clone());
        Self::new(status, error)
    }

    fn new(status: ModelStatus, error: Option<String>) -> Self {
        let state = match status.state {
            ModelState::Ready => "ready",
            ModelState::Failed { .. } => "failed",
            ModelState::Unloaded => "unloaded",
        };
        let (inputs, outputs) = status.signature.map_or_else(Default::default, |it| (it.inputs, it.outputs));
        Self {
            name: status.name,
            version: status.version,
            serving: status.serving,
            state,
            error,
            platform: status.platform,
            device: status.device,
            instances: status.instances,
            inputs: inputs.into_iter().map(tensor).collect(),
            outputs: outputs.into_iter().map(tensor).collect(),
            max_batch_size: status.max_batch_size,
            safe_batch_size: status.safe_batch_size,
            weight_bytes: status.weight_bytes,
            queue_rows: status.queue_rows,
            queue_limit_rows: status.queue_limit_rows,
        }
    }
}

fn tensor(spec: TensorSpec) -> TensorListing {
    let shape = spec.kind.shape.iter().map(ToString::to_string).collect();
    TensorListing { name: spec.name, datatype: spec.kind.datatype.name(), shape }
}

impl Runtime {
    /// The models of this host.
    pub fn models(&self) -> Vec<ModelListing> {
        self.engine.models().into_iter().map(ModelListing::public).collect()
    }

    /// Those of them that a caller may ask.
    pub fn models_for(&self, caller: &Caller) -> Vec<ModelListing> {
        let mut models = self.models();
        models.retain(|model| self.may_ask(caller, model.name()));
        models
    }

    /// The same for operators, with all that is known of what went wrong.
    pub fn models_in_whole(&self) -> Vec<ModelListing> {
        self.engine.models().into_iter().map(ModelListing::whole).collect()
    }

    /// Loads a model, or one version of it, as the repository has it; what there is of it afterwards.
    pub async fn load_model(&self, name: &str, version: Option<u64>) -> Result<Vec<ModelListing>, ModelError> {
        let models = self.models.load(name, version).await?;
        Ok(models.into_iter().map(ModelListing::whole).collect())
    }

    /// Takes a model, or one version of it, out of service.
    pub async fn unload_model(
        &self,
        name: &str,
        version: Option<u64>,
        force: bool,
    ) -> Result<Vec<ModelListing>, ModelError> {
        let models = self.models.unload(name, version, force).await?;
        Ok(models.into_iter().map(ModelListing::whole).collect())
    }

    /// Why a model batches as it does: this version of it, or the one that serves.
    pub fn explain(&self, model: &str, version: Option<u64>) -> Result<Explanation, EngineError> {
        let version = version.map_or(Version::Serving, Version::Number);
        let found = self.engine.model(model, version).map_err(|error| self.in_whole(error));
        Ok(found?.explain())
    }

    /// For operators: what went wrong, with all that is known.
    fn in_whole(&self, error: EngineError) -> EngineError {
        let EngineError::Failed { model, reason } = error else { return error };
        let is = |status: &ModelStatus| status.name == model || format!("{}@{}", status.name, status.version) == model;
        let failures = self.engine.models().into_iter().filter(is).filter_map(|status| status.failure);
        let detail = failures.map(|failure| failure.detail).next_back();
        EngineError::Failed { model, reason: detail.unwrap_or(reason) }
    }
}
