//! Which functions there are and what serves them. A lookup is one atomic load and a hash; a change is one exchange.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::{Call, ErrorShape, InvokeError, snapshot::Snapshot, traffic::Traffic};

type Key = (Box<str>, Box<str>);

/// Revisions out of traffic that one function keeps at hand for whoever asks for them by number.
const MAX_SPARE: usize = 4;

/// What a function is at present.
#[derive(Clone)]
enum Entry {
    /// These revisions serve, and these are there for who asks for them by number.
    Ready { traffic: Traffic, spare: Vec<Snapshot> },
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
    pub(super) tenant: String,
    pub(super) function: String,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    stages: Vec<&'static str>,
    models: BTreeMap<String, String>,
}

impl FunctionStatus {
    /// Whose it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }
}

impl Entry {
    fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        let (traffic, spare) = match self {
            Self::Ready { traffic, spare } => (Some(traffic), &spare[..]),
            Self::Refused(_) => (None, &[][..]),
        };
        traffic.into_iter().flat_map(Traffic::snapshots).chain(spare)
    }
}

impl Functions {
    /// The snapshot that serves a request: of the function's traffic, or exactly of the revision that it asks for.
    pub fn find(&self, call: &Call) -> Result<Snapshot, InvokeError> {
        let functions = self.table.load();
        // A linear hash of two short names; the key borrows, the map owns.
        let found = functions.get(&((&*call.tenant).into(), (&*call.function).into()));
        let Some(entry @ Entry::Ready { traffic, .. }) = found else {
            return Err(InvokeError::FunctionNotFound { tenant: call.tenant.clone(), function: call.function.clone() });
        };
        let Some(asked) = &call.revision else { return Ok(traffic.pick(call).clone()) };
        let is_it = |snapshot: &&Snapshot| snapshot.revision.number.to_string() == *asked;
        let not_there = || InvokeError::RevisionNotFound { function: call.function.clone(), revision: asked.clone() };
        entry.snapshots().find(is_it).cloned().ok_or_else(not_there)
    }

    /// How errors of a function look that were met before one of its revisions: as most of its traffic says.
    pub fn errors(&self, tenant: &str, function: &str) -> Option<ErrorShape> {
        match self.table.load().get(&(tenant.into(), function.into())) {
            Some(Entry::Ready { traffic, .. }) => Some(traffic.main().revision.manifest.errors),
            _ => None,
        }
    }

    /// A revision of a function that is at hand, in traffic or out of it.
    pub(super) fn revision(&self, tenant: &str, function: &str, number: u64) -> Option<Snapshot> {
        let functions = self.table.load();
        let entry = functions.get(&(tenant.into(), function.into()))?;
        entry.snapshots().find(|snapshot| snapshot.revision.number == number).cloned()
    }

    /// Lets a snapshot serve from now on; what is in flight ends on the one it has.
    pub fn publish(&self, snapshot: &Snapshot) {
        self.serve(Traffic::all(snapshot.clone()), false);
    }

    /// Lets this traffic serve from now on. What served before stays at hand if it is `kept`.
    pub(super) fn serve(&self, traffic: Traffic, kept: bool) {
        let revision = traffic.main().revision.clone();
        let key = ((&*revision.tenant).into(), (&*revision.function).into());
        self.table.rcu(|functions| {
            let mut functions = HashMap::clone(functions);
            let mut spare = Vec::new();
            if let Some(before) = functions.get(&key).filter(|_| kept) {
                let serves = |number| traffic.snapshots().any(|snapshot| snapshot.revision.number == number);
                spare.extend(before.snapshots().filter(|it| !serves(it.revision.number)).take(MAX_SPARE).cloned());
            }
            functions.insert(key.clone(), Entry::Ready { traffic: traffic.clone(), spare });
            functions
        });
    }

    /// Keeps a revision at hand that is out of traffic.
    pub(super) fn keep(&self, snapshot: &Snapshot) {
        let key = ((&*snapshot.revision.tenant).into(), (&*snapshot.revision.function).into());
        self.table.rcu(|functions| {
            let mut functions = HashMap::clone(functions);
            if let Some(Entry::Ready { spare, .. }) = functions.get_mut(&key) {
                spare.retain(|it| it.revision.number != snapshot.revision.number);
                spare.insert(0, snapshot.clone());
                spare.truncate(MAX_SPARE);
            }
            functions
        });
    }

    /// Keeps models and functions as they are to each other until it is dropped: briefly, and nothing is compiled or
    /// loaded meanwhile.
    pub(super) fn together(&self) -> MutexGuard<'_, ()> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What serves at present.
    pub(super) fn ready(&self) -> Vec<Snapshot> {
        let functions = self.table.load();
        let traffic = functions.values().filter_map(|entry| match entry {
            Entry::Ready { traffic, .. } => Some(traffic.snapshots()),
            Entry::Refused(_) => None,
        });
        traffic.flatten().cloned().collect()
    }

    /// Lets the same revisions serve on other models, all at once; what is only at hand and asks `model` is made anew when
    /// somebody wants it. Functions that are gone meanwhile stay away.
    pub(super) fn exchange(&self, model: &str, snapshots: &[Snapshot]) {
        self.table.rcu(|functions| {
            let mut functions = HashMap::clone(functions);
            for entry in functions.values_mut() {
                let Entry::Ready { traffic, spare } = entry else { continue };
                spare.retain(|snapshot| !snapshot.asks(model));
                for old in traffic.snapshots_mut() {
                    if let Some(new) = snapshots.iter().find(|new| Arc::ptr_eq(&old.revision, &new.revision)) {
                        *old = new.clone();
                    }
                }
            }
            functions
        });
    }

    /// Notes that a function cannot serve, unless an earlier revision does: that one goes on.
    pub fn refuse(&self, tenant: &str, function: &str, reason: &str) {
        let functions = self.table.load();
        if !matches!(functions.get(&(tenant.into(), function.into())), Some(Entry::Ready { .. })) {
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
        let ready = functions.iter().flat_map(|((tenant, _), entry)| {
            entry.snapshots().take(1).map(move |snapshot| (tenant, &snapshot.revision.owner.account))
        });
        ready.map(|(tenant, account)| (tenant.to_string(), (account.held_bytes(), account.limit_bytes()))).collect()
    }

    /// Lets go of instances that have rested for long enough.
    pub(super) fn expire_resting(&self, now: Instant) {
        let functions = self.table.load();
        functions.values().flat_map(Entry::snapshots).for_each(|snapshot| snapshot.revision.expire_resting(now));
    }

    /// Every function, sorted.
    pub fn list(&self) -> Vec<FunctionStatus> {
        let functions = self.table.load();
        let mut list: Vec<_> =
            functions.iter().map(|((tenant, function), entry)| status(tenant, function, entry)).collect();
        list.sort_by(|a, b| (&a.tenant, &a.function).cmp(&(&b.tenant, &b.function)));
        list
    }

    /// One function.
    pub(super) fn status(&self, tenant: &str, function: &str) -> Option<FunctionStatus> {
        let functions = self.table.load();
        functions.get(&(tenant.into(), function.into())).map(|entry| status(tenant, function, entry))
    }
}

fn status(tenant: &str, function: &str, entry: &Entry) -> FunctionStatus {
    let (tenant, function) = (tenant.to_owned(), function.to_owned());
    match entry {
        Entry::Ready { traffic, .. } => {
            let main = traffic.main();
            let missing = traffic.snapshots().find_map(|snapshot| snapshot.models.missing.first());
            FunctionStatus {
                tenant,
                function,
                state: if missing.is_none() { "ready" } else { "unavailable" },
                revision: Some(main.revision.number),
                digest: Some(main.revision.digest.clone()),
                error: missing.map(|model| format!("the model `{model}` is out of service")),
                stages: main.revision.stages(),
                models: main.bound(),
            }
        }
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
