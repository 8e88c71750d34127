//! A guest's memory: linear memory and tables are charged to the invocation before wasmtime maps them, and every handle
//! for what the host keeps behind it.
//!
//! Owns the flag that tells "the guest was refused memory" from an ordinary abort: a Rust guest answers a refusal with
//! `unreachable`, which by itself looks like any panic.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::trap::Violation;
use crate::account::{Account, Charge, Holder, Kind, OverLimit};

/// Table elements (function pointers) that all tables of an instance may hold together.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// What an element takes.
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;
/// What stands behind a handle beside its bytes, generously: entries of two tables, a box, a layout, names.
pub(super) const HANDLE_BYTES: u64 = 512;

/// What an instance has been given and refused.
pub(super) struct Limits {
    account: Arc<Account>,
    max_memory_bytes: u64,
    memory: Option<Charge>,
    table_elements: usize,
    refused: Option<OverLimit>,
}

impl Limits {
    pub(super) fn new(account: Arc<Account>, max_memory_bytes: u64) -> Self {
        Self { account, max_memory_bytes, memory: None, table_elements: 0, refused: None }
    }

    /// Linear memory and tables that the instance holds.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory.as_ref().map_or(0, Charge::bytes)
    }

    /// Charges what the instance holds to another account from now on; false if it does not fit there.
    pub(super) fn turn_to(&mut self, account: &Arc<Account>) -> bool {
        let bytes = self.memory_bytes();
        // Given back first: both accounts are the same tenant's.
        self.memory = None;
        self.refused = None;
        self.account = account.clone();
        self.memory = self.account.charge(Kind::Guest, bytes).ok();
        self.memory.is_some()
    }

    /// Charges bytes that a host call is about to hold for the guest.
    pub(super) fn charge(&mut self, kind: Kind, bytes: u64) -> Result<Charge, Holder> {
        self.account.charge(kind, bytes).map_err(|over| self.refuse(over))
    }

    /// Charges what stands behind a new handle. Not every call that gives one can answer a failure, so a guest that has
    /// no memory left for it ends.
    pub(super) fn handle(&mut self) -> wasmtime::Result<Charge> {
        let charge = self.charge(Kind::Handles, HANDLE_BYTES);
        charge.map_err(|_| Violation("no memory is left for a handle".into()).into())
    }

    /// Charges more of what stands behind a handle, likewise.
    pub(super) fn beside(&mut self, handle: &mut Charge, bytes: u64) -> wasmtime::Result<()> {
        let grown = handle.grow(bytes).map_err(|over| self.refuse(over));
        grown.map_err(|_| Violation("no memory is left for a handle".into()).into())
    }

    /// Charges linear memory or tables, or remembers the refusal.
    fn grow(&mut self, bytes: u64) -> bool {
        let charged = match &mut self.memory {
            Some(charge) => charge.grow(bytes),
            None => self.account.charge(Kind::Guest, bytes).map(|charge| self.memory = Some(charge)),
        };
        charged.map_err(|over| self.refuse(over)).is_ok()
    }

    /// Remembers a refusal and says whose limit it was.
    pub(super) fn refuse(&mut self, over: OverLimit) -> Holder {
        let holder = over.holder;
        self.refused = Some(over);
        holder
    }

    /// The last refusal: what a trap that follows is put down to.
    pub(super) fn take_refusal(&mut self) -> Option<OverLimit> {
        self.refused.take()
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        // More than a slot of the pool has: refused here, before it is charged.
        if desired as u64 > self.max_memory_bytes {
            let (holder, limit) = (Holder::Invocation, self.max_memory_bytes);
            self.refuse(OverLimit { holder, limit, wanted: more });
            return Ok(false);
        }
        Ok(self.grow(more))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = more <= MAX_TABLE_ELEMENTS - self.table_elements && self.grow(more as u64 * TABLE_ELEMENT_BYTES);
        if fits {
            self.table_elements += more;
        }
        Ok(fits)
    }
}
