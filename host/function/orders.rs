//! What operators and tenants order: traffic, rollback, tenants, keys. Each order is decided on the registry's state,
//! written as one record, and answered when it has its effect on this host.
//!
//! Owns what is looked at before a record is written. Refuses to know who may order what (`access`) and HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use std::sync::Arc;

use super::{Following, following::LoadError};
use crate::{
    access::{Scopes, key::NewKey},
    registry::{Author, Change, ChangeError, KeyRecord, Refused, Split, State, TenantSettings},
};

/// What an order names and is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Thing {
    Tenant,
    Function,
    Revision,
    Key,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum OrderError {
    #[error("{detail}")]
    NotFound { thing: Thing, detail: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Quota(String),
    #[error("revision {revision} cannot serve on this host: {source}")]
    Load { revision: u64, source: LoadError },
    #[error("{0}")]
    Registry(ChangeError),
    #[error("the change is made, and this host cannot serve it, so what served before goes on here: {0}")]
    NotServing(String),
    #[error("the change is made, and this host does not serve it yet: `tenon functions` tells why")]
    Late,
    #[error("no random bytes for a key")]
    Random,
}

/// Carries out orders.
pub struct Orders {
    following: Arc<Following>,
}

/// A key just made, with its text, which nobody can tell again.
pub struct MadeKey {
    /// What is kept of it.
    pub record: KeyRecord,
    /// The key.
    pub text: String,
}

impl Orders {
    /// To the registry that is followed.
    pub fn new(following: Arc<Following>) -> Self {
        Self { following }
    }

    /// Lets these revisions serve a function; `force` also one that was quarantined.
    pub async fn set_traffic(
        &self,
        (tenant, function): (&str, &str),
        split: Split,
        force: bool,
        author: Author,
    ) -> Result<Arc<State>, OrderError> {
        split.validate().map_err(OrderError::Invalid)?;
        let split = split.reduced();
        self.can_serve((tenant, function), &split).await?;
        let change = |state: &State| {
            there(state, tenant, function)?;
            let (tenant, function, split) = (tenant.to_owned(), function.to_owned(), split.clone());
            Ok(Change::TrafficSet { tenant, function, split, clears_quarantine: force })
        };
        let state = self.change(Thing::Function, author, change).await?;
        self.serves(tenant, function)?;
        Ok(state)
    }

    /// Whether this host could bring up what it was told to.
    fn serves(&self, tenant: &str, function: &str) -> Result<(), OrderError> {
        match self.following.failed().remove(&format!("{tenant}/{function}")) {
            Some(reason) => Err(OrderError::NotServing(reason)),
            None => Ok(()),
        }
    }

    /// Lets serve what served before.
    pub async fn roll_back(&self, (tenant, function): (&str, &str), author: Author) -> Result<Arc<State>, OrderError> {
        let change = |state: &State| {
            there(state, tenant, function)?;
            Ok(Change::RolledBack { tenant: tenant.to_owned(), function: function.to_owned() })
        };
        let state = self.change(Thing::Function, author, change).await?;
        self.serves(tenant, function)?;
        Ok(state)
    }

    /// Takes a function away, with all its revisions.
    pub async fn remove_function(&self, (tenant, function): (&str, &str), author: Author) -> Result<(), OrderError> {
        let change =
            |_: &State| Ok(Change::FunctionRemoved { tenant: tenant.to_owned(), function: function.to_owned() });
        self.change(Thing::Function, author, change).await.map(drop)
    }

    /// Says what a tenant may have; it need not be known before.
    pub async fn set_tenant(&self, tenant: &str, settings: TenantSettings, author: Author) -> Result<(), OrderError> {
        let change = |_: &State| Ok(Change::TenantSet { tenant: tenant.to_owned(), settings: settings.clone() });
        self.change(Thing::Tenant, author, change).await.map(drop)
    }

    /// Forgets a tenant that has no functions, with its keys.
    pub async fn remove_tenant(&self, tenant: &str, author: Author) -> Result<(), OrderError> {
        let change = |_: &State| Ok(Change::TenantRemoved { tenant: tenant.to_owned() });
        self.change(Thing::Tenant, author, change).await.map(drop)
    }

    /// Makes a key, of a tenant or (none) of an operator.
    pub async fn make_key(
        &self,
        tenant: Option<&str>,
        (name, scopes): (&str, Scopes),
        expires_in: Option<Duration>,
        author: Author,
    ) -> Result<MadeKey, OrderError> {
        let made = made(tenant, name, scopes, expires_in)?;
        let change = |_: &State| Ok(Change::KeyAdded { key: made.record.clone() });
        self.change(Thing::Tenant, author, change).await?;
        Ok(made)
    }

    /// Makes a key in another's place, which ends after `grace`.
    pub async fn rotate_key(
        &self,
        tenant: Option<&str>,
        id: &str,
        grace: Duration,
        author: Author,
    ) -> Result<MadeKey, OrderError> {
        let old = self.key(tenant, id)?;
        let made = made(tenant, &old.name, old.scopes, old.made_for_ms().map(Duration::from_millis))?;
        let old_expires_ms = made.record.created_ms.saturating_add(grace.as_millis() as u64);
        let change =
            |_: &State| Ok(Change::KeyRotated { old: id.to_owned(), old_expires_ms, key: made.record.clone() });
        self.change(Thing::Key, author, change).await?;
        Ok(made)
    }

    /// Ends a key at once.
    pub async fn revoke_key(&self, tenant: Option<&str>, id: &str, author: Author) -> Result<(), OrderError> {
        self.key(tenant, id)?;
        let change = |_: &State| Ok(Change::KeyRevoked { id: id.to_owned() });
        self.change(Thing::Key, author, change).await.map(drop)
    }

    /// A key of this tenant, or of operators.
    fn key(&self, tenant: Option<&str>, id: &str) -> Result<Arc<KeyRecord>, OrderError> {
        let state = self.following.registry().state();
        let found = state.keys.get(id).filter(|key| key.tenant.as_deref() == tenant).cloned();
        found.ok_or_else(|| OrderError::NotFound { thing: Thing::Key, detail: format!("there is no key `{id}`") })
    }

    /// Brings up what is to serve, before anything is said about it: an order that cannot work changes nothing.
    async fn can_serve(&self, (tenant, function): (&str, &str), split: &Split) -> Result<(), OrderError> {
        let state = self.following.registry().state();
        let not_found = |thing, detail| OrderError::NotFound { thing, detail };
        let found = state.function(tenant, function);
        let found = found.ok_or_else(|| not_found(Thing::Function, no_function(tenant, function)))?;
        for share in &split.shares {
            let revision = share.revision;
            let there = found.revisions.get(&revision);
            let gone = || not_found(Thing::Revision, format!("`{tenant}/{function}` has no revision {revision}"));
            let record = there.ok_or_else(gone)?;
            let name = (tenant.to_owned(), function.to_owned());
            let loaded = self.following.load(&name, record).await;
            loaded.map_err(|source| OrderError::Load { revision, source })?;
        }
        Ok(())
    }

    async fn change(
        &self,
        thing: Thing,
        author: Author,
        decide: impl FnMut(&State) -> Result<Change, Refused> + Send,
    ) -> Result<Arc<State>, OrderError> {
        let changed = self.following.registry().change(author, decide).await;
        let state = changed.map_err(|error| match error {
            ChangeError::Refused(Refused { code: "not-found", detail }) => OrderError::NotFound { thing, detail },
            ChangeError::Refused(Refused { code: "conflict", detail }) => OrderError::Conflict(detail),
            ChangeError::Refused(Refused { code: "quota", detail }) => OrderError::Quota(detail),
            ChangeError::Refused(Refused { detail, .. }) => OrderError::Invalid(detail),
            error => OrderError::Registry(error),
        })?;
        if self.following.applied(state.n).await { Ok(state) } else { Err(OrderError::Late) }
    }
}

fn no_function(tenant: &str, function: &str) -> String {
    format!("there is no function `{tenant}/{function}`")
}

fn there(state: &State, tenant: &str, function: &str) -> Result<(), Refused> {
    match state.function(tenant, function) {
        Some(_) => Ok(()),
        None => Err(Refused::not_found(no_function(tenant, function))),
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn made(tenant: Option<&str>, name: &str, scopes: Scopes, expires_in: Option<Duration>) -> Result<MadeKey, OrderError> {
    let key = NewKey::make().map_err(|_| OrderError::Random)?;
    let created_ms = now_ms();
    let record = KeyRecord {
        id: key.id.to_string(),
        tenant: tenant.map(str::to_owned),
        name: name.to_owned(),
        hash: key.hash,
        scopes,
        created_ms,
        expires_ms: expires_in.map(|lasts| created_ms.saturating_add(lasts.as_millis() as u64)),
        replaced: None,
    };
    Ok(MadeKey { record, text: key.text })
}
