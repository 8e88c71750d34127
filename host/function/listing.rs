//! Models as they are listed, to callers and to operators.

use serde::Serialize;

use crate::{
    engine::{ModelState, ModelStatus},
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
