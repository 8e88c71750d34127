//! From the registry's state to what serves: revisions are brought up and traffic is published, at the start and after
//! every change, whichever host made it.
//!
//! Owns the comparison of what should serve with what does, and what this host could not bring up. Refuses to decide
//! what should: that is the registry's state. A function whose new traffic cannot be brought up here goes on as it was.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinError,
    time::{Instant, MissedTickBehavior},
};

use super::{DeployError, Deployer, Functions, LOOK_EVERY, Revision, aside::Aside, snapshot::Snapshot};
use crate::registry::{
    Author, Change, FunctionState, HostNote, Refused, Registry, RegistryError, RevisionRecord, Split, State, Sticky,
};

/// Functions that are brought up at once: mostly reading files and copying compiled code.
const AT_ONCE: usize = 4;
/// Revisions that may wait to be taken out of traffic for their traps.
const MAX_SUSPECTS: usize = 64;
/// How long an order waits until this host serves what it asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a function that could not be brought up is tried again: the store may have been away for a moment.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// Revisions that are brought up at once beside traffic: each holds its component meanwhile.
const LOADS: usize = 2;
/// What is kept of a reason, for the other hosts to read.
const MAX_REASON_BYTES: usize = 512;

type Name = (String, String);

/// A revision that traps too often.
pub(super) struct Suspect {
    pub(super) revision: Arc<Revision>,
    pub(super) reason: String,
}

/// Why a revision could not be brought up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LoadError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error("{0}")]
    Internal(String),
}

impl From<JoinError> for LoadError {
    fn from(panicked: JoinError) -> Self {
        Self::Internal(panicked.to_string())
    }
}

/// What this host makes of the registry.
pub struct Following {
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    functions: Arc<Functions>,
    /// What serves here of each function, as the registry says it.
    serving: Mutex<BTreeMap<Name, Split>>,
    /// Functions whose traffic could not be brought up here, and why.
    failed: Mutex<BTreeMap<Name, String>>,
    /// The number of the last record whose outcome serves.
    applied: watch::Sender<u64>,
    /// Where components are compiled beside traffic.
    aside: Arc<Aside>,
    loads: Semaphore,
    /// Whether what is brought up is the start's, when nobody is served yet and all cores may compile.
    starting: AtomicBool,
    suspects: mpsc::Sender<Suspect>,
    suspected: Mutex<Option<mpsc::Receiver<Suspect>>>,
}

impl Following {
    /// Nothing is brought up before [`Following::bring_up`].
    pub fn new(registry: Arc<Registry>, deployer: Arc<Deployer>, functions: Arc<Functions>) -> Arc<Self> {
        let (suspects, suspected) = mpsc::channel(MAX_SUSPECTS);
        Arc::new(Self {
            registry,
            deployer,
            functions,
            serving: Mutex::default(),
            failed: Mutex::default(),
            applied: watch::Sender::new(0),
            aside: Arc::new(Aside::new()),
            loads: Semaphore::new(LOADS),
            starting: AtomicBool::new(true),
            suspects,
            suspected: Mutex::new(Some(suspected)),
        })
    }

    /// The registry.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What is brought up with.
    pub(super) fn deployer(&self) -> &Arc<Deployer> {
        &self.deployer
    }

    /// Where components are compiled beside traffic.
    pub(super) fn aside(&self) -> &Arc<Aside> {
        &self.aside
    }

    /// What serves.
    pub(super) fn functions(&self) -> &Arc<Functions> {
        &self.functions
    }

    /// Functions whose traffic this host could not bring up, as `tenant/function`, and why.
    pub(super) fn failed(&self) -> BTreeMap<String, String> {
        lock(&self.failed)
            .iter()
            .map(|((tenant, function), why)| (format!("{tenant}/{function}"), why.clone()))
            .collect()
    }

    /// Brings up everything that the registry says at this moment.
    pub async fn bring_up(&self) {
        self.apply(&self.registry.state()).await;
        self.starting.store(false, Relaxed);
    }

    /// Brings up what changes, until it is told to stop.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut changed = self.registry.subscribe();
        // What came between the start's look and this one has been seen by nobody.
        changed.mark_changed();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tried = Instant::now();
        let Some(mut suspected) = lock(&self.suspected).take() else { return };
        let mut models = self.deployer.model_changes();
        loop {
            tokio::select! {
                () = told(&mut stop) => return,
                Some(suspect) = suspected.recv() => self.quarantine(suspect).await,
                change = changed.changed() => match change {
                    Ok(()) => self.apply(&self.registry.state()).await,
                    Err(_) => return,
                },
                _ = ticks.tick() => {
                    self.functions.expire_resting(Instant::now().into_std());
                    // A function may have waited for a model, or for the store.
                    let now = self.deployer.model_changes();
                    let again = now != models || tried.elapsed() > TRY_AGAIN;
                    if again && !lock(&self.failed).is_empty() {
                        tried = Instant::now();
                        self.apply(&self.registry.state()).await;
                    }
                    models = now;
                }
            }
        }
    }

    /// Waits until record `n` has had its effect here; no longer than an order may take.
    pub(super) async fn applied(&self, n: u64) -> bool {
        let mut applied = self.applied.subscribe();
        tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= n)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Makes what serves here what the state says.
    async fn apply(&self, state: &Arc<State>) {
        // First of all: what is brought up below is judged by it.
        let tenants = state.clone();
        self.deployer.allow(Arc::new(move |name| tenants.tenants.get(name).map(|tenant| tenant.settings.clone())));
        let gone: Vec<Name> = {
            let (serving, failed) = (lock(&self.serving), lock(&self.failed));
            let idle =
                |(tenant, function): &&Name| state.function(tenant, function).is_none_or(|it| it.traffic.is_none());
            serving.keys().chain(failed.keys()).filter(idle).cloned().collect()
        };
        for name in gone {
            self.functions.remove(&name.0, &name.1);
            lock(&self.serving).remove(&name);
            tracing::info!(tenant = name.0, function = name.1, "function removed");
        }
        let serving = lock(&self.serving).clone();
        let wanted = |name: &Name| state.function(&name.0, &name.1).and_then(|it| it.traffic.as_ref());
        // What serves as it should has not failed, whatever was tried in between.
        lock(&self.failed).retain(|name, _| wanted(name).is_some_and(|split| serving.get(name) != Some(split)));
        let all = state.functions().map(|(tenant, name, function)| ((tenant.to_owned(), name.to_owned()), function));
        let differs = |(name, function): &(Name, &Arc<FunctionState>)| {
            function.traffic.is_some() && serving.get(name) != function.traffic.as_ref()
        };
        let changed: Vec<_> = all.filter(differs).collect();
        stream::iter(changed)
            .for_each_concurrent(AT_ONCE, async |(name, function)| self.switch(&name, function).await)
            .await;
        // After everything has a log that serves here, so that what is removed next is known to have been there.
        let logs = self.deployer.telemetry().guest_logs();
        logs.settle(|tenant, function| state.function(tenant, function).is_some());
        self.applied.send_if_modified(|applied| std::mem::replace(applied, state.n) < state.n);
        self.announce();
    }

    /// Lets a function's traffic serve, or notes why it cannot.
    async fn switch(&self, name: &Name, function: &FunctionState) {
        let Some(split) = &function.traffic else { return };
        let (tenant, short) = (&*name.0, &*name.1);
        let switched = match self.shares(name, function, split).await {
            Ok(shares) => self.publish(shares, split.sticky.clone()).await,
            Err(error) => Err(error),
        };
        match switched {
            Ok(()) => {
                lock(&self.serving).insert(name.clone(), split.clone());
                lock(&self.failed).remove(name);
                let revisions: Vec<_> = split.shares.iter().map(|share| (share.revision, share.weight)).collect();
                tracing::info!(tenant, function = short, ?revisions, "traffic switched");
            }
            Err(error) => {
                let mut reason = error.to_string();
                reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                self.functions.refuse(tenant, short, &reason);
                // It is tried again with every change, and told once.
                if lock(&self.failed).insert(name.clone(), reason).is_none() {
                    tracing::warn!(tenant, function = short, "traffic cannot be switched on this host: {error}");
                }
            }
        }
    }

    /// Off the reactor: where a model has come meanwhile, its tokenizer is read.
    async fn publish(&self, shares: Vec<(Snapshot, u32)>, sticky: Sticky) -> Result<(), LoadError> {
        let (deployer, functions) = (self.deployer.clone(), self.functions.clone());
        let publish = move || deployer.publish_shares(&functions, shares, sticky);
        Ok(tokio::task::spawn_blocking(publish).await??)
    }

    async fn shares(
        &self,
        name: &Name,
        function: &FunctionState,
        split: &Split,
    ) -> Result<Vec<(Snapshot, u32)>, LoadError> {
        let mut shares = Vec::new();
        for share in &split.shares {
            // The state names no traffic to revisions that it has not.
            let Some(record) = function.revisions.get(&share.revision) else { continue };
            shares.push((self.load(name, record).await?, share.weight));
        }
        Ok(shares)
    }

    /// A revision, ready to serve: as it is at hand, or made of the registry's content.
    pub(super) async fn load(&self, name: &Name, record: &RevisionRecord) -> Result<Snapshot, LoadError> {
        if let Some(snapshot) = self.functions.revision(&name.0, &name.1, record.number)
            && snapshot.revision.digest == record.digest
        {
            return Ok(snapshot);
        }
        // Never closed, and whoever waits is bounded by its order or its request.
        let _load = self.loads.acquire().await.map_err(|error| LoadError::Internal(error.to_string()))?;
        let manifest = self.registry.blob(&record.manifest).await?;
        let component = self.registry.blob(&record.component).await?;
        let (deployer, name, number) = (self.deployer.clone(), name.clone(), record.number);
        let aside = (!self.starting.load(Relaxed)).then(|| self.aside.clone());
        let deploy = move || {
            let manifest = std::str::from_utf8(&manifest)
                .map_err(|_| DeployError::File { file: "function.toml".into(), reason: "is not UTF-8".into() })?;
            let deploy = || deployer.deploy((&name.0, &name.1, number), manifest, &component);
            // What only has to be loaded does not stand in line with what is compiled.
            match aside.filter(|_| !deployer.is_compiled(&component)) {
                Some(aside) => aside.run(deploy),
                None => deploy(),
            }
        };
        Ok(tokio::task::spawn_blocking(deploy).await??)
    }

    /// A revision that is out of traffic and was asked for by number: it is brought up and kept at hand for a while.
    pub(super) async fn out_of_traffic(&self, tenant: &str, function: &str, number: &str) -> Option<Snapshot> {
        let written = number;
        let number: u64 = written.parse().ok().filter(|number: &u64| number.to_string() == written)?;
        let name = (tenant.to_owned(), function.to_owned());
        let record = self.registry.state().function(tenant, function)?.revisions.get(&number)?.clone();
        match self.load(&name, &record).await {
            Ok(snapshot) => {
                // Its models may have been exchanged while it was brought up; a tokenizer is read off the reactor.
                let (deployer, functions) = (self.deployer.clone(), self.functions.clone());
                tokio::task::spawn_blocking(move || deployer.keep(&functions, snapshot)).await.ok()?.ok()
            }
            Err(error) => {
                tracing::warn!(tenant, function, revision = number, "the revision cannot be brought up: {error}");
                None
            }
        }
    }

    /// Hands over a revision that traps too often; never waits.
    pub(super) fn suspect(&self, suspect: Suspect) {
        if self.suspects.try_send(suspect).is_err() {
            tracing::warn!("a revision that traps was not taken out of traffic: too many are");
        }
    }

    /// Takes a revision out of traffic, for all hosts.
    async fn quarantine(&self, suspect: Suspect) {
        let Suspect { revision: suspected, reason } = suspect;
        let (tenant, function, revision) = (&*suspected.tenant, &*suspected.function, suspected.number);
        let author = Author { by: "host".into(), why: None };
        let change = self.registry.change(author, |state: &State| {
            if !is_in_traffic(state, (tenant, function), (revision, &suspected.digest)) {
                return Err(Refused::conflict("it is out of traffic already"));
            }
            Ok(Change::quarantined(tenant, function, revision, &reason))
        });
        match change.await {
            Ok(_) => {
                // Who lets it serve again wants it watched again.
                suspected.health.forget();
                self.deployer.telemetry().quarantined(tenant, function);
                tracing::error!(tenant, function, revision, reason, "the revision was taken out of traffic");
            }
            Err(error) => {
                // It may have nothing to go back to, which another deployment changes: it is told of again after a while.
                tracing::warn!(tenant, function, revision, reason, "the revision stays in traffic: {error}");
            }
        }
    }

    fn announce(&self) {
        self.registry.announce(HostNote { applied: *self.applied.borrow(), failed: self.failed() });
    }
}

/// Whether a revision serves. Its number alone does not say so: what is in the registry may be another content than what
/// was brought up here, as a folder's is, and that one has trapped nowhere.
fn is_in_traffic(state: &State, (tenant, function): (&str, &str), (number, digest): (u64, &str)) -> bool {
    let Some(found) = state.function(tenant, function) else { return false };
    let same = found.revisions.get(&number).is_some_and(|revision| revision.digest == digest);
    same && found.traffic.as_ref().is_some_and(|split| split.names(number))
}

/// Waits until the host stops; a host that is gone has stopped too.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
