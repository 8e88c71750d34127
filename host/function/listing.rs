//! Models as they are listed to callers.

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

impl From<ModelStatus> for ModelListing {
    fn from(status: ModelStatus) -> Self {
        let (state, error) = match status.state {
            ModelState::Ready => ("ready", None),
            ModelState::Failed { error } => ("failed", Some(error)),
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
