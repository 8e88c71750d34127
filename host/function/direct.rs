//! Inferences without a function: a caller of the Open Inference Protocol asks a model itself, as the tenant whose key it
//! has, or `default`.
//!
//! It goes the way of an invocation without its guest: the same door, the same accounts, the same queue. Owns that way;
//! refuses to know how requests and answers are written (`oip`) and how they look over HTTP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    Body, BodyError, Deployer, InferError, InvokeError, Outcome, Runtime, Tenant,
    body::{self, ReadError},
    ending::{Arrival, Ending, Serving, log},
    oip::{self, DecodeError, Form, InferRequest, Told, UntoldError},
};
use crate::{
    access::Caller,
    account::{Account, Charge, Holder, Kind, OverLimit, Used},
    engine::{EngineError, Model, ModelReference},
    invocation::{Invocation, Outputs, Response, Stage},
    telemetry::{FunctionMetrics, TraceContext},
    tenant::Priority,
};

/// Whose inferences they are while nobody has to say who he is.
pub const DEFAULT_TENANT: &str = "default";
/// What they are called where invocations are told of by function.
pub const FUNCTION: &str = "oip";
/// Longer bodies and answers are read and written on the guests' threads: from here on a connection of the same thread
/// would notice.
pub(super) const LONG_BYTES: usize = 64 << 10;

/// What a caller asks for, but for its body.
#[derive(Debug)]
pub struct Asked {
    /// The request's id.
    pub id: Arc<str>,
    /// The model and its version (empty for the one that serves), where they are known before the body.
    pub model: Option<(String, String)>,
    /// How the body is written.
    pub form: Form,
    /// What the caller would wait for at most; `oip.timeout_ms` caps it.
    pub timeout: Option<Duration>,
    /// How urgent it is.
    pub priority: Priority,
    /// What else is done to an answer for its caller, at once and in the same account.
    pub pack: Option<fn(Response) -> Response>,
    /// When the head of the request had been read.
    pub arrived: Instant,
    /// Where the request stands in its caller's trace.
    pub trace: TraceContext,
    /// Who asks; it is done in the name of their tenant.
    pub caller: Caller,
}

/// What all such inferences share.
pub struct Direct {
    config: oip::Config,
    deployer: Arc<Deployer>,
    function: Arc<str>,
    /// Those who asked so far.
    askers: Mutex<HashMap<String, Arc<Asker>>>,
}

/// A tenant that asks models itself.
struct Asker {
    tenant: Arc<Tenant>,
    metrics: FunctionMetrics,
}

impl Direct {
    /// For the tenants that `deployer` knows.
    pub fn new(config: oip::Config, deployer: Arc<Deployer>) -> Self {
        Self { config, deployer, function: FUNCTION.into(), askers: Mutex::default() }
    }

    fn asker(&self, caller: &Caller) -> Arc<Asker> {
        let name = caller.tenant().unwrap_or(DEFAULT_TENANT);
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = askers.get(name) {
            return asker.clone();
        }
        let (tenant, metrics) = (self.deployer.tenant(name), self.deployer.telemetry().function(name, FUNCTION));
        let asker = Arc::new(Asker { tenant, metrics });
        askers.insert(name.to_owned(), asker.clone());
        asker
    }
}

impl Runtime {
    /// Asks a model without a function between. Never fails.
    pub async fn infer(&self, mut asked: Asked, body: impl Body) -> Outcome {
        let (function, asker) = (&self.direct.function, self.direct.asker(&asked.caller));
        let serving = Serving { tenant: &asker.tenant.name, function, revision: 0, metrics: &asker.metrics, log: None };
        let id = asked.id.clone();
        let arrival = Arrival { id: &id, method: "POST", arrived: asked.arrived, trace: &mut asked.trace };
        let mut ending = Ending::of(serving, arrival, self.telemetry());
        let trace = asked.trace;
        let result = tokio::select! {
            biased;
            result = self.ask((&asker, &mut ending), asked, body) => result,
            error = self.admission.cut_off() => Err(error),
        };
        let (stages, report) = ending.answered(&result);
        for (stage, time) in &stages {
            asker.metrics.stage(*stage, *time);
        }
        if let Err(error) = &result {
            log((&id, &trace), serving, error);
        }
        Outcome { result, revision: None, errors: None, cache: "bypass", rows: None, stages, trace, report }
    }

    /// The story: admit, read, understand, ask, tell.
    async fn ask(
        &self,
        (asker, ending): (&Asker, &mut Ending<'_>),
        asked: Asked,
        mut body: impl Body,
    ) -> Result<Response, InvokeError> {
        self.identity().may_ask(&asked.caller)?;
        let (direct, tenant) = (&self.direct, &asker.tenant);
        let limit = tenant.body_bytes(direct.config.body_bytes);
        let timeout = asked.timeout.map_or(direct.config.timeout(), |wanted| wanted.min(direct.config.timeout()));
        let deadline = asked.arrived + timeout;
        body::check_announced(&body, limit).map_err(refused_body)?;
        let model = asked.model.as_ref().map(|(name, version)| self.granted(tenant, name, version)).transpose()?;
        let permit = self.admission.enter(tenant, model.iter(), None)?;
        let account = tenant.account.child(Holder::Invocation, direct.config.memory_bytes);
        let names = (tenant.name.clone(), direct.function.clone());
        let invocation = Invocation::new(asked.id.clone(), names, deadline, account).with_permit(permit);
        let invocation = invocation.ranked(tenant.standing(), asked.priority);
        let invocation = Arc::new(invocation.traced(asked.trace, ending.record()));
        let charge = invocation.account.charge(Kind::Request, 0)?;
        let read = body::read(&mut body, limit, charge, deadline);
        let read = invocation.lap("read body", read).await.map_err(|error| match error {
            ReadError::Body(error) => refused_body(error),
            ReadError::Memory(over) => too_much(over),
            ReadError::Deadline => InvokeError::Deadline { timeout },
        })?;
        let spent = Spent { asker, account: invocation.account.clone() };
        let answered = timeout_at(deadline.into(), self.answer((&invocation, tenant), (&asked, model), read));
        let answered = answered.await;
        drop(spent);
        ending.came_to(&invocation);
        answered.unwrap_or(Err(InvokeError::Deadline { timeout }))
    }

    /// From the body's bytes to the answer's.
    async fn answer(
        &self,
        (invocation, tenant): (&Arc<Invocation>, &Tenant),
        (asked, model): (&Asked, Option<Arc<Model>>),
        (body, charge): (Bytes, Charge),
    ) -> Result<Response, InvokeError> {
        let (form, pack, length, working) = (asked.form, asked.pack, body.len(), invocation.clone());
        let decode = move || {
            let (start, charge) = (Instant::now(), Arc::new(charge));
            let decoded = InferRequest::decode(form, &body, &charge, &working.account);
            worked(&working, Stage::Preprocess, start);
            decoded
        };
        let mut request = self.aside((invocation, length), decode).await?.map_err(undecoded)?;
        let model = match model {
            Some(model) => model,
            None => self.granted(tenant, &request.model, &request.version)?,
        };
        known_outputs(&model, &request)?;
        // Never longer than the whole may take, so that it is an instant at all.
        let own = request.timeout.map(|own| own.min(self.direct.config.timeout()));
        let (inputs, charges) = (std::mem::take(&mut request.inputs), std::mem::take(&mut request.charges));
        let rows = inputs.first().map_or(0, |(_, tensor)| tensor.layout.rows() as u64);
        let asking = async move {
            let _in_flight = tenant.rows(rows)?;
            let outputs = model.infer(inputs, charges, invocation).map_err(refused_rows)?.outputs().await;
            let outputs = outputs.map_err(refused_rows)?;
            let length = outputs.tensors.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
            let working = invocation.clone();
            let tell = move || {
                let start = Instant::now();
                let told = tell(form, (&request, &model), &outputs, &working.account);
                let told = match pack {
                    Some(pack) => told.map(pack),
                    None => told,
                };
                worked(&working, Stage::Postprocess, start);
                told
            };
            self.aside((invocation, length), tell).await?
        };
        match own {
            None => asking.await,
            Some(timeout) => {
                let ended = timeout_at((asked.arrived + timeout).into(), asking).await;
                ended.unwrap_or(Err(InvokeError::Deadline { timeout }))
            }
        }
    }

    /// Does work that takes a while away from connections, and other work where it is.
    async fn aside<T: Send + 'static>(
        &self,
        (invocation, bytes): (&Arc<Invocation>, usize),
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, InvokeError> {
        let done = self.guests.aside(invocation, bytes > LONG_BYTES, work).await;
        done.map_err(|panicked| InvokeError::Internal(panicked.to_string()))
    }
}

impl Runtime {
    /// The same, where the tenant may ask it; a model that it may not ask is none for it.
    fn granted(&self, tenant: &Tenant, name: &str, version: &str) -> Result<Arc<Model>, InvokeError> {
        let none = || InvokeError::NoModel { detail: format!("there is no model `{}`", oip::echo(name)), known: false };
        if !tenant.may_ask(name) {
            return Err(none());
        }
        // Who may not ask all of them is not told what there is.
        self.model(name, version).map_err(|error| match error {
            InvokeError::NoModel { known: false, .. } if !tenant.may_ask_all() => none(),
            error => error,
        })
    }

    /// The same for who only wants to know about it.
    pub(super) fn model_for(&self, caller: &Caller, name: &str, version: &str) -> Result<Arc<Model>, InvokeError> {
        match caller.tenant() {
            Some(tenant) => self.granted(&self.direct.deployer.tenant(tenant), name, version),
            None => self.model(name, version),
        }
    }

    /// Whether a caller may ask a model, and so know about it.
    pub(super) fn may_ask(&self, caller: &Caller, model: &str) -> bool {
        caller.tenant().is_none_or(|tenant| self.direct.deployer.tenant(tenant).may_ask(model))
    }

    /// A model by its name and version, empty for the one that serves.
    pub(super) fn model(&self, name: &str, version: &str) -> Result<Arc<Model>, InvokeError> {
        let reference = if version.is_empty() { name.to_owned() } else { format!("{name}@{version}") };
        let found = reference.parse::<ModelReference>().and_then(|found| self.engine.model(&found.name, found.version));
        found.map_err(|error| match error {
            EngineError::NotFound { .. } | EngineError::Reference(_) => {
                InvokeError::NoModel { detail: error.to_string(), known: false }
            }
            // Why is for operators.
            _ => InvokeError::NoModel { detail: format!("the model `{reference}` does not serve"), known: true },
        })
    }
}

/// Adds an inference's processor time to its tenant's, however it ends.
struct Spent<'a> {
    asker: &'a Asker,
    account: Arc<Account>,
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        let time = self.account.spent(Used::HostCall);
        self.asker.metrics.cpu_host_call.inc_by(time.as_secs_f64());
        self.asker.tenant.used_cpu(time);
    }
}

/// Notes a piece of work without pauses.
pub(super) fn worked(invocation: &Invocation, stage: Stage, start: Instant) {
    let time = start.elapsed();
    invocation.spent(stage, start, time);
    invocation.account.spend(Used::HostCall, time);
}

/// Outputs that the model does not give are told before anything is queued.
pub(super) fn known_outputs(model: &Model, request: &InferRequest) -> Result<(), InvokeError> {
    let known = &model.signature().outputs;
    let unknown = request.outputs.iter().find(|wanted| !known.iter().any(|spec| spec.name == wanted.name));
    unknown.map_or(Ok(()), |wanted| Err(no_output(&wanted.name, known.iter().map(|spec| &spec.name[..]))))
}

fn no_output<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> InvokeError {
    let known = known.collect::<Vec<_>>().join(", ");
    InvokeError::Malformed(format!("the model has no output `{}`; it has {known}", oip::echo(name)))
}

/// The answer, in the form of the request.
pub(super) fn tell(
    form: Form,
    (request, model): (&InferRequest, &Model),
    outputs: &Outputs,
    account: &Arc<Account>,
) -> Result<Response, InvokeError> {
    let told = Told::of(request, (model.name(), model.version()), outputs);
    let told = told.map_err(|name| no_output(&name, outputs.tensors.iter().map(|(name, _)| &**name)))?;
    let written = match form {
        Form::Json { .. } => told.json(account),
        Form::Protobuf => told.protobuf(account),
    };
    let written = written.map_err(|error| match error {
        UntoldError::Form(detail) => InvokeError::Malformed(detail),
        UntoldError::Memory(over) => too_much(over),
    })?;
    let length = written.header_bytes.map(|bytes| (oip::HEADER_LENGTH.to_owned(), bytes.to_string()));
    let content_type = match (form, &length) {
        (Form::Protobuf, _) => "application/grpc",
        (_, Some(_)) => "application/octet-stream",
        (_, None) => "application/json",
    };
    Ok(Response {
        status: 200,
        content_type: content_type.into(),
        headers: length.into_iter().collect(),
        body: written.body,
        charge: Some(written.charge),
    })
}

/// Without a function between, what breaks a model's contract is the caller's doing.
pub(super) fn refused_rows(error: InferError) -> InvokeError {
    match error {
        InferError::Contract { .. } => InvokeError::Malformed(error.to_string()),
        InferError::Memory(over) => too_much(over),
        other => other.into(),
    }
}

/// So is a request that cannot be read.
pub(super) fn undecoded(error: DecodeError) -> InvokeError {
    match error {
        DecodeError::Malformed(detail) => InvokeError::Malformed(detail),
        DecodeError::Memory(over) => too_much(over),
    }
}

fn refused_body(error: BodyError) -> InvokeError {
    match error {
        BodyError::TooLarge { limit } => {
            InvokeError::TooLarge(format!("the body is larger than {limit} bytes (oip.body_bytes)"))
        }
        BodyError::Broken(_) => InvokeError::Body(error),
    }
}

/// And one that needs more memory than a single inference may have.
fn too_much(over: OverLimit) -> InvokeError {
    match over.holder {
        Holder::Invocation => InvokeError::TooLarge(over.to_string()),
        _ => InvokeError::Memory(over),
    }
}
