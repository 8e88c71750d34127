//! The way of a request. [`Runtime::handle`] does what everybody needs around it and never fails; [`Runtime::invoke`] is
//! the story: find, admit, read, run, answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    time::{timeout, timeout_at},
};
use tracing::Instrument;

use super::{
    Admission, Body, Direct, EngineError, Following, Functions, Identity, InvokeError, ModelControl, ModelError,
    Quarantine, SandboxError,
    attached::{Guests, attach},
    body::{self, ReadError},
    ending::{Arrival, Ending, Serving, log},
    following::Suspect,
    gate::Gate,
    listing::ModelListing,
    snapshot::Snapshot,
    step,
};
use crate::{
    access::Caller,
    account::{Account, Kind, Used},
    engine::{Engine, Explanation, ModelStatus, Version},
    invocation::{Invocation, Request, Response, Stage},
    sandbox::Assignment,
    telemetry::{Report, Telemetry, TraceContext},
    tenant::Priority,
};

/// What a caller asks for, but for its body.
#[derive(Debug)]
pub struct Call {
    /// The request's id.
    pub id: Arc<str>,
    /// Whose function.
    pub tenant: String,
    /// Which function.
    pub function: String,
    /// Which revision, where the caller insists on one.
    pub revision: Option<String>,
    /// What the caller would wait for at most; the function's own timeout caps it.
    pub timeout: Option<Duration>,
    /// How urgent it is.
    pub priority: Priority,
    /// When the head of the request had been read.
    pub arrived: Instant,
    /// Where the request stands in its caller's trace.
    pub trace: TraceContext,
    /// Who asks.
    pub caller: Caller,
    /// Method, path, query and headers; the body is still to come.
    pub request: Request,
}

/// What bringing up a revision that is out of traffic may take of a request that asks for it by number.
const BRING_UP: Duration = Duration::from_secs(10);
/// What the cache has to do with answers: nothing is remembered yet.
const CACHE: &str = "bypass";

/// How an invocation ended.
#[derive(Debug)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub result: Result<Response, InvokeError>,
    /// The revision that served, where one was found.
    pub revision: Option<u64>,
    /// What the cache had to do with it.
    pub cache: &'static str,
    /// How long each stage took.
    pub stages: Vec<(Stage, Duration)>,
    /// Where the request stands in its trace, and whether that is sampled.
    pub trace: TraceContext,
    /// Wants to be told what the answer was, where anybody looks.
    pub report: Option<Box<Report>>,
}

/// What a runtime is made of.
pub struct Parts {
    /// What the registry says, and what serves of it.
    pub following: Arc<Following>,
    /// Who is who.
    pub identity: Arc<Identity>,
    /// The door.
    pub admission: Arc<Admission>,
    /// Models.
    pub engine: Arc<Engine>,
    /// How they change.
    pub models: Arc<ModelControl>,
    /// For who asks models without a function between.
    pub direct: Direct,
    /// The threads to which long-running guests move, and how many there are.
    pub guests: (Handle, usize),
    /// When a revision leaves traffic by itself.
    pub quarantine: Quarantine,
}

/// Everything an invocation needs.
pub struct Runtime {
    functions: Arc<Functions>,
    pub(super) admission: Arc<Admission>,
    pub(super) engine: Arc<Engine>,
    account: Arc<Account>,
    pub(super) models: Arc<ModelControl>,
    pub(super) direct: Direct,
    pub(super) guests: Arc<Guests>,
    identity: Arc<Identity>,
    following: Arc<Following>,
    quarantine: Quarantine,
}

impl Runtime {
    /// Of everything that was made for it.
    pub fn new(parts: Parts) -> Self {
        let Parts { following, identity, admission, engine, models, direct, guests: (threads, places), quarantine } =
            parts;
        let guests = Arc::new(Guests { threads, gate: Gate::new(places) });
        let (functions, account) = (following.functions().clone(), following.deployer().host_account().clone());
        Self { functions, admission, engine, account, models, direct, guests, identity, following, quarantine }
    }

    /// Who is who.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Whether requests should come here, or why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.admission.is_draining() {
            return Err("this host is stopping".into());
        }
        if let Some(why) = self.engine.lost() {
            return Err(format!("a device is lost: {why}"));
        }
        // What an operator takes out of service, or fails to bring up later, is no reason: the rest serves as before.
        match self.engine.missing() {
            Some(model) => Err(format!("the model `{model}` does not serve")),
            None => Ok(()),
        }
    }

    /// The models of this host.
    pub fn models(&self) -> Vec<ModelListing> {
        self.engine.models().into_iter().map(ModelListing::public).collect()
    }

    /// Those of them that a caller may ask.
    pub fn models_for(&self, caller: &Caller) -> Vec<ModelListing> {
        let mut models = self.models();
        models.retain(|model| self.may_ask(caller, model.name()));
        models
    }

    /// The same for operators, with all that is known of what went wrong.
    pub fn models_in_whole(&self) -> Vec<ModelListing> {
        self.engine.models().into_iter().map(ModelListing::whole).collect()
    }

    /// Loads a model, or one version of it, as the repository has it; what there is of it afterwards.
    pub async fn load_model(&self, name: &str, version: Option<u64>) -> Result<Vec<ModelListing>, ModelError> {
        let models = self.models.load(name, version).await?;
        Ok(models.into_iter().map(ModelListing::whole).collect())
    }

    /// Takes a model, or one version of it, out of service.
    pub async fn unload_model(
        &self,
        name: &str,
        version: Option<u64>,
        force: bool,
    ) -> Result<Vec<ModelListing>, ModelError> {
        let models = self.models.unload(name, version, force).await?;
        Ok(models.into_iter().map(ModelListing::whole).collect())
    }

    /// Why a model batches as it does: this version of it, or the one that serves.
    pub fn explain(&self, model: &str, version: Option<u64>) -> Result<Explanation, EngineError> {
        let version = version.map_or(Version::Serving, Version::Number);
        let found = self.engine.model(model, version).map_err(|error| self.in_whole(error));
        Ok(found?.explain())
    }

    /// For operators: what went wrong, with all that is known.
    fn in_whole(&self, error: EngineError) -> EngineError {
        let EngineError::Failed { model, reason } = error else { return error };
        let is = |status: &ModelStatus| status.name == model || format!("{}@{}", status.name, status.version) == model;
        let failures = self.engine.models().into_iter().filter(is).filter_map(|status| status.failure);
        let detail = failures.map(|failure| failure.detail).next_back();
        EngineError::Failed { model, reason: detail.unwrap_or(reason) }
    }

    /// Bytes that all invocations hold at present.
    pub fn held_bytes(&self) -> u64 {
        self.account.held_bytes()
    }

    /// What all invocations may hold together.
    pub fn limit_bytes(&self) -> u64 {
        self.account.limit_bytes()
    }

    /// The functions that can be called.
    pub fn functions(&self) -> &Arc<Functions> {
        &self.functions
    }

    /// Where everything is told.
    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        self.admission.telemetry()
    }

    /// The door.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Around the story: metrics, log line, and what every answer tells. Never fails.
    pub async fn handle(&self, call: Call, body: impl Body) -> Outcome {
        match self.find(&call).await {
            Ok(snapshot) => self.serve(&snapshot, call, body).await,
            Err(error) => {
                let (result, trace) = (Err(error), call.trace);
                Outcome { result, revision: None, cache: CACHE, stages: Vec::new(), trace, report: None }
            }
        }
    }

    /// What serves a call, if its caller may make it.
    async fn find(&self, call: &Call) -> Result<Snapshot, InvokeError> {
        self.identity.may_call(call)?;
        match (self.functions.find(call), &call.revision) {
            (Err(not_found @ InvokeError::RevisionNotFound { .. }), Some(asked)) => {
                // Only here is anything waited for before the request is let in.
                let found = self.following.out_of_traffic(&call.tenant, &call.function, asked);
                tokio::select! {
                    biased;
                    found = timeout(BRING_UP, found) => match found {
                        Ok(found) => found.ok_or(not_found),
                        Err(_) => Err(InvokeError::Deadline { timeout: BRING_UP }),
                    },
                    error = self.admission.cut_off() => Err(error),
                }
            }
            (found, _) => found,
        }
    }

    /// The same on a snapshot that somebody chose.
    pub(super) async fn serve(&self, snapshot: &Snapshot, mut call: Call, body: impl Body) -> Outcome {
        let id = call.id.clone();
        let mut ending = Ending::of(Serving::from(snapshot), Arrival::from(&mut call), self.telemetry());
        let trace = call.trace;
        let result = tokio::select! {
            biased;
            result = self.invoke(snapshot, &mut ending, call, body) => result,
            error = self.admission.cut_off() => Err(error),
        };
        self.watch(snapshot, &result);
        let (stages, report) = ending.answered(&result);
        for (stage, time) in &stages {
            snapshot.revision.metrics.stage(*stage, *time);
        }
        if let Err(error) = &result {
            log((&id, &trace), Serving::from(snapshot), error);
        }
        Outcome { result, revision: Some(snapshot.revision.number), cache: CACHE, stages, trace, report }
    }

    /// Notes whether it trapped, and hands over a revision that does so too often.
    fn watch(&self, snapshot: &Snapshot, result: &Result<Response, InvokeError>) {
        let (revision, rule) = (&snapshot.revision, self.quarantine);
        let trapped = matches!(result, Err(InvokeError::Sandbox(SandboxError::Trap { .. })));
        if revision.health.note(trapped, rule) {
            let reason = format!("{} of the latest {} invocations trapped", rule.traps, rule.of);
            self.following.suspect(Suspect { revision: revision.clone(), reason });
        }
    }

    /// The story of a request whose snapshot is taken.
    async fn invoke(
        &self,
        snapshot: &Snapshot,
        ending: &mut Ending<'_>,
        call: Call,
        mut body: impl Body,
    ) -> Result<Response, InvokeError> {
        let limits = &snapshot.revision.manifest.limits;
        let timeout = call.timeout.map_or(limits.timeout(), |asked| asked.min(limits.timeout()));
        let deadline = call.arrived + timeout;
        let too_late = || InvokeError::Deadline { timeout };
        let body_bytes = snapshot.revision.owner.body_bytes(limits.body_bytes);
        body::check_announced(&body, body_bytes)?;
        let turn = match &snapshot.revision.line {
            Some(line) => Some(self.admission.turn(line, deadline).await?),
            None => None,
        };
        let invocation = self.admission.admit(&call, snapshot, (deadline, turn), ending.record())?;
        let head = invocation.account.charge(Kind::Request, call.request.head_bytes())?;
        let read = body::read(&mut body, body_bytes, head, deadline);
        let (body, charge) = invocation.lap("read body", read).await.map_err(|error| match error {
            ReadError::Body(error) => InvokeError::Body(error),
            ReadError::Memory(over) => InvokeError::Memory(over),
            ReadError::Deadline => too_late(),
        })?;
        let request = Request { body, charge: Some(Arc::new(charge)), ..call.request };
        self.admission.expect(snapshot, &invocation)?;
        let work = run(snapshot.clone(), invocation.clone(), request).in_current_span();
        let attached = attach(&self.guests, invocation.clone(), snapshot.revision.expects_long(), work);
        let ended = timeout_at(deadline.into(), attached).await;
        snapshot.revision.learn(&invocation, &snapshot.models.by_alias);
        ending.stages = invocation.stages.taken();
        match ended {
            Err(_) => Err(too_late()),
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(InvokeError::Internal(panicked.to_string())),
        }
    }
}

/// The work for a caller: owns everything it needs, so that it may move to another thread.
async fn run(snapshot: Snapshot, invocation: Arc<Invocation>, request: Request) -> Result<Response, InvokeError> {
    let revision = snapshot.revision.clone();
    let _accounted = Accounted { snapshot: snapshot.clone(), invocation: invocation.clone() };
    let assignment = Assignment {
        invocation,
        request: Arc::new(request),
        models: snapshot.models.text.clone(),
        config: revision.config.clone(),
        cpu_limit: revision.cpu_limit(),
    };
    step::run(&snapshot, assignment).await
}

/// Adds an invocation's processor time to its function's, however the invocation ends.
struct Accounted {
    snapshot: Snapshot,
    invocation: Arc<Invocation>,
}

impl Drop for Accounted {
    fn drop(&mut self) {
        let (metrics, account) = (&self.snapshot.revision.metrics, &self.invocation.account);
        metrics.cpu_guest.inc_by(account.spent(Used::Guest).as_secs_f64());
        metrics.cpu_host_call.inc_by(account.spent(Used::HostCall).as_secs_f64());
        self.snapshot.revision.owner.used_cpu(account.spent(Used::Guest) + account.spent(Used::HostCall));
        if let Some(stood) = self.invocation.has_stood() {
            metrics.gate_wait.observe(stood.as_secs_f64());
        }
    }
}
