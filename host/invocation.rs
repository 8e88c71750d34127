//! An invocation and what passes between its stages: request, step, inference, outputs, response, rejection.
//!
//! Owns these types because every room speaks of them. Refuses to know how a stage runs or how an answer is written.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    account::{Account, Charge, Place},
    arrivals::FirstStep,
    known::{RowCounts, Wanted},
    telemetry::{FunctionLog, Gauge, Lap, Record, TraceContext},
    tenant::{Priority, Standing},
    tensor::Tensor,
};

/// Who is to blame for an error. Decides the family of the status, the level of the log line and whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong.
    Caller,
    /// The plugin or its manifest is wrong.
    Function,
    /// There is too much to do at present.
    Capacity,
    /// Tenon, a model or the machine is wrong.
    Host,
}

/// Waits at the gate that one invocation gives a span each: one in many turns has more.
const MAX_GATE_SPANS: u32 = 16;

/// One run of a function for one request. Whatever works for it holds an `Arc` of this; when the last one lets go
/// (a batch on the device may outlive the caller), its permit and its memory are free again.
#[derive(Debug)]
pub struct Invocation {
    /// The request's id, as in `x-request-id`.
    pub id: Arc<str>,
    /// The tenant that the function belongs to.
    pub tenant: Arc<str>,
    /// The function's name.
    pub function: Arc<str>,
    /// When the caller must have its answer.
    pub deadline: Instant,
    /// What this invocation holds and has used.
    pub account: Arc<Account>,
    /// How long each stage took so far.
    pub stages: StageTimes,
    /// How its tenant stands among others.
    pub standing: Standing,
    /// How urgent it is.
    pub priority: Priority,
    /// The revision that serves it.
    pub revision: u64,
    /// Its place in its caller's trace.
    pub trace: TraceContext,
    /// What becomes its spans, where it is sampled.
    pub record: Option<Arc<Record>>,
    /// Where its guest's lines are kept for the tenant, where there is a guest.
    pub log: Option<Arc<FunctionLog>>,
    /// Set once its guest has held a thread for longer than others should wait: its work then moves to the threads
    /// that are there for that.
    long: AtomicBool,
    stood: Stood,
    /// Which models it asks first.
    pub first_step: FirstStep,
    /// Rows that it asked models for, where rows are remembered.
    pub rows: RowCounts,
    /// Its place among the host's invocations, free again when the last owner lets go.
    permit: Option<Permit>,
}

/// How long it waited for its turns on the guests' threads.
#[derive(Debug, Default)]
struct Stood {
    times: AtomicU32,
    ns: AtomicU64,
}

/// A place among the host's invocations, counted in `tenon_invocations_in_flight` while it is held.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    _place: Place,
    /// Its place among its function's, where there are only so many.
    turn: OnceLock<OwnedSemaphorePermit>,
    in_flight: Gauge,
}

impl Permit {
    /// Counts the place as taken; `place` is the same among those of its tenant.
    pub fn new(permit: OwnedSemaphorePermit, place: Place, in_flight: Gauge) -> Self {
        in_flight.inc();
        Self { _permit: permit, _place: place, turn: OnceLock::new(), in_flight }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

impl Invocation {
    /// An invocation of `tenant`'s `function` that holds no place yet.
    pub fn new(
        id: Arc<str>,
        (tenant, function): (Arc<str>, Arc<str>),
        deadline: Instant,
        account: Arc<Account>,
    ) -> Self {
        let (stages, long) = (StageTimes::default(), AtomicBool::new(false));
        Self {
            id,
            tenant,
            function,
            deadline,
            account,
            stages,
            standing: Standing::default(),
            priority: Priority::default(),
            revision: 0,
            trace: TraceContext::default(),
            record: None,
            log: None,
            long,
            first_step: FirstStep::default(),
            rows: RowCounts::default(),
            stood: Stood::default(),
            permit: None,
        }
    }

    /// The same, of this revision, whose guest logs there.
    pub fn of_revision(self, revision: u64, log: Arc<FunctionLog>) -> Self {
        Self { revision, log: Some(log), ..self }
    }

    /// The same, of a tenant that stands so among others, and so urgent.
    pub fn ranked(self, standing: Standing, priority: Priority) -> Self {
        Self { standing, priority, ..self }
    }

    /// The same, with a place in a trace.
    pub fn traced(self, trace: TraceContext, record: Option<Arc<Record>>) -> Self {
        Self { trace, record, ..self }
    }

    /// The same, holding a place.
    pub fn with_permit(self, permit: Permit) -> Self {
        Self { permit: Some(permit), ..self }
    }

    /// Holds a place among its function's, too, from now on.
    pub fn take_turn(&self, turn: OwnedSemaphorePermit) {
        if let Some(permit) = &self.permit {
            // It takes one only once.
            let _ = permit.turn.set(turn);
        }
    }

    /// Adds `time` from `start` on to a stage, and to its spans where it is sampled.
    pub fn spent(&self, stage: Stage, start: Instant, time: Duration) {
        self.stages.add(stage, time);
        if let Some(record) = &self.record {
            record.lap(Lap::new(stage.name(), start, start + time));
        }
    }

    /// Runs what is no stage but takes time, and gives it a span where the invocation is sampled.
    pub async fn lap<T>(&self, name: &'static str, run: impl Future<Output = T>) -> T {
        let Some(record) = &self.record else { return run.await };
        let start = Instant::now();
        let ran = run.await;
        record.lap(Lap::new(name, start, Instant::now()));
        ran
    }

    /// Notes that its guest holds threads for long.
    pub fn mark_long(&self) {
        self.long.store(true, Relaxed);
    }

    /// Whether its guest holds threads for long.
    pub fn is_long(&self) -> bool {
        self.long.load(Relaxed)
    }

    /// Notes that its guest waited for its turn on the guests' threads.
    pub fn stood(&self, start: Instant, end: Instant) {
        self.stood.ns.fetch_add((end - start).as_nanos() as u64, Relaxed);
        let times = self.stood.times.fetch_add(1, Relaxed);
        if let Some(record) = self.record.as_ref().filter(|_| times < MAX_GATE_SPANS) {
            record.lap(Lap::new("gate", start, end));
        }
    }

    /// How long its guest waited for its turns, where it ever did.
    pub fn has_stood(&self) -> Option<Duration> {
        (self.stood.times.load(Relaxed) > 0).then(|| Duration::from_nanos(self.stood.ns.load(Relaxed)))
    }

    /// How long there is until the deadline.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The stages that `server-timing` and the metrics tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Stage {
    Cache,
    Validate,
    Preprocess,
    Queue,
    Infer,
    Postprocess,
}

impl Stage {
    /// All stages in the order of a request's way.
    pub const ALL: [Self; 6] =
        [Self::Cache, Self::Validate, Self::Preprocess, Self::Queue, Self::Infer, Self::Postprocess];

    /// The name in headers and metrics.
    pub fn name(self) -> &'static str {
        ["cache", "validate", "preprocess", "queue", "infer", "postprocess"][self as usize]
    }
}

/// Time per stage; a stage that runs in several rounds adds up.
#[derive(Debug, Default)]
pub struct StageTimes(Mutex<[Option<Duration>; Stage::ALL.len()]>);

impl StageTimes {
    /// Adds `time` to a stage.
    pub fn add(&self, stage: Stage, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *times[stage as usize].get_or_insert_default() += time;
    }

    /// The stages that ran, in order.
    pub fn taken(&self) -> Vec<(Stage, Duration)> {
        let times = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Stage::ALL.into_iter().filter_map(|stage| times[stage as usize].map(|time| (stage, time))).collect()
    }
}

/// What a caller asks of a function. Header names are lower case; path and query are percent-decoded.
#[derive(Debug, Default)]
pub struct Request {
    /// `POST` or `GET`, upper case.
    pub method: String,
    /// Below the function's name: empty, or starting with `/`.
    pub path: String,
    /// In the caller's order; a name may occur again.
    pub query: Vec<(String, String)>,
    /// In the caller's order, without credentials.
    pub headers: Vec<(String, String)>,
    /// The whole body, as it came.
    pub body: Bytes,
    /// What keeps head and body in the invocation's account; tensors may lie in the body.
    pub charge: Option<Arc<Charge>>,
}

/// What a pair of texts takes beside its bytes.
const PAIR_BYTES: usize = size_of::<(String, String)>();

impl Request {
    /// What everything but the body takes in memory.
    pub fn head_bytes(&self) -> u64 {
        let pairs = self.query.iter().chain(&self.headers);
        let bytes = pairs.map(|(name, value)| name.len() + value.len() + PAIR_BYTES).sum::<usize>();
        (bytes + self.method.len() + self.path.len()) as u64
    }
}

/// A plugin's answer.
#[derive(Debug)]
pub struct Response {
    /// 200 to 299, checked when it leaves the sandbox.
    pub status: u16,
    /// The media type of the body.
    pub content_type: String,
    /// Further headers, names and values checked.
    pub headers: Vec<(String, String)>,
    /// The pieces in which the plugin wrote it.
    pub body: Bytes,
    /// What keeps headers and body in the invocation's account.
    pub charge: Option<Charge>,
}

/// A plugin's refusal of a request.
#[derive(Debug)]
pub struct Rejection {
    /// 400 to 499, checked when it leaves the sandbox.
    pub status: u16,
    /// Short and stable, in kebab-case.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// A JSON pointer to the place in the request.
    pub pointer: Option<String>,
    /// Further headers, names and values checked.
    pub headers: Vec<(String, String)>,
    /// The plugin's own content type and body, instead of problem+json.
    pub body: Option<(String, Bytes)>,
    /// What keeps it in the invocation's account.
    pub charge: Option<Charge>,
}

impl Rejection {
    /// What it takes in memory.
    pub fn bytes(&self) -> u64 {
        let texts = [Some(&self.code), Some(&self.detail), self.pointer.as_ref()];
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + PAIR_BYTES);
        let body = self.body.as_ref().map_or(0, |(content_type, body)| content_type.len() + body.len());
        (texts.into_iter().flatten().map(String::len).chain(headers).sum::<usize>() + body) as u64
    }
}

/// What a plugin asks for next.
#[derive(Debug)]
pub enum Step {
    /// Ask these models, at once.
    Infer(Vec<Inference>),
    /// This is the answer.
    Respond(Response),
}

/// Rows for one model.
#[derive(Debug)]
pub struct Inference {
    /// The plugin's name for the model.
    pub model: String,
    /// Names and tensors; the host shares the bytes with the guest, which can no longer write them.
    pub inputs: Vec<(String, Tensor)>,
    /// Rows that the guest asked for by name: the inputs carry those of them that were not known, in order.
    pub wanted: Vec<Wanted>,
    /// What keeps the tensors in the invocation's account.
    pub charges: Vec<Arc<Charge>>,
}

impl Inference {
    /// How many rows come out.
    pub fn rows(&self) -> usize {
        let sent = self.inputs.first().map_or(0, |(_, tensor)| tensor.layout.rows());
        if self.wanted.is_empty() { sent } else { self.wanted.len() }
    }
}

/// What a model gave for one inference.
#[derive(Debug)]
pub struct Outputs {
    /// In the model's order; ragged ones are trimmed to each row's own length.
    pub tensors: Vec<(Arc<str>, Tensor)>,
    /// What keeps the tensors in the invocation's account.
    pub charge: Arc<Charge>,
}
