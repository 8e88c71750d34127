//! What can go wrong with the registry. Owns the words that a caller or an operator reads; refuses to know statuses,
//! which the edge makes of the codes. Messages name records and digests, never folders: those are in the sources.

use std::io;

/// What a change names is not there.
pub const NOT_FOUND: &str = "not-found";
/// What a change wants is at odds with how things stand.
pub const CONFLICT: &str = "conflict";
/// A change makes no sense, however things stand.
pub const INVALID: &str = "invalid";
/// A change goes beyond what its tenant or the store may hold.
pub const QUOTA: &str = "quota";

/// Why a change does not fit; the log stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// One of [`NOT_FOUND`], [`CONFLICT`], [`INVALID`] and [`QUOTA`].
    pub code: &'static str,
    /// What is wrong, for the caller.
    pub detail: String,
}

impl Refused {
    /// Something named is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self { code: NOT_FOUND, detail: detail.into() }
    }

    /// Things do not stand that way.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self { code: CONFLICT, detail: detail.into() }
    }

    /// It makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self { code: INVALID, detail: detail.into() }
    }

    /// It is too much.
    pub fn quota(detail: impl Into<String>) -> Self {
        Self { code: QUOTA, detail: detail.into() }
    }
}

/// Why the registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RegistryError {
    #[error("registry configuration: {0}")]
    Config(String),
    #[error("the registry's folder cannot be used")]
    Folder { source: io::Error },
    #[error("the registry's store failed to {what}")]
    Store { what: String, source: Box<object_store::Error> },
    #[error("record {n} of the registry cannot be read: {detail}")]
    Record { n: u64, detail: String },
    #[error("the registry's {what} has more than {most_bytes} bytes")]
    TooLarge { what: String, most_bytes: u64 },
    #[error("the blob {digest} is not in the registry")]
    Missing { digest: String },
    #[error("the blob {digest} is damaged in the registry's store: deploy it again")]
    Damaged { digest: String },
    #[error("the registry is busy: waited {waited_s} s for changes before this one")]
    Busy { waited_s: u64 },
    #[error("the system gives no random bytes")]
    Random { source: getrandom::Error },
}

impl RegistryError {
    pub(super) fn store(what: impl Into<String>, source: object_store::Error) -> Self {
        Self::Store { what: what.into(), source: Box::new(source) }
    }
}

/// Why a change was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{attempts} attempts to make the change met changes by other hosts: try again")]
    Contended { attempts: u32 },
    /// The store failed while the record was written: it may stand or not.
    #[error("the registry's store failed during the change: look whether it was made before you try again")]
    Unsure { source: Box<object_store::Error> },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
