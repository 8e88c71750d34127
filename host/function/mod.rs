//! Functions: what a tenant deploys under a name, and how one invocation of it goes.
//!
//! Owns manifests, revisions, admission and the way of a request from its head to its answer. Refuses to know HTTP (a
//! caller is a [`Call`] and a [`Body`]), wasmtime and libtorch. The story of a request is [`Runtime::invoke`].

mod admission;
mod aside;
mod attached;
mod binding;
mod body;
mod case;
mod deployer;
mod deployments;
mod direct;
mod ending;
mod error;
mod folder;
mod following;
mod gate;
mod health;
mod identity;
mod line;
mod listing;
mod manifest;
mod models;
pub mod oip;
mod orders;
mod overview;
mod passthrough;
mod remembered;
mod repository;
mod revision;
mod runtime;
mod shallow;
mod snapshot;
mod step;
mod table;
mod tenants;
mod traffic;
mod trial;
mod work;

pub use admission::Admission;
pub use body::{Body, BodyError};
pub use deployer::{DeployError, Deployer};
pub use deployments::{Deployment, Deployments, Upload, UploadError};
pub use direct::{Asked, DEFAULT_TENANT, Direct, FUNCTION as DIRECT};
pub use error::{EngineError, InferError, InvokeError, SandboxError};
pub use folder::{Folder, LOOK_EVERY};
pub use following::{Following, LoadError};
pub use health::Quarantine;
pub use identity::{AccessError, AuthConfig, Identity};
pub use listing::ModelListing;
pub use manifest::{ErrorShape, Manifest, ManifestError, is_name};
pub use models::{ModelControl, ModelError};
pub use orders::{MadeKey, OrderError, Orders, Thing};
pub use overview::Overview;
pub use remembered::{CacheStats, CacheSummary, Invalidation, Refreshes, Remembered, Voided};
pub use repository::RepositoryChange;
pub use revision::Revision;
pub use runtime::{Call, Outcome, Parts, Runtime};
pub use snapshot::Snapshot;
pub use table::{FunctionStatus, Functions};
pub use tenants::{Tenant, Tenants};
pub use traffic::Traffic;

use std::time::Duration;

/// Limits of the host as a whole; those of a function are in its `function.toml`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes that all invocations together may hold.
    pub host_memory_bytes: u64,
    /// Bytes that the invocations of one tenant may hold together.
    pub tenant_memory_bytes: u64,
    /// The longest `timeout_ms` that a function may have.
    pub max_timeout_ms: u64,
    /// The largest `body_bytes` that a function may have.
    pub max_body_bytes: u64,
    /// How long a refused caller is told to wait, in seconds, where no better figure is known.
    pub retry_after_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_memory_bytes: 4 << 30,
            tenant_memory_bytes: 2 << 30,
            max_timeout_ms: 300_000,
            max_body_bytes: 256 << 20,
            retry_after_s: 1,
        }
    }
}

impl Config {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        if self.tenant_memory_bytes > self.host_memory_bytes {
            return Err("limits.tenant_memory_bytes is larger than limits.host_memory_bytes".into());
        }
        if self.max_timeout_ms == 0 || self.max_body_bytes == 0 || self.retry_after_s == 0 {
            return Err(
                "limits.max_timeout_ms, limits.max_body_bytes and limits.retry_after_s must be at least 1".into()
            );
        }
        Ok(())
    }

    /// What `Retry-After` says by default.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.retry_after_s)
    }
}
