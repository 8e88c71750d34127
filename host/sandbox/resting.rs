//! Instances that rest between two invocations of one revision, where its owner asked for that (`reuse`). Runtimes that
//! take milliseconds to wake (Python, JavaScript) then wake once for many invocations.
//!
//! Owns which instances are kept and for how long. What crosses from one invocation to the next is the guest's own memory
//! and nothing of the host's: request, tensors, answers, log and account are exchanged before an instance rests. An
//! instance whose invocation did not end well (a trap, a deadline, a caller that left in the middle) never comes here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use super::{Assignment, Plugin, Running, SandboxError};
use crate::{
    account::{Account, Charge, Holder, Kind},
    reuse::Reuse,
};

/// The part of its tenant's memory that a revision's resting instances may hold: the rest is for invocations.
const PART_OF_TENANT: u64 = 4;

/// The resting instances of one revision; dropped with it.
pub struct Resting {
    rule: Reuse,
    plugin: Arc<Plugin>,
    /// Whom an instance belongs to while it serves nobody.
    names: (Arc<str>, Arc<str>),
    tenant: Arc<Account>,
    /// What resting instances hold of it.
    account: Arc<Account>,
    /// The one that served last is the last: what is not needed grows old.
    instances: Mutex<Vec<Rested>>,
}

struct Rested {
    running: Running,
    /// Its slot of the pool, which is not among those for invocations.
    _place: OwnedSemaphorePermit,
    /// Its memory among what all tenants' may hold while they rest: who rests must not keep invocations out.
    _room: Charge,
}

impl Resting {
    /// None yet; `names` are the tenant's and the function's, `tenant` is the tenant's account.
    pub fn new(plugin: Arc<Plugin>, rule: Reuse, names: (Arc<str>, Arc<str>), tenant: &Arc<Account>) -> Self {
        let account = tenant.child(Holder::Tenant, 0);
        Self { rule, plugin, names, tenant: tenant.clone(), account, instances: Mutex::default() }
    }

    /// An instance for one invocation: one that rested, or a fresh one.
    pub async fn start(&self, assignment: Assignment) -> Result<Running, SandboxError> {
        let now = Instant::now();
        while let Some(Rested { mut running, .. }) = self.pop() {
            if !self.is_over(&running, now) && running.wake(assignment.clone()) {
                return Ok(running);
            }
        }
        self.plugin.start(assignment).await
    }

    /// Keeps an instance whose invocation has ended well, if it may be kept.
    pub fn rest(&self, mut running: Running) {
        // Whoever has no place left is dropped, with all that it holds.
        let (place, room) = self.plugin.sandbox().rest();
        let (Ok(place), Ok(room)) = (place, room.charge(Kind::Guest, running.memory_bytes())) else { return };
        // What its tenant may hold may have changed.
        self.account.set_limit(self.tenant.limit_bytes() / PART_OF_TENANT);
        if self.is_over(&running, Instant::now()) || !running.rest(&self.names, &self.account) {
            return;
        }
        self.instances().push(Rested { running, _place: place, _room: room });
    }

    /// Lets go of those that are too old.
    pub fn expire(&self, now: Instant) {
        let worn: Vec<_> = self.instances().extract_if(.., |rested| self.is_over(&rested.running, now)).collect();
        // Outside of the lock: freeing memory takes its time.
        drop(worn);
    }

    /// Whether an instance has served long enough.
    fn is_over(&self, running: &Running, now: Instant) -> bool {
        let rule = &self.rule;
        running.served() >= rule.max_invocations
            || now.saturating_duration_since(running.born()) >= rule.max_age()
            || running.memory_bytes() > rule.max_memory_bytes
    }

    fn pop(&self) -> Option<Rested> {
        self.instances().pop()
    }

    fn instances(&self) -> MutexGuard<'_, Vec<Rested>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
