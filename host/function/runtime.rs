//! The way of a request. [`Runtime::handle`] does what everybody needs around it and never fails; [`Runtime::invoke`] is
//! the story: find, admit, read, run, answer.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::OwnedSemaphorePermit,
    time::{timeout, timeout_at},
};
use tracing::Instrument;

use super::{
    Admission, Body, Direct, ErrorShape, Following, Functions, Identity, InvokeError, ModelControl, Quarantine,
    Remembered, SandboxError,
    admission::Entrant,
    attached::{Guests, attach},
    body::{self, ReadError},
    ending::{Arrival, Ending, Serving, log},
    following::Suspect,
    gate::Gate,
    remembered::{Asked, Looked},
    snapshot::Snapshot,
    work::Work,
};
use crate::{
    access::Caller,
    account::{Account, Kind},
    caching::Policy,
    engine::Engine,
    invocation::{Request, Response, Stage},
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
    /// Whether nothing that is remembered may be used for it.
    pub afresh: bool,
    /// Method, path, query and headers; the body is still to come.
    pub request: Request,
}

/// What bringing up a revision that is out of traffic may take of a request that asks for it by number.
const BRING_UP: Duration = Duration::from_secs(10);
/// What the cache has to do with answers that are not remembered.
const BYPASS: &str = "bypass";

/// How an invocation ended.
#[derive(Debug)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub result: Result<Response, InvokeError>,
    /// The revision that served, where one was found.
    pub revision: Option<u64>,
    /// How errors look that the function's callers see, where the caller may know of the function.
    pub errors: Option<ErrorShape>,
    /// What the cache had to do with it.
    pub cache: &'static str,
    /// Of the rows that models were asked for where rows are remembered: how many, and how many were known.
    pub rows: Option<(u64, u64)>,
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
    /// Answers and rows that are known.
    pub remembered: Arc<Remembered>,
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
    pub(super) remembered: Arc<Remembered>,
}

impl Runtime {
    /// Of everything that was made for it.
    pub fn new(parts: Parts) -> Self {
        let Parts { following, identity, admission, engine, models, direct, guests, quarantine, remembered } = parts;
        let (threads, places) = guests;
        let guests = Arc::new(Guests { threads, gate: Gate::new(places) });
        let (functions, account) = (following.functions().clone(), following.deployer().host_account().clone());
        Self {
            functions,
            admission,
            engine,
            account,
            models,
            direct,
            guests,
            identity,
            following,
            quarantine,
            remembered,
        }
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

    /// Answers and rows that are known.
    pub fn remembered(&self) -> &Arc<Remembered> {
        &self.remembered
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
                let errors = self.errors_for(&call.caller, &call.tenant, &call.function);
                let (result, trace) = (Err(error), call.trace);
                let (cache, stages) = (BYPASS, Vec::new());
                Outcome { result, revision: None, errors, cache, rows: None, stages, trace, report: None }
            }
        }
    }

    /// How a function's errors look before a revision is found, to who may know that there is such a function.
    pub fn errors_for(&self, caller: &Caller, tenant: &str, function: &str) -> Option<ErrorShape> {
        self.identity.sees(caller, tenant).then(|| self.functions.errors(tenant, function)).flatten()
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
        let (cache, rows) = (ending.cache, ending.rows);
        let (stages, report) = ending.answered(&result);
        for (stage, time) in &stages {
            snapshot.revision.metrics.stage(*stage, *time);
        }
        if let Err(error) = &result {
            log((&id, &trace), Serving::from(snapshot), error);
        }
        let (revision, errors) = (Some(snapshot.revision.number), Some(snapshot.revision.manifest.errors));
        Outcome { result, revision, errors, cache, rows, stages, trace, report }
    }

    /// Notes whether it trapped, and hands over a revision that does so too often.
    fn watch<T>(&self, snapshot: &Snapshot, result: &Result<T, InvokeError>) {
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
        let body_bytes = snapshot.revision.owner.body_bytes(limits.body_bytes);
        body::check_announced(&body, body_bytes)?;
        let may_be_known = snapshot.revision.remembers.remembers() && !call.afresh;
        // Where the answer may be known, places and room are asked for only once it is not.
        let turn = if may_be_known { None } else { self.turn(snapshot, deadline).await? };
        let (id, priority, trace, record) = (&call.id, call.priority, call.trace, ending.record());
        let entrant = Entrant { id, priority, trace, record, may_be_known };
        let invocation = self.admission.admit(entrant, snapshot, deadline)?;
        turn.into_iter().for_each(|turn| invocation.take_turn(turn));
        let head = invocation.account.charge(Kind::Request, call.request.head_bytes())?;
        let read = body::read(&mut body, body_bytes, head, deadline);
        let (body, charge) = invocation.lap("read body", read).await.map_err(|error| match error {
            ReadError::Body(error) => InvokeError::Body(error),
            ReadError::Memory(over) => InvokeError::Memory(over),
            ReadError::Deadline => InvokeError::Deadline { timeout },
        })?;
        let request = Arc::new(Request { body, charge: Some(Arc::new(charge)), ..call.request });
        let asked = Asked { snapshot, invocation: &invocation, request: &request };
        let work = Work::new(asked, (!call.afresh).then_some(&self.remembered));
        let answered = if may_be_known {
            // In a box: who remembers nothing need not carry the room that it takes.
            Box::pin(self.recall(work, ending)).await
        } else {
            self.compute(work).await
        };
        ending.came_to(&invocation);
        match answered {
            // The caller's own timeout, not what was left of it.
            Err(InvokeError::Deadline { .. }) => Err(InvokeError::Deadline { timeout }),
            answered => answered,
        }
    }

    /// The answer as it is remembered, or else as it is computed and remembered from now on.
    async fn recall(&self, work: Work, ending: &mut Ending<'_>) -> Result<Response, InvokeError> {
        let (snapshot, invocation, request) = (work.snapshot.clone(), work.invocation.clone(), work.request.clone());
        let asked = Asked { snapshot: &snapshot, invocation: &invocation, request: &request };
        let start = Instant::now();
        let policy = self.policy(asked).await?;
        if !policy.remembers() {
            self.remembered.bypassed(&snapshot);
            return self.compute_late(work).await;
        }
        let looked = self.remembered.look(asked, policy).await;
        invocation.spent(Stage::Cache, start, start.elapsed());
        let duty = match looked {
            Looked::Known(answer, how) => {
                ending.cache = how;
                return answer.give(&invocation.account);
            }
            Looked::Compute(duty) => duty,
            Looked::Late => return Err(InvokeError::Deadline { timeout: Duration::ZERO }),
        };
        let computed = self.compute_late(work).await;
        let (answered, how) = self.remembered.settle(duty, asked, computed);
        ending.cache = how;
        answered
    }

    /// How the answer to this request may be remembered.
    async fn policy(&self, asked: Asked<'_>) -> Result<Arc<Policy>, InvokeError> {
        let rule = &asked.snapshot.revision.remembers;
        if let Some(stated) = rule.stated() {
            return Ok(stated.clone());
        }
        // In an instance of its own: whoever waits for somebody else's answer holds none.
        let said = self.attach(asked, Box::pin(Work::new(asked, None).policy().in_current_span())).await;
        if said.is_err() {
            self.watch(asked.snapshot, &said);
        }
        Ok(Arc::new(rule.capped(said?)))
    }

    /// The answer of a guest that is asked only now.
    async fn compute_late(&self, work: Work) -> Result<Response, InvokeError> {
        self.admission.room(&work.snapshot, &work.invocation)?;
        let turn = self.turn(&work.snapshot, work.invocation.deadline).await?;
        turn.into_iter().for_each(|turn| work.invocation.take_turn(turn));
        self.compute(work).await
    }

    /// The guest's answer.
    pub(super) async fn compute(&self, work: Work) -> Result<Response, InvokeError> {
        let (snapshot, invocation, request) = (work.snapshot.clone(), work.invocation.clone(), work.request.clone());
        self.admission.expect(&snapshot, &invocation)?;
        let asked = Asked { snapshot: &snapshot, invocation: &invocation, request: &request };
        let ended = self.attach(asked, Box::pin(work.run().in_current_span())).await;
        snapshot.revision.learn(&invocation, &snapshot.models.by_alias);
        // Here, because what was known says nothing of the plugin, and a stale answer may hide that it traps.
        self.watch(&snapshot, &ended);
        ended
    }

    /// Ties a guest's work to this caller, until the deadline at most.
    async fn attach<T: Send + 'static>(
        &self,
        asked: Asked<'_>,
        // Boxed where it is made: it is large, and each hand that it goes through would copy it.
        work: Pin<Box<impl Future<Output = Result<T, InvokeError>> + Send + 'static>>,
    ) -> Result<T, InvokeError> {
        let Asked { snapshot, invocation, .. } = asked;
        let expects_long = snapshot.revision.expects_long();
        let attached = attach(&self.guests, invocation.clone(), expects_long, work);
        match timeout_at(invocation.deadline.into(), attached).await {
            Err(_) => Err(InvokeError::Deadline { timeout: Duration::ZERO }),
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(InvokeError::Internal(panicked.to_string())),
        }
    }

    /// A place among those of a function that bounds them.
    async fn turn(&self, snapshot: &Snapshot, deadline: Instant) -> Result<Option<OwnedSemaphorePermit>, InvokeError> {
        match &snapshot.revision.line {
            Some(line) => self.admission.turn(line, deadline).await.map(Some),
            None => Ok(None),
        }
    }
}
