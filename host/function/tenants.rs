//! Tenants as the host knows them while it runs: what each holds in bytes and places, and how it stands among others.
//!
//! Owns the table, whose entries are made when a tenant is first seen and live as long as the process. Refuses to know
//! who somebody is: a name is given.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    account::{Account, Holder, Places},
    tenant::Standing,
};

/// A tenant, as all its functions share it.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// What its invocations hold together.
    pub account: Arc<Account>,
    /// The places of its invocations.
    pub places: Places,
    /// How it stands among others.
    pub standing: Standing,
}

/// All tenants that were seen.
#[derive(Debug)]
pub struct Tenants {
    host: Arc<Account>,
    memory_bytes: u64,
    standings: BTreeMap<String, Standing>,
    seen: Mutex<HashMap<String, Arc<Tenant>>>,
}

impl Tenants {
    /// None yet; each may hold `memory_bytes` of what the host may.
    pub fn new(host: Arc<Account>, memory_bytes: u64, standings: BTreeMap<String, Standing>) -> Self {
        Self { host, memory_bytes, standings, seen: Mutex::default() }
    }

    /// The tenant of this name.
    pub fn get(&self, name: &str) -> Arc<Tenant> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            Arc::new(Tenant {
                name: name.into(),
                account: self.host.child(Holder::Tenant, self.memory_bytes),
                places: Places::default(),
                standing: self.standings.get(name).copied().unwrap_or_default(),
            })
        };
        seen.entry(name.to_owned()).or_insert_with(make).clone()
    }
}
