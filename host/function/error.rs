//! Everything that can end an invocation without an answer of its plugin. How it looks over HTTP is `http`'s table.

use std::time::Duration;

use crate::{
    account::{Holder, OverLimit},
    invocation::{Fault, Rejection},
};

// Whoever reads an `InvokeError` to its end meets these, without having to know the rooms they come from.
pub use crate::{
    engine::{EngineError, InferError},
    sandbox::SandboxError,
};

use super::{body::BodyError, identity::AccessError};

/// Why an invocation has no response.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// No such function.
    #[error("there is no function `{tenant}/{function}`")]
    FunctionNotFound {
        /// As asked for.
        tenant: String,
        /// As asked for.
        function: String,
    },
    /// The function has no such ready revision.
    #[error("`{function}` has no ready revision {revision}")]
    RevisionNotFound {
        /// The function's name.
        function: String,
        /// As asked for.
        revision: String,
    },
    /// The body could not be taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The request says no inference that could be asked for.
    #[error("{0}")]
    Malformed(String),
    /// The request takes more than it may.
    #[error("{0}")]
    TooLarge(String),
    /// No such model, or it does not serve.
    #[error("{detail}")]
    NoModel {
        /// What was asked for and what there is.
        detail: String,
        /// Whether it is there, but could not be loaded.
        known: bool,
    },
    /// The plugin refused the request.
    #[error("the plugin refused the request: {}", .0.code)]
    Rejected(Box<Rejection>),
    /// More rows than the function may ask for in one invocation.
    #[error("the request comes to {rows} rows, the function allows {limit}")]
    TooManyRows {
        /// Rows so far.
        rows: u64,
        /// `limits.max_rows`.
        limit: u64,
    },
    /// As many invocations as the host allows are running.
    #[error("all {limit} places for invocations are taken")]
    Concurrency {
        /// How many there are.
        limit: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// The tenant runs as many of them as leave some to others.
    #[error("this tenant has {held} invocations in progress, and the rest of the {limit} places are kept for others")]
    TenantConcurrency {
        /// How many it has.
        held: usize,
        /// How many places there are.
        limit: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// The tenant runs as many of them as it may.
    #[error("this tenant has {limit} invocations in progress, which is all that it may have")]
    TenantLimit {
        /// How many it may have.
        limit: u32,
        /// When to come again.
        retry_after: Duration,
    },
    /// As many of the function's invocations run and wait as may.
    #[error("all {limit} places of this function are taken")]
    FunctionConcurrency {
        /// How many there are.
        limit: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// The tenant has used what it may use for now.
    #[error("{what}")]
    RateLimited {
        /// Who has used what.
        what: String,
        /// When there is some again.
        retry_after: Duration,
    },
    /// The caller may not ask for this.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The host is stopping.
    #[error("this host is stopping")]
    Draining {
        /// When to come again.
        retry_after: Duration,
    },
    /// The deadline passed.
    #[error("there was no answer within {} ms", timeout.as_millis())]
    Deadline {
        /// The timeout in force.
        timeout: Duration,
    },
    /// The plugin broke the contract in what it asked for.
    #[error("the plugin broke the contract: {0}")]
    Contract(String),
    /// Somebody's memory is used up.
    #[error(transparent)]
    Memory(#[from] OverLimit),
    /// The guest failed.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// A model could not answer.
    #[error(transparent)]
    Infer(InferError),
    /// Tenon's own fault; the text is for the log only.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<SandboxError> for InvokeError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Memory(over) => Self::Memory(over),
            SandboxError::Contract(detail) => Self::Contract(detail),
            other => Self::Sandbox(other),
        }
    }
}

impl From<InferError> for InvokeError {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Memory(over) => Self::Memory(over),
            other => Self::Infer(other),
        }
    }
}

impl InvokeError {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::FunctionNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::Body(_)
            | Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::NoModel { known: false, .. }
            | Self::Rejected(_)
            | Self::Access(_)
            | Self::TooManyRows { .. } => Fault::Caller,
            Self::Contract(_) => Fault::Function,
            Self::Memory(over) if over.holder == Holder::Invocation => Fault::Function,
            Self::Memory(_)
            | Self::Concurrency { .. }
            | Self::TenantConcurrency { .. }
            | Self::TenantLimit { .. }
            | Self::FunctionConcurrency { .. }
            | Self::RateLimited { .. }
            | Self::Draining { .. }
            // As of a model that a function asks for (`InferError::Unavailable`).
            | Self::NoModel { known: true, .. }
            | Self::Deadline { .. } => Fault::Capacity,
            Self::Sandbox(error) => error.fault(),
            Self::Infer(error) => error.fault(),
            Self::Internal(_) => Fault::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_there_and_does_not_serve_is_nobodys_fault() {
        let asked = |known| InvokeError::NoModel { detail: String::new(), known }.fault();
        assert_eq!((asked(false), asked(true)), (Fault::Caller, Fault::Capacity));
    }
}
