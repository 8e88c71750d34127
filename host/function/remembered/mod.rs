//! What is remembered of functions: their answers and single rows of models.
//!
//! Owns what makes two requests or two rows the same, and what may be done with what is found. Refuses to know where it is
//! kept and for how long (the room `cache`), and how an answer is computed (`runtime`, `step`).
//!
//! | file | |
//! |---|---|
//! | `policy` | who says how answers of a function are remembered |
//! | `answers`, `answer` | looking up, waiting for who computes the same, and what becomes of the answer; its form |
//! | `rows`, `row` | the same for the rows of an inference |
//! | `refresh` | stale answers that are computed again behind traffic |
//! | `control`, `voids` | what operators and tenants ask: that something is void, and figures; how often tenants may |

mod answer;
mod answers;
mod control;
mod policy;
mod refresh;
mod row;
mod rows;
mod voids;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

pub(super) use answers::{Duty, Looked};
pub use control::{CacheStats, CacheSummary, Invalidation, Voided};
pub(super) use policy::Rule;
pub(super) use refresh::Refresh;
pub(super) use rows::{Rows, Started};

use super::snapshot::Snapshot;
use crate::{
    cache::{Cache, Flights, Key, KeyBuilder, Scope, ScopeId, Tier},
    caching::Policy,
    invocation::{Invocation, Request},
};
use answer::Answer;
use voids::Voids;

/// Stale answers that wait to be computed again; beyond them the next hit asks anew.
const MAX_REFRESHES: usize = 256;

/// Stale answers on their way to be computed again.
#[derive(Debug)]
pub struct Refreshes(pub(super) mpsc::Receiver<Refresh>);

/// What those who wait for the same get.
#[derive(Clone, Debug)]
struct Shared {
    answer: Arc<Answer>,
    /// Whether it is an old one.
    old: bool,
    /// The time on models that each of them is spared.
    saved_us: u64,
}

/// An answer that is older than it should be, and where it was found.
type Old = (Arc<Answer>, Tier);

/// What is remembered, and what is being computed.
#[derive(Debug)]
pub struct Remembered {
    cache: Arc<Cache>,
    answers: Arc<Flights<Shared>>,
    rows: Arc<Flights<Bytes>>,
    refreshes: mpsc::Sender<Refresh>,
    voids: Voids,
}

/// A request, as it may have been answered before.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) invocation: &'a Arc<Invocation>,
    pub(super) request: &'a Arc<Request>,
}

impl Remembered {
    /// What this cache holds; and what has to be given to [`Runtime::refresh`](super::Runtime::refresh).
    pub fn new(cache: Arc<Cache>) -> (Arc<Self>, Refreshes) {
        let (refreshes, receiver) = mpsc::channel(MAX_REFRESHES);
        let (answers, rows) = (Flights::new(), Flights::new());
        (Arc::new(Self { cache, answers, rows, refreshes, voids: Voids::default() }), Refreshes(receiver))
    }

    /// Where it is kept.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }
}

/// What those join who compute the same: another one after each invalidation, so that nobody who comes after it is given
/// what was begun before.
fn flight(key: Key, seq: u64) -> Key {
    let mut bytes = *key.as_bytes();
    bytes.iter_mut().zip(seq.to_le_bytes()).for_each(|(byte, of)| *byte ^= of);
    Key::from_bytes(bytes)
}

/// What is the same for all requests of a snapshot: what names of its answers begin with, and what all that it computes
/// can be invalidated by.
fn named(snapshot: &Snapshot) -> &(KeyBuilder, Arc<[ScopeId]>) {
    let (tenant, function) = (&*snapshot.revision.tenant, &*snapshot.revision.function);
    snapshot.models.named.get_or_init(|| {
        let mut scopes = vec![ScopeId::from(Scope::Tenant(tenant)), Scope::Function(tenant, function).into()];
        for model in snapshot.models.by_alias.values() {
            scopes.push(Scope::Model(model.name()).into());
            scopes.push(Scope::ModelVersion(model.name(), model.version()).into());
        }
        let key = KeyBuilder::new("answer", tenant).part(function.as_bytes()).part(&snapshot.models.identity);
        (key, scopes.into())
    })
}

/// What an answer of this revision can be invalidated by.
fn scopes(snapshot: &Snapshot, policy: &Policy) -> Arc<[ScopeId]> {
    let all = &named(snapshot).1;
    if policy.tags.is_empty() {
        return all.clone();
    }
    let tenant = &*snapshot.revision.tenant;
    let tags = policy.tags.iter().map(|tag| ScopeId::from(Scope::Tag { tenant, tag }));
    all.iter().copied().chain(tags).collect()
}
