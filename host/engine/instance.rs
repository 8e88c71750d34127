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
    backend::{BackendError, Instance, Loaded},
    batch::{Batch, Plan, Row},
    error::{InferError, LoadError},
    history::{History, Past, Waited},
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
    /// Where the batches come from.
    pub(super) waiting: Arc<Waiting>,
    /// Where they are remembered.
    pub(super) history: Arc<History>,
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
            Runner { ground: &shared, number, instance, runs: 0 }.run();
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

struct Runner<'a> {
    ground: &'a Ground,
    number: usize,
    instance: Box<dyn Instance>,
    /// Times that rows of the present batch were given to the instance.
    runs: usize,
}

impl Runner<'_> {
    fn run(mut self) {
        while let Some((formed, waited)) = self.ground.waiting.next_batch() {
            let mut answers = Vec::new();
            let past = self.run_batch(&formed, waited, &mut answers);
            // Whatever the batch held is free before a caller sees its answer.
            drop(formed);
            answers.into_iter().for_each(Completion::send);
            self.ground.history.note(past);
        }
    }

    fn run_batch(&mut self, formed: &Formed<Arc<Ticket>>, waited: Waited, answers: &mut Vec<Completion>) -> Past {
        let begun = Instant::now();
        let metrics = &self.ground.metrics;
        for (ticket, _) in &formed.rows {
            ticket.start(begun);
            metrics.queue_duration.observe(begun.saturating_duration_since(ticket.queued()).as_secs_f64());
        }
        metrics.batch_rows.observe(formed.rows.len() as f64);
        metrics.batch_closed(formed.reason.name());
        let span = span(&formed.rows, begun);
        self.runs = 0;
        self.run_rows(&formed.rows, answers);
        let time = begun.elapsed();
        self.ground.waiting.pace(time, formed.rows.len());
        self.charge(&formed.rows, time);
        let past = Past { lane: self.number, runs: self.runs, time, waited, ..Past::of(formed, begun) };
        let padding_ratio = past.padding_ratio();
        metrics.padding_ratio.observe(padding_ratio);
        if let Some(span) = span {
            let (model, lane) = (self.ground.model.clone(), self.number);
            span.end(BatchFacts { model, lane, rows: formed.rows.len(), reason: formed.reason.name(), padding_ratio });
        }
        past
    }

    /// Runs rows together. If they throw, each half runs on its own, until the rows that are to blame stand alone.
    fn run_rows(&mut self, rows: &Rows, answers: &mut Vec<Completion>) {
        let Err(error) = self.try_rows(rows, answers) else { return };
        let (first, _) = &rows[0];
        if rows.iter().all(|(ticket, _)| Arc::ptr_eq(ticket, first)) {
            // One row, or rows of one request: it fails as a whole in any case.
            return self.fail(first, &error, answers);
        }
        let (left, right) = rows.split_at(rows.len() / 2);
        for half in [left, right] {
            let wanted: Vec<_> = half.iter().filter(|(ticket, _)| ticket.is_wanted()).cloned().collect();
            if !wanted.is_empty() {
                self.run_rows(&wanted, answers);
            }
        }
    }

    fn try_rows(&mut self, rows: &Rows, answers: &mut Vec<Completion>) -> Result<(), BackendError> {
        self.runs += 1;
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
            Ok(()) if !delivered => Err(BackendError("the backend gave no outputs".into())),
            other => other,
        }
    }

    /// After a panic nothing is known about the instance: a new one takes its place, if there is one to be had.
    fn replace(&mut self) {
        match unwinding(|| self.ground.loaded.instance()) {
            Ok(instance) => self.instance = instance,
            Err(error) => tracing::error!(model = self.ground.model, %error, "the instance could not be replaced"),
        }
    }

    fn fail(&self, ticket: &Arc<Ticket>, error: &BackendError, answers: &mut Vec<Completion>) {
        let (model, detail) = (self.ground.model.clone(), error.0.clone());
        tracing::warn!(model, detail, invocation = &*ticket.invocation.id, trace_id = %ticket.invocation.trace.id(), "rows failed");
        answers.extend(ticket.fail(InferError::ModelFailed { model, detail }));
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
