//! Messages of the protocol's gRPC service that bring no tensors: package `inference`, with the field numbers that its
//! clients have. What brings tensors is read and written field by field in `function::oip`.

use std::collections::HashMap;

use crate::function::oip;

/// `ServerLiveResponse`, `ServerReadyResponse` and `ModelReadyResponse` alike.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Truth {
    #[prost(bool, tag = "1")]
    pub(super) is: bool,
}

/// `ServerMetadataResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) extensions: Vec<String>,
}

/// `ModelReadyRequest` and `ModelMetadataRequest` alike.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ModelName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// `ModelMetadataResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ModelMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMetadata>,
}

/// `ModelMetadataResponse.TensorMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TensorMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

/// `RepositoryIndexRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct IndexRequest {
    #[prost(string, tag = "1")]
    pub(super) repository_name: String,
    #[prost(bool, tag = "2")]
    pub(super) ready: bool,
}

/// `RepositoryIndexResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Index {
    #[prost(message, repeated, tag = "1")]
    pub(super) models: Vec<ModelIndex>,
}

/// `RepositoryIndexResponse.ModelIndex`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ModelIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// `RepositoryModelLoadRequest` and `RepositoryModelUnloadRequest` alike. What parameters are set to is not looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChangeRequest {
    #[prost(string, tag = "1")]
    pub(super) repository_name: String,
    #[prost(string, tag = "2")]
    pub(super) model_name: String,
    #[prost(map = "string, message", tag = "3")]
    pub(super) parameters: HashMap<String, Empty>,
}

/// An answer that says only that it was done.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Empty {}

impl From<oip::ModelMetadata> for ModelMetadata {
    fn from(model: oip::ModelMetadata) -> Self {
        let tensors = |tensors: Vec<oip::TensorMetadata>| tensors.into_iter().map(TensorMetadata::from).collect();
        Self {
            name: model.name,
            versions: model.versions,
            platform: model.platform.into(),
            inputs: tensors(model.inputs),
            outputs: tensors(model.outputs),
        }
    }
}

impl From<oip::TensorMetadata> for TensorMetadata {
    fn from(tensor: oip::TensorMetadata) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype.into(), shape: tensor.shape }
    }
}

impl From<oip::IndexEntry> for ModelIndex {
    fn from(entry: oip::IndexEntry) -> Self {
        let (state, reason) = (entry.state.into(), entry.reason.into());
        Self { name: entry.name, version: entry.version, state, reason }
    }
}
