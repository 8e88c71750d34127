//! Deployments in progress: content that was uploaded is checked, compiled, tried on its own sample cases and written to
//! the registry, one after another, beside traffic.
//!
//! Owns the line, the order of the steps, and what is told of each. Refuses to know HTTP and how content is stored. One
//! at a time, on one thread that stands back: compiling takes seconds of a core, and requests are to notice little.

mod outcome;

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};

pub use outcome::{Deployment, UploadError};

use outcome::{Progress, Refusal, refusal, refused, unchanged, unstored};

use super::{
    DeployError, Deployer, Manifest, Runtime, Snapshot,
    deployer::{self, digest},
    following::{Following, told},
    trial::Wrong,
};
use crate::{
    account::{Account, Charge},
    registry::{Author, BlobRef, FunctionState, NewRevision, Split},
};

/// Deployments that may wait; each holds its component.
const MAX_WAITING: usize = 8;
/// Deployments that are remembered after they ended, and for how long.
const MAX_REMEMBERED: usize = 1000;
const REMEMBERED: Duration = Duration::from_secs(3600);
/// What all cases of a deployment may take together: others wait.
const TRIAL: Duration = Duration::from_secs(60);
/// Deployments of one tenant that may wait, so that it does not keep others from theirs.
const MAX_WAITING_OF_TENANT: usize = 4;

/// What somebody wants to deploy.
pub struct Upload {
    /// Whose function.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// `function.toml`.
    pub manifest: String,
    /// The component.
    pub component: Bytes,
    /// What the two are charged to for as long as they are held.
    pub charges: [Charge; 2],
    /// Whether it serves everything once it is ready.
    pub promote: bool,
    /// Who deploys, and why.
    pub author: Author,
}

/// A deployment that waits or is in progress: with its content, which is gone when it ends.
struct Job {
    upload: Upload,
    told: Arc<Told>,
}

/// What is known of content before it is compiled.
struct Examined {
    manifest: Manifest,
    new: NewRevision,
}

/// What is told of a deployment, also after its end.
struct Told {
    begun: Instant,
    deployment: Mutex<Deployment>,
}

/// The line of deployments, and those that ended lately.
pub struct Deployments {
    following: Arc<Following>,
    waiting: mpsc::Sender<Arc<Job>>,
    taken: Mutex<Option<mpsc::Receiver<Arc<Job>>>>,
    remembered: Mutex<VecDeque<Arc<Told>>>,
}

impl Job {
    fn tell(&self, change: impl FnOnce(&mut Deployment)) {
        change(&mut lock(&self.told.deployment));
    }

    fn is_at(&self, state: Progress) {
        self.tell(|told| told.state = state);
    }

    fn name(&self) -> (String, String) {
        (self.upload.tenant.clone(), self.upload.function.clone())
    }
}

impl Deployments {
    /// Deploys to what `following` follows.
    pub fn new(following: Arc<Following>) -> Arc<Self> {
        let (waiting, taken) = mpsc::channel(MAX_WAITING);
        let (taken, remembered) = (Mutex::new(Some(taken)), Mutex::default());
        Arc::new(Self { following, waiting, taken, remembered })
    }

    /// Where an upload's bytes are charged as they come: to the tenant's account.
    pub fn account(&self, tenant: &str, function: &str) -> Result<Arc<Account>, UploadError> {
        deployer::names((tenant, function)).map_err(UploadError::Name)?;
        Ok(self.deployer().tenant(tenant).account.clone())
    }

    /// Takes an upload into the line.
    pub fn begin(&self, upload: Upload) -> Result<Deployment, UploadError> {
        deployer::names((&upload.tenant, &upload.function)).map_err(UploadError::Name)?;
        let waits = |told: &&Arc<Told>| {
            let told = lock(&told.deployment);
            told.tenant == upload.tenant && !matches!(told.state, Progress::Ready | Progress::Refused)
        };
        if lock(&self.remembered).iter().filter(waits).count() >= MAX_WAITING_OF_TENANT {
            return Err(UploadError::Busy);
        }
        let told = Deployment {
            id: uuid::Uuid::now_v7().simple().to_string(),
            tenant: upload.tenant.clone(),
            function: upload.function.clone(),
            state: Progress::Queued,
            done: 0,
            total: 0,
            revision: None,
            digest: None,
            promoted: false,
            error: None,
            took_ms: None,
        };
        let told = Arc::new(Told { begun: Instant::now(), deployment: Mutex::new(told) });
        let job = Arc::new(Job { upload, told: told.clone() });
        self.waiting.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => UploadError::Busy,
            mpsc::error::TrySendError::Closed(_) => UploadError::Stopping,
        })?;
        let mut remembered = lock(&self.remembered);
        while remembered.front().is_some_and(|it| remembered.len() >= MAX_REMEMBERED || it.begun.elapsed() > REMEMBERED)
        {
            remembered.pop_front();
        }
        let begun = lock(&told.deployment).clone();
        remembered.push_back(told);
        Ok(begun)
    }

    /// What is known of a deployment of this function.
    pub fn find(&self, tenant: &str, function: &str, id: &str) -> Option<Deployment> {
        let remembered = lock(&self.remembered);
        let told = remembered.iter().map(|told| lock(&told.deployment).clone());
        told.into_iter().find(|it| it.id == id && it.tenant == tenant && it.function == function)
    }

    /// Whether some wait or are in progress.
    pub fn in_progress(&self) -> bool {
        let remembered = lock(&self.remembered);
        remembered.iter().any(|told| lock(&told.deployment).took_ms.is_none())
    }

    fn deployer(&self) -> &Arc<Deployer> {
        self.following.deployer()
    }

    /// Takes one after another, until it is told to stop. What is in progress then is given up; nobody was told that it
    /// is a revision.
    pub async fn run(self: Arc<Self>, runtime: Arc<Runtime>, mut stop: watch::Receiver<bool>) {
        let Some(mut taken) = lock(&self.taken).take() else { return };
        loop {
            let job = tokio::select! {
                () = told(&mut stop) => return,
                job = taken.recv() => job,
            };
            let Some(job) = job else { return };
            let done = tokio::select! {
                () = told(&mut stop) => return,
                done = AssertUnwindSafe(self.deploy(&runtime, &job)).catch_unwind() => {
                    done.unwrap_or_else(|_| Err(refused("internal", "the host's log tells more, at this moment")))
                }
            };
            let took_ms = Some(job.told.begun.elapsed().as_millis() as u64);
            let (tenant, function) = job.name();
            match done {
                Ok((revision, promoted)) => {
                    tracing::info!(tenant, function, revision, promoted, took_ms, "deployed");
                    job.tell(|told| {
                        (told.state, told.revision, told.promoted) = (Progress::Ready, Some(revision), promoted);
                        told.took_ms = took_ms;
                    });
                }
                Err(refusal) => {
                    tracing::warn!(tenant, function, code = refusal.code, "deployment refused: {}", refusal.detail);
                    job.tell(|told| {
                        (told.state, told.error, told.took_ms) = (Progress::Refused, Some(refusal), took_ms);
                    });
                }
            }
        }
    }

    /// From content to a revision; its number, and whether it serves everything.
    async fn deploy(&self, runtime: &Runtime, job: &Arc<Job>) -> Result<(u64, bool), Refusal> {
        job.is_at(Progress::Checking);
        let Examined { manifest, new } = self.examine(job).await?;
        job.tell(|told| (told.total, told.digest) = (manifest.cases.len(), Some(new.digest.clone())));
        if self.is_known(&new) {
            // The same content again is the same revision, which was tried when it came.
            return self.store(job, new).await;
        }
        self.following.registry().would_take(&job.upload.author, &new).map_err(|error| unchanged(&error))?;
        job.is_at(Progress::Compiling);
        let snapshot = self.compile(job).await?;
        job.is_at(Progress::Cases);
        let until = tokio::time::Instant::now() + TRIAL;
        for case in &manifest.cases {
            let ran = tokio::time::timeout_at(until, case.run(runtime, &snapshot)).await;
            let slow = |_| Err(Wrong::Answer(format!("the cases took over {} s together", TRIAL.as_secs())));
            ran.unwrap_or_else(slow).map_err(|wrong| match wrong {
                Wrong::Answer(detail) => refused("case", detail),
                Wrong::Later(_) => refused("busy", "the tenant's rate is used up"),
                Wrong::Host(detail) => refused("busy", format!("{detail}; deploy again when there is room")),
            })?;
            job.tell(|told| told.done += 1);
        }
        job.is_at(Progress::Storing);
        self.store(job, new).await
    }

    /// Work on a deployment's content where it is compiled: it may read tokenizers, and hashing takes tens of milliseconds.
    async fn aside<T: Send + 'static>(
        &self,
        job: &Arc<Job>,
        work: impl FnOnce(&Deployer, &Upload) -> Result<T, DeployError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (deployer, aside, job) = (self.deployer().clone(), self.following.aside().clone(), job.clone());
        let done = tokio::task::spawn_blocking(move || aside.run(|| work(&deployer, &job.upload))).await;
        done.map_err(|panicked| refused("internal", panicked.to_string()))?.map_err(|error| refusal(&error))
    }

    async fn examine(&self, job: &Arc<Job>) -> Result<Examined, Refusal> {
        let examine = |deployer: &Deployer, upload: &Upload| {
            let manifest = deployer.check((&upload.tenant, &upload.function), &upload.manifest)?;
            Ok(Examined { manifest, new: revision(upload) })
        };
        self.aside(job, examine).await
    }

    /// Whether a revision has this content.
    fn is_known(&self, new: &NewRevision) -> bool {
        let state = self.following.registry().state();
        state.function(&new.tenant, &new.function).is_some_and(|it| it.with_digest(&new.digest).is_some())
    }

    /// What the cases run on: the revision that it would be if nobody else deployed meanwhile.
    async fn compile(&self, job: &Arc<Job>) -> Result<Snapshot, Refusal> {
        let registry = self.following.registry().clone();
        let compile = move |deployer: &Deployer, upload: &Upload| {
            let Upload { tenant, function, manifest, component, .. } = upload;
            let prepared = deployer.prepare((tenant, function), manifest, component)?;
            let number = registry.state().last_number(tenant, function).saturating_add(1);
            deployer.snapshot((tenant, function, number), &prepared)
        };
        self.aside(job, compile).await
    }

    /// Writes content, then the record that makes a revision of it.
    async fn store(&self, job: &Job, new: NewRevision) -> Result<(u64, bool), Refusal> {
        let (registry, upload) = (self.following.registry(), &job.upload);
        registry.would_take(&upload.author, &new).map_err(|error| unchanged(&error))?;
        registry.put_blob(upload.manifest.clone().into()).await.map_err(|error| unstored(&error))?;
        registry.put_blob(upload.component.clone()).await.map_err(|error| unstored(&error))?;
        let traffic = |_: Option<&FunctionState>, number| upload.promote.then(|| Split::all(number));
        let added =
            registry.add_revision(upload.author.clone(), new, traffic).await.map_err(|error| unchanged(&error))?;
        let serves = self.following.applied(added.state.n).await;
        if upload.promote {
            self.tell_failure(job, serves);
        }
        Ok((added.number, upload.promote))
    }
}

impl Deployments {
    /// A revision that is promoted and does not serve here all the same: others may have changed models meanwhile.
    fn tell_failure(&self, job: &Job, serves: bool) {
        let name = format!("{}/{}", job.upload.tenant, job.upload.function);
        let reason = match self.following.failed().remove(&name) {
            Some(reason) => format!("it has all traffic, and this host cannot serve it: {reason}"),
            None if !serves => "it has all traffic, and this host does not serve it yet".into(),
            None => return,
        };
        job.tell(|told| told.error = Some(refused("not-serving", reason)));
    }
}

/// What is to be recorded.
fn revision(Upload { tenant, function, manifest, component, .. }: &Upload) -> NewRevision {
    NewRevision {
        tenant: tenant.clone(),
        function: function.clone(),
        manifest: BlobRef::of(manifest.as_bytes()),
        component: BlobRef::of(component),
        digest: digest(manifest, component),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
