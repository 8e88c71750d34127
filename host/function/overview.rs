//! What the registry holds, as operators and tenants are shown it, and what this host makes of it.
//!
//! Owns the documents' form. Everything is read of one state, so that no document mixes two.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{Following, orders::now_ms};
use crate::{
    access::Scopes,
    registry::{Event, FunctionState, HostStatus, KeyRecord, RegistryError, Split, State, TenantSettings},
};

/// A tenant.
#[derive(Debug, Serialize)]
pub struct TenantView {
    tenant: String,
    settings: TenantSettings,
    functions: usize,
    stored_bytes: u64,
    keys: usize,
}

/// A key, without what is secret about it.
#[derive(Debug, Serialize)]
pub struct KeyView {
    id: String,
    name: String,
    scopes: Scopes,
    created_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
}

/// A function.
#[derive(Debug, Serialize)]
pub struct FunctionView {
    tenant: String,
    function: String,
    /// `idle` where no revision was promoted; else how it stands on this host.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    traffic: Option<Split>,
    serving: Vec<ServingView>,
    revisions: usize,
    latest: u64,
}

/// A revision in traffic.
#[derive(Debug, Serialize)]
pub(super) struct ServingView {
    revision: u64,
    digest: String,
}

/// A revision.
#[derive(Debug, Serialize)]
pub struct RevisionView {
    number: u64,
    digest: String,
    component_bytes: u64,
    added_ms: u64,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<String>,
    /// Its weight in traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<u32>,
}

/// A host that follows the registry.
#[derive(Debug, Serialize)]
pub struct HostView {
    host: String,
    name: String,
    applied: u64,
    at_ms: u64,
    /// Whether it is the one that answers.
    #[serde(rename = "self")]
    own: bool,
    failed: BTreeMap<String, String>,
}

impl From<&KeyRecord> for KeyView {
    fn from(key: &KeyRecord) -> Self {
        let KeyRecord { id, name, scopes, created_ms, expires_ms, .. } = key.clone();
        Self { id, name, scopes, created_ms, expires_ms }
    }
}

/// Looks at the registry's state.
pub struct Overview {
    following: Arc<Following>,
}

impl Overview {
    /// Of the registry that is followed.
    pub fn new(following: Arc<Following>) -> Self {
        Self { following }
    }

    fn state(&self) -> Arc<State> {
        self.following.registry().state()
    }

    /// All tenants that something is known of.
    pub fn tenants(&self) -> Vec<TenantView> {
        let state = self.state();
        let mut names: Vec<&str> = state.tenants.keys().map(String::as_str).collect();
        names.extend(state.functions.iter().filter(|(_, of)| !of.there.is_empty()).map(|(tenant, _)| tenant.as_str()));
        names.extend(state.keys.values().filter_map(|key| key.tenant.as_deref()));
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| tenant(&state, name)).collect()
    }

    /// One tenant, where something is known of it.
    pub fn tenant(&self, name: &str) -> Option<TenantView> {
        let state = self.state();
        let known = tenant(&state, name);
        (state.tenants.contains_key(name) || known.functions > 0 || known.keys > 0).then_some(known)
    }

    /// The keys of a tenant, or of operators, that have not ended.
    pub fn keys(&self, tenant: Option<&str>) -> Vec<KeyView> {
        let (state, now) = (self.state(), now_ms());
        let theirs = state.keys.values().filter(|key| key.tenant.as_deref() == tenant && !key.expired(now));
        theirs.map(|key| KeyView::from(&**key)).collect()
    }

    /// All functions, or those of one tenant.
    pub fn functions(&self, tenant: Option<&str>) -> Vec<FunctionView> {
        let state = self.state();
        let functions = state.functions().filter(|(owner, ..)| tenant.is_none_or(|tenant| tenant == *owner));
        functions.map(|(owner, name, function)| self.view(owner, name, function)).collect()
    }

    /// One function.
    pub fn function(&self, tenant: &str, function: &str) -> Option<FunctionView> {
        self.state().function(tenant, function).map(|found| self.view(tenant, function, found))
    }

    /// Whether there is a function of this name: in the registry, or only on this host.
    pub fn knows(&self, tenant: &str, function: &str) -> bool {
        self.state().function(tenant, function).is_some()
            || self.following.functions().status(tenant, function).is_some()
    }

    fn view(&self, tenant: &str, function: &str, found: &FunctionState) -> FunctionView {
        let here = self.following.functions().status(tenant, function);
        let failed = self.following.failed().remove(&format!("{tenant}/{function}"));
        let state = match &here {
            _ if found.traffic.is_none() => "idle",
            Some(here) => here.state,
            None => "refused",
        };
        let shares = found.traffic.iter().flat_map(|split| &split.shares);
        let serving = shares
            .filter_map(|share| found.revisions.get(&share.revision))
            .map(|revision| ServingView { revision: revision.number, digest: revision.digest.clone() });
        FunctionView {
            tenant: tenant.to_owned(),
            function: function.to_owned(),
            state,
            error: failed.or_else(|| here.and_then(|here| here.error)),
            traffic: found.traffic.clone(),
            serving: serving.collect(),
            revisions: found.revisions.len(),
            latest: found.last_number,
        }
    }

    /// The revisions of a function, newest first.
    pub fn revisions(&self, tenant: &str, function: &str) -> Option<Vec<RevisionView>> {
        let state = self.state();
        let found = state.function(tenant, function)?;
        let weight = |number| {
            let mut shares = found.traffic.iter().flat_map(|split| &split.shares);
            shares.find(|share| share.revision == number).map(|share| share.weight)
        };
        let view = found.revisions.values().rev().map(|revision| RevisionView {
            number: revision.number,
            digest: revision.digest.clone(),
            component_bytes: revision.component.bytes,
            added_ms: revision.added_ms,
            by: revision.by.clone(),
            quarantined: revision.quarantined.clone(),
            share: weight(revision.number),
        });
        Some(view.collect())
    }

    /// Where a function's traffic goes, and the number of the record up to which that is known.
    pub fn traffic(&self, tenant: &str, function: &str) -> Option<(Option<Split>, u64)> {
        let state = self.state();
        state.function(tenant, function).map(|found| (found.traffic.clone(), state.n))
    }

    /// What happened to a function, newest first.
    pub fn history(&self, tenant: &str, function: &str, limit: usize) -> Option<Vec<Event>> {
        let state = self.state();
        let found = state.function(tenant, function)?;
        Some(found.history.iter().rev().take(limit).cloned().collect())
    }

    /// Why the registry's state may be behind; nothing while all is well.
    pub fn trouble(&self) -> Option<String> {
        self.following.registry().health()
    }

    /// The hosts that follow the registry, as they last said. A tenant is told of its own functions alone.
    pub async fn hosts(&self, tenant: Option<&str>) -> Result<Vec<HostView>, RegistryError> {
        let its_own = |function: &str| tenant.is_none_or(|tenant| function.split('/').next() == Some(tenant));
        let registry = self.following.registry();
        let view = |note: HostStatus| HostView {
            own: note.host == registry.host(),
            host: note.host,
            name: note.name,
            applied: note.applied,
            at_ms: note.at_ms,
            failed: note.failed.into_iter().filter(|(function, _)| its_own(function)).collect(),
        };
        Ok(registry.hosts().await?.into_iter().map(view).collect())
    }
}

fn tenant(state: &State, name: &str) -> TenantView {
    TenantView {
        tenant: name.to_owned(),
        settings: state.settings(name),
        functions: state.functions.get(name).map_or(0, |functions| functions.there.len()),
        stored_bytes: state.stored_bytes(name),
        keys: state.keys.values().filter(|key| key.tenant.as_deref() == Some(name)).count(),
    }
}
