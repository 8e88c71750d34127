//! How far a deployment is, as it is told, and why it or an upload was refused. Owns the names for programs; refuses to know
//! how deployments go on.

use serde::Serialize;

use super::super::DeployError;
use crate::{
    account::OverLimit,
    registry::{ChangeError, RegistryError},
};

/// What is said of why one was refused.
const MAX_DETAIL_BYTES: usize = 8 << 10;

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Others are before it.
    Queued,
    /// Its manifest is held against the models.
    Checking,
    /// Its component is compiled and held against the contract.
    Compiling,
    /// Its sample cases run.
    Cases,
    /// It is written to the registry.
    Storing,
    /// It is a revision.
    Ready,
    /// It is none.
    Refused,
}

/// Why a deployment was refused.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// A name for programs.
    pub code: &'static str,
    /// What is wrong and where.
    pub detail: String,
}

/// A deployment as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Deployment {
    /// Its name on this host.
    pub id: String,
    /// Whose function.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// How far it is.
    pub state: Progress,
    /// Sample cases that have passed.
    pub done: usize,
    /// Sample cases in all.
    pub total: usize,
    /// The revision's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The content's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether it serves everything.
    pub promoted: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// How long it took, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum UploadError {
    #[error("too many deployments wait already; come again when some have ended")]
    Busy,
    #[error(transparent)]
    Memory(#[from] OverLimit),
    #[error("this host is stopping")]
    Stopping,
    #[error("{0}")]
    Name(DeployError),
}

pub(super) fn refused(code: &'static str, detail: impl Into<String>) -> Refusal {
    let mut detail: String = detail.into();
    detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
    Refusal { code, detail }
}

pub(super) fn refusal(error: &DeployError) -> Refusal {
    let code = match error {
        DeployError::Name(_) | DeployError::Manifest(_) | DeployError::File { .. } => "manifest",
        DeployError::Component(_) => "component",
        DeployError::Model { .. } => "binding",
        DeployError::NotGranted { .. } => "model-not-granted",
    };
    refused(code, error.to_string())
}

pub(super) fn unstored(error: &RegistryError) -> Refusal {
    refused("registry", error.to_string())
}

pub(super) fn unchanged(error: &ChangeError) -> Refusal {
    let code = if let ChangeError::Refused(refused) = error { refused.code } else { "registry" };
    refused(code, error.to_string())
}
