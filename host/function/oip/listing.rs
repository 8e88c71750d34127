//! Models as the Open Inference Protocol tells of them, by HTTP and by gRPC alike. Owns what a signature is in its words:
//! rows and ragged dimensions are -1. Says of a model that failed only that it did: why is for operators.

use serde::Serialize;

use crate::{
    engine::{ModelState, ModelStatus},
    tensor::{Extent, TensorSpec},
};

/// What a model is.
#[derive(Debug, Serialize)]
pub struct ModelMetadata {
    /// Its name.
    pub name: String,
    /// Its versions that serve, ascending.
    pub versions: Vec<String>,
    /// What runs it.
    pub platform: &'static str,
    /// What it takes.
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output.
#[derive(Debug, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub datatype: &'static str,
    /// Its extents; -1 for rows and for what differs from row to row.
    pub shape: Vec<i64>,
}

/// A model version in the repository's index.
#[derive(Debug, Serialize)]
pub struct IndexEntry {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// `READY` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is not ready; empty if it is.
    pub reason: &'static str,
}

impl ModelMetadata {
    /// What there is to tell about a version, which must be ready, with all versions of its model.
    pub(in crate::function) fn of(status: &ModelStatus, versions: Vec<String>) -> Self {
        let signature = status.signature.as_ref();
        let side = |specs: Option<&Vec<TensorSpec>>| specs.into_iter().flatten().map(tensor).collect();
        Self {
            name: status.name.clone(),
            versions,
            platform: status.platform,
            inputs: side(signature.map(|signature| &signature.inputs)),
            outputs: side(signature.map(|signature| &signature.outputs)),
        }
    }
}

impl From<&ModelStatus> for IndexEntry {
    fn from(status: &ModelStatus) -> Self {
        let (state, reason) = match &status.state {
            ModelState::Ready => ("READY", ""),
            ModelState::Unloaded => ("UNAVAILABLE", "unloaded"),
            ModelState::Failed { .. } => ("UNAVAILABLE", "it could not be loaded; the host's log says why"),
        };
        Self { name: status.name.clone(), version: status.version.to_string(), state, reason }
    }
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    let extents = spec.kind.shape.iter().map(|extent| match extent {
        Extent::Fixed(extent) => i64::try_from(*extent).unwrap_or(i64::MAX),
        Extent::Rows | Extent::Ragged(_) => -1,
    });
    TensorMetadata { name: spec.name.clone(), datatype: spec.kind.datatype.name(), shape: extents.collect() }
}
