//! Which functions there are and what serves them. A lookup is one atomic load and a hash; a change is one exchange.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::{InvokeError, snapshot::Snapshot};

type Key = (Box<str>, Box<str>);

/// What a function is at present.
#[derive(Clone)]
enum Entry {
    /// This snapshot serves.
    Ready(Snapshot),
    /// Nothing serves, for this reason.
    Refused(String),
}

/// All functions of the host.
#[derive(Default)]
pub struct Functions {
    table: ArcSwap<HashMap<Key, Entry>>,
    /// Held by whoever publishes what depends on models that others may exchange.
    together: Mutex<()>,
}

/// A function as it is listed.
#[derive(Debug, Serialize)]
pub struct FunctionStatus {
    tenant: String,
    function: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    stages: Vec<&'static str>,
    models: BTreeMap<String, String>,
}

impl Functions {
    /// The snapshot that serves a request for `function`, or exactly revision `revision` of it.
    pub fn find(&self, tenant: &str, function: &str, revision: Option<&str>) -> Result<Snapshot, InvokeError> {
        let functions = self.table.load();
        // A linear hash of two short names; the key borrows, the map owns.
        let found = functions.get(&(tenant.into(), function.into()));
        let Some(Entry::Ready(snapshot)) = found else {
            return Err(InvokeError::FunctionNotFound { tenant: tenant.into(), function: function.into() });
        };
        match revision {
            Some(asked) if asked != snapshot.revision.number.to_string() => {
                Err(InvokeError::RevisionNotFound { function: function.into(), revision: asked.into() })
            }
            _ => Ok(snapshot.clone()),
        }
    }

    /// Lets a snapshot serve from now on; what is in flight ends on the one it has.
    pub fn publish(&self, snapshot: &Snapshot) {
        let revision = &snapshot.revision;
        self.change(&revision.tenant, &revision.function, Some(Entry::Ready(snapshot.clone())));
    }

    /// Keeps models and functions as they are to each other until it is dropped: briefly, and nothing is compiled or
    /// loaded meanwhile.
    pub(super) fn together(&self) -> MutexGuard<'_, ()> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What serves at present.
    pub(super) fn ready(&self) -> Vec<Snapshot> {
        let functions = self.table.load();
        let ready = functions.values().filter_map(|entry| match entry {
            Entry::Ready(snapshot) => Some(snapshot.clone()),
            Entry::Refused(_) => None,
        });
        ready.collect()
    }

    /// Lets the same revisions serve on other models, all at once. Functions that are gone meanwhile stay away.
    pub(super) fn exchange(&self, snapshots: Vec<Snapshot>) {
        self.table.rcu(|functions| {
            let mut functions = HashMap::clone(functions);
            for new in &snapshots {
                let key = ((&*new.revision.tenant).into(), (&*new.revision.function).into());
                if let Some(Entry::Ready(old)) = functions.get_mut(&key)
                    && Arc::ptr_eq(&old.revision, &new.revision)
                {
                    *old = new.clone();
                }
            }
            functions
        });
    }

    /// Notes that a function cannot serve, unless an earlier revision does: that one goes on.
    pub fn refuse(&self, tenant: &str, function: &str, reason: &str) {
        let functions = self.table.load();
        if !matches!(functions.get(&(tenant.into(), function.into())), Some(Entry::Ready(_))) {
            self.change(tenant, function, Some(Entry::Refused(reason.into())));
        }
    }

    /// Takes a function away.
    pub fn remove(&self, tenant: &str, function: &str) {
        self.change(tenant, function, None);
    }

    fn change(&self, tenant: &str, function: &str, entry: Option<Entry>) {
        self.table.rcu(|functions| {
            let mut functions = HashMap::clone(functions);
            match &entry {
                Some(entry) => functions.insert((tenant.into(), function.into()), entry.clone()),
                None => functions.remove(&(tenant.into(), function.into())),
            };
            functions
        });
    }

    /// What the invocations of each tenant hold and may hold, in bytes.
    pub fn held_bytes(&self) -> BTreeMap<String, (u64, u64)> {
        let functions = self.table.load();
        let ready = functions.iter().filter_map(|((tenant, _), entry)| match entry {
            Entry::Ready(snapshot) => Some((tenant, &snapshot.revision.owner.account)),
            Entry::Refused(_) => None,
        });
        ready.map(|(tenant, account)| (tenant.to_string(), (account.held_bytes(), account.limit_bytes()))).collect()
    }

    /// Every function, sorted.
    pub fn list(&self) -> Vec<FunctionStatus> {
        let functions = self.table.load();
        let mut list: Vec<_> =
            functions.iter().map(|((tenant, function), entry)| status(tenant, function, entry)).collect();
        list.sort_by(|a, b| (&a.tenant, &a.function).cmp(&(&b.tenant, &b.function)));
        list
    }
}

fn status(tenant: &str, function: &str, entry: &Entry) -> FunctionStatus {
    let (tenant, function) = (tenant.to_owned(), function.to_owned());
    match entry {
        Entry::Ready(snapshot) => FunctionStatus {
            tenant,
            function,
            state: if snapshot.models.missing.is_empty() { "ready" } else { "unavailable" },
            revision: Some(snapshot.revision.number),
            digest: Some(snapshot.revision.digest.clone()),
            error: snapshot.models.missing.first().map(|model| format!("the model `{model}` is out of service")),
            stages: snapshot.revision.stages(),
            models: snapshot.bound(),
        },
        Entry::Refused(reason) => FunctionStatus {
            tenant,
            function,
            state: "refused",
            revision: None,
            digest: None,
            error: Some(reason.clone()),
            stages: Vec::new(),
            models: BTreeMap::new(),
        },
    }
}
