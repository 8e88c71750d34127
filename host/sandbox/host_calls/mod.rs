//! What a guest may call, one file (or folder) per WIT interface. Each call checks its arguments, charges what it will hold, and
//! answers a `failure` with a code of `wit/` where the guest can do something about it.

#![allow(unreachable_pub, reason = "what stands behind a guest's handle is re-exported by the generated bindings")]

pub(super) mod config;
pub(super) mod headers;
pub(super) mod images;
pub(super) mod logging;
pub(super) mod policies;
pub(super) mod request;
pub(super) mod response;
pub(super) mod steps;
pub(super) mod tensors;
pub(super) mod text;

use super::bindings::types::Failure;

/// The longest name of a model or an input that a guest may say.
const MAX_NAME_BYTES: usize = 128;

/// Refuses a name that is longer than any in a manifest: it would be kept, and told in errors.
fn check_name(name: &str) -> wasmtime::Result<()> {
    if name.len() > MAX_NAME_BYTES {
        let detail = format!("a name has at most {MAX_NAME_BYTES} bytes, the guest gave one of {}", name.len());
        return Err(super::trap::Violation(detail).into());
    }
    Ok(())
}

/// A failure with a code of the contract.
fn failure(code: &str, detail: impl Into<String>) -> Failure {
    Failure { code: code.into(), detail: detail.into() }
}

/// The failure of a call that would hold more memory than somebody may.
fn memory(limited: crate::account::Holder) -> Failure {
    failure("memory", format!("this is more memory than the {limited:?} may hold").to_lowercase())
}
