//! A lane: one thread that owns one instance of a model, takes batches and delivers their outputs.
//!
//! Owns what happens between a batch and its answers: running it, finding the row that makes it throw, charging the
//! time. Refuses to know the batching policy and what the backend is. Batch tensors never leave this thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    backend::{BackendError, Cause, Instance, Loaded, Short},
    batch::{Batch, Plan, Row},
    budget::Share,
    ceiling::Ceiling,
    error::{InferError, LoadError},
    model::MEMORY_RETRY,
    queue::Formed,
    ticket::{Completion, Ticket},
    waiting::Waiting,
    warm_up,
};
use crate::{
    account::Used,
    telemetry::{self, BatchFacts, ModelMetrics},
};

/// What all lanes of a model share.
pub(super) struct Ground {
    /// The model's name, for threads and messages.
    pub(super) model: String,
    /// Its signature, prepared.
    pub(super) plan: Arc<Plan>,
    /// The model in memory.
    pub(super) loaded: Arc<dyn Loaded>,
    /// The extents of the row that each lane runs first.
    pub(super) first_row: Vec<u64>,
    /// How large batches may be, and what a lane may hold.
    pub(super) memory: (Arc<Ceiling>, Arc<Share>),
    /// Where the batches come from.
    pub(super) waiting: Arc<Waiting>,
    /// Where they are counted.
    pub(super) metrics: ModelMetrics,
}

/// A running lane, as its owner holds it.
#[derive(Debug)]
pub(super) struct Lane {
    thread: JoinHandle<()>,
    /// Says nothing and is closed when the thread ends, so that waiting for it can be bounded.
    ended: Receiver<()>,
}

impl Lane {
    /// Starts a lane; returns when it has run its first row.
    pub(super) fn start(ground: &Arc<Ground>, number: usize) -> Result<Self, LoadError> {
        let (running, ended) = sync_channel::<()>(0);
        let (report, ready) = sync_channel(1);
        let shared = ground.clone();
        let body = move || {
            let _running = running;
            let instance = begin(&shared);
            let instance = instance.map_err(|error| report.send(Err(error)).err());
            let Ok(instance) = instance else { return };
            // Nobody listening means that the start was given up; the closed queue then ends the loop.
            let _ = report.send(Ok(()));
            Runner { ground: &shared, number, instance }.run();
        };
        let name = format!("lane-{}-{number}", ground.model);
        let thread = std::thread::Builder::new().name(name).spawn(body);
        let thread = thread.map_err(|error| LoadError::Thread(error.to_string()))?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { thread, ended }),
            Ok(Err(error)) => Err(LoadError::WarmUp(error.to_string())),
            Err(_) => Err(LoadError::WarmUp("the lane's thread ended".into())),
        }
    }

    /// Waits for the thread to end, at most until then. The queue was closed before.
    pub(super) fn join(self, until: Instant) {
        let name = self.thread.thread().name().unwrap_or("lane").to_owned();
        match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => tracing::warn!(lane = name, "still in a batch: left behind"),
            _ => {
                if self.thread.join().is_err() {
                    tracing::error!(lane = name, "the thread had panicked");
                }
            }
        }
    }
}

fn begin(ground: &Ground) -> Result<Box<dyn Instance>, BackendError> {
    let begin = || {
        let mut instance = ground.loaded.instance()?;
        instance.limit_memory(ground.memory.1.lane_bytes());
        warm_up::begin(&mut *instance, &ground.plan, &ground.first_row)?;
        Ok(instance)
    };
    unwinding(begin)
}

/// Runs code of the backend; a panic becomes an error, because a lane must outlive its batches.
fn unwinding<T>(run: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|text| &text[..]));
        Err(BackendError::one_line(&format!("the backend panicked: {}", text.unwrap_or("without a message"))))
    })
}

/// Rows of a batch: whose, and which.
type Rows = [(Arc<Ticket>, usize)];

/// How long a row waits before it is tried once more for memory that others hold; a lane cannot wait for long.
const TRIES: &[Duration] = &[Duration::from_millis(5), Duration::from_millis(20)];

/// Why rows should be run in halves after this error; `None` where that would not help.
fn split_cause(rows: &Rows, error: &BackendError) -> Option<&'static str> {
    let (first, _) = &rows[0];
    match error.cause {
        _ if rows.len() == 1 => None,
        Cause::OutOfMemory(_) => Some("memory"),
        // Rows of one request fail as a whole in any case.
        Cause::Threw if rows.iter().all(|(ticket, _)| Arc::ptr_eq(ticket, first)) => None,
        Cause::Threw => Some("threw"),
        Cause::Broken => None,
    }
}

struct Runner<'a> {
    ground: &'a Ground,
    number: usize,
    instance: Box<dyn Instance>,
}

impl Runner<'_> {
    fn run(mut self) {
        while let Some(formed) = self.ground.waiting.next_batch() {
            let mut answers = Vec::new();
            self.run_batch(&formed, &mut answers);
            // Whatever the batch held is free before a caller sees its answer.
            drop(formed);
            answers.into_iter().for_each(Completion::send);
        }
    }

    fn run_batch(&mut self, formed: &Formed<Arc<Ticket>>, answers: &mut Vec<Completion>) {
        let begun = Instant::now();
        let metrics = &self.ground.metrics;
        for (ticket, _) in &formed.rows {
            ticket.start(begun);
            metrics.queue_duration.observe(begun.saturating_duration_since(ticket.queued()).as_secs_f64());
        }
        metrics.batch_rows.observe(formed.rows.len() as f64);
        metrics.batch_closed(formed.reason.name());
        let span = span(&formed.rows, begun);
        // Models come and go, and with them what is left for a lane.
        self.instance.limit_memory(self.ground.memory.1.lane_bytes());
        self.run_rows(&formed.rows, answers);
        let time = begun.elapsed();
        self.ground.waiting.pace(time, formed.rows.len());
        self.charge(&formed.rows, time);
        let padding_ratio = self.padding_ratio(&formed.rows);
        metrics.padding_ratio.observe(padding_ratio);
        if let Some(span) = span {
            let (model, lane) = (self.ground.model.clone(), self.number);
            span.end(BatchFacts { model, lane, rows: formed.rows.len(), reason: formed.reason.name(), padding_ratio });
        }
    }

    /// Runs rows together. If they throw, or if it is too much for the memory, each half runs on its own, until the rows
    /// that are to blame stand alone.
    fn run_rows(&mut self, rows: &Rows, answers: &mut Vec<Completion>) {
        let (ceiling, elements) = (self.ground.memory.0.clone(), self.padded_elements(rows));
        let cause = if ceiling.allows(rows.len(), elements) {
            let Err(error) = self.try_rows(rows, answers) else { return ceiling.passed(rows.len(), elements) };
            if error.short().is_some() {
                self.instance.release_memory();
                ceiling.hit(rows.len(), elements);
            }
            match split_cause(rows, &error) {
                Some(cause) => cause,
                None => return self.run_last(rows, error, answers),
            }
        } else {
            // It came down since the batch was formed: no need to find out once more.
            "ceiling"
        };
        self.ground.metrics.batch_split(cause);
        let half = rows.len().div_ceil(2);
        let most = if cause == "ceiling" { ceiling.safe_rows(elements, rows.len()) } else { half };
        for fewer in rows.chunks(most) {
            let wanted: Vec<_> = fewer.iter().filter(|(ticket, _)| ticket.is_wanted()).cloned().collect();
            if !wanted.is_empty() {
                self.run_rows(&wanted, answers);
            }
        }
    }

    /// What cannot be split further fails; but a row that ran out of memory has another chance, because something may
    /// have been held that is free now, by its lane or by others.
    fn run_last(&mut self, rows: &Rows, mut error: BackendError, answers: &mut Vec<Completion>) {
        for (attempt, pause) in TRIES.iter().enumerate() {
            match error.short() {
                None => break,
                Some(Short::Device) => std::thread::sleep(*pause),
                // What its lane kept was let go before the first of them.
                Some(Short::Lane) if attempt > 0 => break,
                Some(Short::Lane) => {}
            }
            match self.try_rows(rows, answers) {
                Ok(()) => return,
                Err(again) => error = again,
            }
        }
        if error.cause == Cause::Broken {
            self.replace();
        }
        for request in rows.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            self.fail(&request[0].0, &error, answers);
        }
    }

    fn try_rows(&mut self, rows: &Rows, answers: &mut Vec<Completion>) -> Result<(), BackendError> {
        let plan = &*self.ground.plan;
        let views: Vec<Row<'_>> = rows.iter().map(|(ticket, index)| ticket.row(*index)).collect();
        let batch = Batch::new(plan, &views);
        let mut delivered = false;
        let mut deliver = |outputs: &[super::backend::Dense<'_>]| {
            batch.check(plan, outputs)?;
            delivered = true;
            let gathered = rows
                .iter()
                .enumerate()
                .filter_map(|(position, (ticket, index))| ticket.gather(plan, *index, outputs, position));
            answers.extend(gathered);
            Ok(())
        };
        let instance = &mut self.instance;
        let mut panicked = true;
        let ran = unwinding(|| {
            let ran = instance.run(&batch, &mut deliver);
            panicked = false;
            ran
        });
        if panicked {
            self.replace();
        }
        match ran {
            // The rows have their outputs: running them again would deliver them twice.
            Err(error) if delivered => {
                tracing::warn!(model = self.ground.model, %error, "an error after the outputs were read");
                Ok(())
            }
            Ok(()) if !delivered => Err(BackendError::threw("the backend gave no outputs")),
            other => other,
        }
    }

    /// After a panic nothing is known about the instance: a new one takes its place, if there is one to be had.
    fn replace(&mut self) {
        match unwinding(|| self.ground.loaded.instance()) {
            Ok(mut instance) => {
                instance.limit_memory(self.ground.memory.1.lane_bytes());
                self.instance = instance;
            }
            Err(error) => tracing::error!(model = self.ground.model, %error, "the instance could not be replaced"),
        }
    }

    fn fail(&self, ticket: &Arc<Ticket>, error: &BackendError, answers: &mut Vec<Completion>) {
        let (model, detail) = (self.ground.model.clone(), error.detail.clone());
        tracing::warn!(model, detail, invocation = &*ticket.invocation.id, trace_id = %ticket.invocation.trace.id(), "rows failed");
        let error = match error.short() {
            None => InferError::ModelFailed { model, detail },
            Some(Short::Lane) => {
                let detail = format!("a row of this request is too large for a lane by itself: {detail}");
                InferError::DeviceMemory { model, detail, retry_after: None }
            }
            Some(Short::Device) => InferError::DeviceMemory { model, detail, retry_after: Some(MEMORY_RETRY) },
        };
        answers.extend(ticket.fail(error));
        self.ground.waiting.withdraw(ticket);
    }

    /// Shares the batch's time out by elements that are not padding. (Padding is spread over all; charging it to the
    /// longest row comes with fairness.)
    fn charge(&self, rows: &Rows, time: Duration) {
        let all = elements(rows).max(1.0);
        // Rows of one request stand side by side.
        for request in rows.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            let invocation = &request[0].0.invocation;
            let share = time.mul_f64((elements(request) / all).min(1.0));
            invocation.account.spend(Used::Device, share);
            self.ground.metrics.device_time(&invocation.tenant, &invocation.function, share);
        }
    }

    /// The elements of each row of a batch, padding included.
    fn padded_elements(&self, rows: &Rows) -> u64 {
        let extent = |dimension: usize| rows.iter().map(|(ticket, index)| ticket.row(*index).lengths[dimension]).max();
        (0..self.ground.plan.maxima.len()).filter_map(extent).product()
    }

    /// Share of the elements of a batch that is padding.
    fn padding_ratio(&self, rows: &Rows) -> f64 {
        let padded = (self.padded_elements(rows) * rows.len() as u64).max(1) as f64;
        (1.0 - elements(rows).max(1.0) / padded).max(0.0)
    }
}

/// Elements that are not padding.
fn elements(rows: &Rows) -> f64 {
    rows.iter().map(|(ticket, index)| ticket.elements(*index)).sum::<u64>() as f64
}

/// The batch's own span, where an invocation in it is sampled; they are told of each other.
fn span(rows: &Rows, begun: Instant) -> Option<telemetry::Batch> {
    // Rows of one request stand side by side.
    let requests = || rows.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)).map(|rows| &rows[0].0);
    let records = requests().filter_map(|ticket| ticket.invocation.record.as_ref());
    let span = telemetry::Batch::begin(records, begun)?;
    requests().filter(|ticket| ticket.invocation.record.is_some()).for_each(|ticket| ticket.was_in(span.link()));
    Some(span)
}
