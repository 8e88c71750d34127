//! What can go wrong with a model and with an inference. Owns the words that a caller or an operator reads; refuses to
//! know statuses and headers, which the edge makes of `fault()` and the variant.

use std::{path::PathBuf, time::Duration};

use super::check::ContractError;
use crate::{
    account::{Holder, OverLimit},
    invocation::Fault,
};

/// Why the engine did not start, or does not have a model.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum EngineError {
    #[error("engine configuration: {0}")]
    Config(String),
    #[error("the model repository {} cannot be read", path.display())]
    Repository { path: PathBuf, source: std::io::Error },
    #[error("there is no model `{model}`; there are: {known}")]
    NotFound { model: String, known: String },
    #[error("the model `{model}` could not be loaded: {reason}")]
    Failed { model: String, reason: String },
    #[error("the model `{model}` is out of service: `tenon models load {name}` brings it back")]
    Unloaded { model: String, name: String },
    #[error("`{0}` does not name a model: write `name`, `name@serving` or `name@3`")]
    Reference(String),
}

impl EngineError {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotFound { .. } | Self::Reference(_) => Fault::Function,
            Self::Config(_) | Self::Repository { .. } | Self::Failed { .. } | Self::Unloaded { .. } => Fault::Host,
        }
    }
}

/// Why one model cannot serve; what an operator reads beside its name.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LoadError {
    #[error("{}: {message}", file.display())]
    Manifest { file: PathBuf, message: String },
    #[error("{}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{} has no version: expected a folder with a number for a name, such as `1`", folder.display())]
    NoVersion { folder: PathBuf },
    #[error("{}: {detail}", file.display())]
    Backend { file: PathBuf, detail: String },
    #[error("{} does not fit in the device's memory: {detail}", file.display())]
    Memory { file: PathBuf, detail: String },
    #[error(
        "{}: in `{precision}` its outputs differ from those in fp32 by {difference:.2e} of the largest, and model.tolerance is \
         {tolerance:.2e}: state another precision, or a tolerance that is right for this model", file.display()
    )]
    Inexact { file: PathBuf, precision: &'static str, difference: f64, tolerance: f64 },
    #[error("instances.device asks for {wanted}, and this host has {there} (`tenon doctor` says why)")]
    NoDevice { wanted: String, there: String },
    #[error("the first rows failed: {0}")]
    WarmUp(String),
    #[error("a lane's thread could not be started: {0}")]
    Thread(String),
}

impl LoadError {
    /// What kind of thing is wrong, for those who have no business with the host's files.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest { .. } => "its model.toml is not valid",
            Self::Read { .. } => "one of its files cannot be read",
            Self::NoVersion { .. } => "it has no version",
            Self::Backend { .. } => "its model file cannot be loaded",
            Self::Memory { .. } => "the device's memory is too small for it",
            Self::Inexact { .. } => "it is less exact than it may be",
            Self::NoDevice { .. } => "the host has not the device that it asks for",
            Self::WarmUp(_) => "its first rows failed",
            Self::Thread(_) => "the host has no thread for it",
        }
    }
}

/// Why models do not change.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ChangeError {
    #[error("there is no model `{model}`; there are: {known}")]
    NotFound { model: String, known: String },
    #[error("there is no version {version} of `{model}`; there are: {known}")]
    NoVersion { model: String, version: u64, known: String },
    #[error("nothing was changed: {}", failures.join("; "))]
    Failed { failures: Vec<String> },
    #[error("`{model}` is not loaded")]
    NotLoaded { model: String },
    #[error("nothing was changed: this host is stopping")]
    Stopped,
    #[error(transparent)]
    Repository(#[from] EngineError),
}

/// Why an inference has no outputs.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum InferError {
    /// The rows are not what the model's signature says; nothing was queued.
    #[error("model `{model}`: {violation}")]
    Contract { model: String, violation: ContractError },
    #[error("an inference of model `{model}` has at most {limit} rows, this one has {rows}")]
    TooManyRows { model: String, rows: usize, limit: usize },
    #[error("the queue of model `{model}` is full")]
    QueueFull { model: String, retry_after: Duration },
    #[error("no instance of model `{model}` was free in time")]
    QueueTimeout { model: String },
    #[error("the deadline passed while rows waited for model `{model}`")]
    Deadline { model: String },
    #[error("model `{model}` failed on these rows: {detail}")]
    ModelFailed { model: String, detail: String },
    /// Without `retry_after` it would be in vain: a row of the caller's is too large for a lane.
    #[error("model `{model}`: {detail}")]
    DeviceMemory { model: String, detail: String, retry_after: Option<Duration> },
    #[error("model `{model}` is out of service at present")]
    Unavailable { model: String },
    /// The outputs would not fit in the account.
    #[error(transparent)]
    Memory(#[from] OverLimit),
}

impl InferError {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooManyRows { .. } => Fault::Caller,
            Self::Contract { .. } | Self::Memory(OverLimit { holder: Holder::Invocation, .. }) => Fault::Function,
            Self::QueueFull { .. }
            | Self::QueueTimeout { .. }
            | Self::Deadline { .. }
            | Self::DeviceMemory { .. }
            | Self::Memory(_) => Fault::Capacity,
            Self::ModelFailed { .. } | Self::Unavailable { .. } => Fault::Host,
        }
    }
}
