//! How things stand after a record: tenants, keys and functions. Owns the fold; refuses to know the store and clocks,
//! so that every host that read the same records holds the same state.
//!
//! A state is cheap to clone: what a change does not touch is shared with the state before.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    bounds,
    change::{BlobRef, Change, Record},
    error::Refused,
    key::KeyRecord,
    settings::TenantSettings,
};

mod function;
mod keys;

pub use function::{Event, FunctionState, RevisionRecord};

/// Everything, after record `n`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The last record that went in.
    pub n: u64,
    /// Tenants with settings of their own.
    pub tenants: BTreeMap<String, Arc<TenantState>>,
    /// Keys by id. Revoked ones are gone; whether one has expired, who asks must look.
    pub keys: BTreeMap<String, Arc<KeyRecord>>,
    /// What each tenant has deployed.
    pub functions: BTreeMap<String, Arc<TenantFunctions>>,
}

/// A tenant's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantState {
    /// The settings.
    pub settings: TenantSettings,
    /// The record that set them.
    pub changed_n: u64,
    /// When.
    pub changed_ms: u64,
}

/// A tenant's functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantFunctions {
    /// Those there are, by name.
    pub there: BTreeMap<String, Arc<FunctionState>>,
    /// The last number of those that are gone: numbers never come back.
    pub retired: BTreeMap<String, u64>,
}

impl State {
    /// A function, if it is there.
    pub fn function(&self, tenant: &str, function: &str) -> Option<&Arc<FunctionState>> {
        self.functions.get(tenant)?.there.get(function)
    }

    /// The newest number a function has or had; 0 if there was none.
    pub fn last_number(&self, tenant: &str, function: &str) -> u64 {
        let retired = || self.functions.get(tenant)?.retired.get(function).copied();
        self.function(tenant, function).map(|function| function.last_number).or_else(retired).unwrap_or(0)
    }

    /// Every function with its tenant's and its own name, sorted.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &str, &Arc<FunctionState>)> {
        self.functions.iter().flat_map(|(tenant, functions)| {
            functions.there.iter().map(move |(name, function)| (&tenant[..], &name[..], function))
        })
    }

    /// A tenant's settings; the default ones if it has none of its own.
    pub fn settings(&self, tenant: &str) -> TenantSettings {
        self.tenants.get(tenant).map(|tenant| tenant.settings.clone()).unwrap_or_default()
    }

    /// What a tenant's quota of stored bytes is measured by: each blob of the revisions kept, once.
    pub fn stored_bytes(&self, tenant: &str) -> u64 {
        self.functions.get(tenant).map_or(0, |functions| stored_bytes(functions.there.values().map(Arc::as_ref)))
    }

    /// The blobs of all revisions kept.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.functions().flat_map(|(_, _, function)| function.blobs())
    }

    /// The state after a record, which is the next one.
    pub fn apply(&self, record: &Record) -> Result<Self, Refused> {
        let mut next = self.clone();
        next.fold(record)?;
        Ok(next)
    }

    /// Folds a record in that was accepted before. One that is refused all the same changes nothing but the count: all
    /// hosts refuse it alike, and following must go on.
    pub(super) fn replay(&mut self, record: &Record) {
        if let Err(refused) = self.fold(record) {
            tracing::error!(n = record.n, %refused, "a record of the registry does not fit the ones before; passed over");
            self.n = record.n;
        }
    }

    /// Refused means untouched: everything is checked before anything is put in.
    fn fold(&mut self, record: &Record) -> Result<(), Refused> {
        if self.n.checked_add(1) != Some(record.n) {
            return Err(Refused::conflict(format!("record {} does not follow record {}", record.n, self.n)));
        }
        record.validate().map_err(Refused::invalid)?;
        match &record.change {
            Change::TenantSet { tenant, settings } => self.set_tenant(tenant, settings, record)?,
            Change::TenantRemoved { tenant } => self.remove_tenant(tenant)?,
            Change::KeyAdded { key } => self.add_key(key, record.at_ms)?,
            Change::KeyRevoked { id } => self.revoke_key(id, record.at_ms)?,
            Change::KeyRotated { old, old_expires_ms, key } => {
                self.rotate_key(old, *old_expires_ms, key, record.at_ms)?;
            }
            Change::FunctionRemoved { tenant, function } => self.remove_function(tenant, function)?,
            Change::RevisionAdded { .. }
            | Change::TrafficSet { .. }
            | Change::RolledBack { .. }
            | Change::Quarantined { .. } => self.change_function(record)?,
        }
        self.n = record.n;
        Ok(())
    }

    fn set_tenant(&mut self, tenant: &str, settings: &TenantSettings, record: &Record) -> Result<(), Refused> {
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= bounds::TENANTS {
            return Err(Refused::quota(format!("there are {} tenants, and no more fit", bounds::TENANTS)));
        }
        let (changed_n, changed_ms) = (record.n, record.at_ms);
        let state = TenantState { settings: settings.clone(), changed_n, changed_ms };
        self.tenants.insert(tenant.to_owned(), Arc::new(state));
        Ok(())
    }

    fn remove_tenant(&mut self, tenant: &str) -> Result<(), Refused> {
        let of_tenant = |key: &Arc<KeyRecord>| key.tenant.as_deref() == Some(tenant);
        if let Some(functions) = self.functions.get(tenant).filter(|functions| !functions.there.is_empty()) {
            let count = functions.there.len();
            return Err(Refused::conflict(format!("the tenant `{tenant}` has {count} functions: remove them first")));
        }
        if !self.tenants.contains_key(tenant) && !self.keys.values().any(of_tenant) {
            return Err(Refused::not_found(format!("there is no tenant `{tenant}`")));
        }
        self.tenants.remove(tenant);
        self.keys.retain(|_, key| !of_tenant(key));
        Ok(())
    }

    fn remove_function(&mut self, tenant: &str, function: &str) -> Result<(), Refused> {
        let last_number = self.function(tenant, function).ok_or_else(|| no_function(tenant, function))?.last_number;
        let functions = Arc::make_mut(self.functions.entry(tenant.to_owned()).or_default());
        functions.there.remove(function);
        functions.retired.insert(function.to_owned(), last_number);
        Ok(())
    }

    fn change_function(&mut self, record: &Record) -> Result<(), Refused> {
        let (tenant, name) = record.change.function().unwrap_or_default();
        let before = self.function(tenant, name);
        let mut function = match (before, &record.change) {
            (Some(function), _) => FunctionState::clone(function),
            (None, Change::RevisionAdded { .. }) => self.new_function(tenant, name)?,
            (None, _) => return Err(no_function(tenant, name)),
        };
        function.change(record)?;
        if matches!(record.change, Change::RevisionAdded { .. }) {
            self.check_stored(tenant, name, &function)?;
        }
        let functions = Arc::make_mut(self.functions.entry(tenant.to_owned()).or_default());
        functions.retired.remove(name);
        functions.there.insert(name.to_owned(), Arc::new(function));
        Ok(())
    }

    fn new_function(&self, tenant: &str, name: &str) -> Result<FunctionState, Refused> {
        let of_tenant = self.functions.get(tenant);
        let there = of_tenant.map_or(0, |functions| functions.there.len());
        if let Some(most) =
            self.limits(tenant).and_then(|limits| limits.functions).filter(|most| there >= *most as usize)
        {
            return Err(Refused::quota(format!("the tenant `{tenant}` may have {most} functions")));
        }
        let count = |size: fn(&TenantFunctions) -> usize| self.functions.values().map(|of| size(of)).sum::<usize>();
        let retired = of_tenant.and_then(|functions| functions.retired.get(name)).copied();
        let known = count(|of| of.there.len() + of.retired.len());
        let full = count(|of| of.there.len()) >= bounds::FUNCTIONS;
        if of_tenant.is_some_and(|of| retired.is_none() && of.there.len() + of.retired.len() >= bounds::TENANT_NAMES) {
            let most = bounds::TENANT_NAMES;
            return Err(Refused::quota(format!("the tenant `{tenant}` has used {most} names of functions")));
        }
        if full || (retired.is_none() && known >= bounds::FUNCTION_NAMES) {
            return Err(Refused::quota("the registry holds as many functions as it can"));
        }
        Ok(FunctionState::after(retired.unwrap_or(0)))
    }

    /// Whether the tenant may store what it would have with `changed` in the place of what it has.
    fn check_stored(&self, tenant: &str, name: &str, changed: &FunctionState) -> Result<(), Refused> {
        let Some(most) = self.limits(tenant).and_then(|limits| limits.stored_bytes) else { return Ok(()) };
        let there = self.functions.get(tenant).map(|functions| functions.there.iter());
        let others = there.into_iter().flatten().filter(|(other, _)| *other != name);
        let bytes = stored_bytes(others.map(|(_, function)| &**function).chain([changed]));
        if bytes > most {
            return Err(Refused::quota(format!(
                "the tenant `{tenant}` may store {most} bytes, and with this revision it would have {bytes}"
            )));
        }
        Ok(())
    }

    fn limits(&self, tenant: &str) -> Option<&super::settings::TenantLimits> {
        self.tenants.get(tenant).map(|tenant| &tenant.settings.limits)
    }
}

fn no_function(tenant: &str, function: &str) -> Refused {
    Refused::not_found(format!("the tenant `{tenant}` has no function `{function}`"))
}

fn stored_bytes<'f>(functions: impl Iterator<Item = &'f FunctionState>) -> u64 {
    let mut blobs = BTreeMap::new();
    for function in functions {
        for blob in function.blobs() {
            blobs.insert(&blob.digest, blob.bytes);
        }
    }
    blobs.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests;
