//! A guest's memory: every page of linear memory is charged to the invocation before wasmtime maps it.
//!
//! Owns the flag that tells "the guest was refused memory" from an ordinary abort: a Rust guest answers a refusal with
//! `unreachable`, which by itself looks like any panic.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::account::{Account, Charge, Holder, OverLimit};

/// Table elements (function pointers) that all tables of an instance may hold together.
const MAX_TABLE_ELEMENTS: usize = 100_000;

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

    /// Charges bytes that a host call is about to hold for the guest.
    pub(super) fn charge(&mut self, bytes: u64) -> Result<Charge, Holder> {
        self.account.charge(bytes).map_err(|over| self.refuse(over))
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
        let charged = match &mut self.memory {
            Some(charge) => charge.grow(more),
            None => self.account.charge(more).map(|charge| self.memory = Some(charge)),
        };
        Ok(charged.map_err(|over| self.refuse(over)).is_ok())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements + desired.saturating_sub(current);
        let fits = elements <= MAX_TABLE_ELEMENTS;
        if fits {
            self.table_elements = elements;
        }
        Ok(fits)
    }
}
