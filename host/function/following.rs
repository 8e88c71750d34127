//! From the registry's state to what serves: revisions are brought up and traffic is published, at the start and after
//! every change, whichever host made it.
//!
//! Owns the comparison of what should serve with what does, and what this host could not bring up. Refuses to decide
//! what should: that is the registry's state. A function whose new traffic cannot be brought up here goes on as it was.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, watch};

use super::{DeployError, Deployer, Functions, LOOK_EVERY, Revision, snapshot::Snapshot};
use crate::registry::{
    Author, Change, FunctionState, HostNote, Refused, Registry, RegistryError, RevisionRecord, Split, State,
};

/// Functions that are brought up at once: mostly reading files and copying compiled code.
const AT_ONCE: usize = 4;
/// Revisions that may wait to be taken out of traffic for their traps.
const MAX_SUSPECTS: usize = 64;
/// How long an order waits until this host serves what it asked for.
const PATIENCE: Duration = Duration::from_secs(10);
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
    }

    /// Brings up what changes, until it is told to stop.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut changed = self.registry.subscribe();
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
                () = tokio::time::sleep(LOOK_EVERY) => {
                    // A function may have waited for a model.
                    let now = self.deployer.model_changes();
                    if now != models && !lock(&self.failed).is_empty() {
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
    async fn apply(&self, state: &State) {
        let gone: Vec<Name> = {
            let serving = lock(&self.serving);
            let idle =
                |(tenant, function): &&Name| state.function(tenant, function).is_none_or(|it| it.traffic.is_none());
            serving.keys().filter(idle).cloned().collect()
        };
        for name in gone {
            self.functions.remove(&name.0, &name.1);
            lock(&self.serving).remove(&name);
            tracing::info!(tenant = name.0, function = name.1, "function removed");
        }
        self.deployer.allow(&|tenant| state.tenants.get(tenant).map(|tenant| tenant.settings.clone()));
        lock(&self.failed).retain(|name, _| state.function(&name.0, &name.1).is_some());
        let all = state.functions().map(|(tenant, name, function)| ((tenant.to_owned(), name.to_owned()), function));
        let differs = |(name, function): &(Name, &Arc<FunctionState>)| {
            function.traffic.is_some() && lock(&self.serving).get(name) != function.traffic.as_ref()
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
        let switched = self
            .shares(name, function, split)
            .await
            .and_then(|shares| Ok(self.deployer.publish_shares(&self.functions, shares, split.sticky.clone())?));
        match switched {
            Ok(()) => {
                lock(&self.serving).insert(name.clone(), split.clone());
                lock(&self.failed).remove(name);
                let revisions: Vec<_> = split.shares.iter().map(|share| (share.revision, share.weight)).collect();
                tracing::info!(tenant, function = short, ?revisions, "traffic switched");
            }
            Err(error) => {
                tracing::warn!(tenant, function = short, "traffic cannot be switched on this host: {error}");
                let mut reason = error.to_string();
                reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                self.functions.refuse(tenant, short, &reason);
                lock(&self.failed).insert(name.clone(), reason);
            }
        }
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
        let manifest = self.registry.blob(&record.manifest).await?;
        let component = self.registry.blob(&record.component).await?;
        let (deployer, name, number) = (self.deployer.clone(), name.clone(), record.number);
        let deploy = move || {
            let manifest = std::str::from_utf8(&manifest)
                .map_err(|_| DeployError::File { file: "function.toml".into(), reason: "is not UTF-8".into() })?;
            deployer.deploy((&name.0, &name.1, number), manifest, &component)
        };
        let deployed = tokio::task::spawn_blocking(deploy).await;
        Ok(deployed.map_err(|panicked| LoadError::Internal(panicked.to_string()))??)
    }

    /// A revision that is out of traffic and was asked for by number: it is brought up and kept at hand for a while.
    pub(super) async fn out_of_traffic(&self, tenant: &str, function: &str, number: &str) -> Option<Snapshot> {
        let number = number.parse().ok()?;
        let name = (tenant.to_owned(), function.to_owned());
        let record = self.registry.state().function(tenant, function)?.revisions.get(&number)?.clone();
        match self.load(&name, &record).await {
            Ok(snapshot) => {
                self.functions.keep(&snapshot);
                Some(snapshot)
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
            let found = state.function(tenant, function);
            let serves = found.and_then(|it| it.traffic.as_ref()).is_some_and(|split| split.names(revision));
            if !serves {
                return Err(Refused::conflict("it is out of traffic already"));
            }
            Ok(Change::quarantined(tenant, function, revision, &reason))
        });
        match change.await {
            Ok(_) => {
                self.deployer.telemetry().quarantined(tenant, function);
                tracing::error!(tenant, function, revision, reason, "the revision was taken out of traffic");
            }
            Err(error) => {
                // It may have nothing to go back to, which another deployment changes.
                suspected.health.forget();
                tracing::warn!(tenant, function, revision, reason, "the revision stays in traffic: {error}");
            }
        }
    }

    fn announce(&self) {
        self.registry.announce(HostNote { applied: *self.applied.borrow(), failed: self.failed() });
    }
}

/// Waits until the host stops; a host that is gone has stopped too.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
