//! A lane at work: takes batches, runs them and delivers their outputs.
//!
//! Owns what happens between a batch and its answers: running it, finding the row that makes it throw, charging the
//! time. Refuses to know the batching policy, what the backend is, and how a lane begins and comes back (`lane`). Batch
//! tensors never leave its thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend::{BackendError, Cause, Instance, Short},
    batch::{Batch, Row},
    error::InferError,
    history::{Past, Waited},
    lane::{Ground, LaneNumber, Place, unwinding},
    model::MEMORY_RETRY,
    queue::{Formed, bucket},
    ticket::{Completion, Ticket},
};
use crate::{
    account::Used,
    telemetry::{self, BatchFacts},
};

/// Stands where an instance could not be replaced, so that what is left of its batch fails at once.
struct Gone;

impl Instance for Gone {
    fn run(&mut self, _: &Batch<'_>, _: &mut super::backend::Read<'_>) -> Result<(), BackendError> {
        Err(BackendError::threw("its lane is being started again"))
    }
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

/// A batch on its lane. However the lane leaves it, everybody in it is answered.
struct InBatch<'a> {
    ground: &'a Ground,
    formed: Formed<Arc<Ticket>>,
    answers: Vec<Completion>,
}

impl Drop for InBatch<'_> {
    fn drop(&mut self) {
        // Whoever has no answer here is answered by another batch, unless the lane ended within this one.
        if std::thread::panicking() {
            let (model, detail) = (&self.ground.model, "the lane ended within the batch");
            for (ticket, _) in &self.formed.rows {
                let error = InferError::ModelFailed { model: model.clone(), detail: detail.into() };
                self.answers.extend(ticket.fail(error));
                self.ground.waiting.withdraw(ticket);
            }
        }
        // Whatever the batch held is free before a caller sees its answer.
        self.formed.rows.clear();
        self.answers.drain(..).for_each(Completion::send);
    }
}

/// A lane with its instance.
pub(super) struct Runner<'a> {
    ground: &'a Ground,
    place: &'a Place,
    number: usize,
    instance: Box<dyn Instance>,
    /// Times that rows of the present batch were given to the instance.
    runs: usize,
    /// Whether there is no instance any more.
    broken: bool,
}

impl<'a> Runner<'a> {
    /// The lane of this number.
    pub(super) fn new(ground: &'a Ground, (place, number): LaneNumber, instance: Box<dyn Instance>) -> Self {
        Self { ground, place: &ground.places[place], number, instance, runs: 0, broken: false }
    }
}

impl Runner<'_> {
    /// Runs batches until the model is stopped, or until there is no instance any more; tells whether there is one.
    pub(super) fn run(&mut self) -> bool {
        while !self.broken
            && let Some((mut formed, waited)) = self.ground.waiting.next_batch(|| self.instance.release_memory())
        {
            let settling = self.ground.waiting.settling(std::mem::take(&mut formed.bill));
            let mut batch = InBatch { ground: self.ground, formed, answers: Vec::new() };
            let past = self.run_batch(&batch.formed, waited, &mut batch.answers);
            drop(settling);
            drop(batch);
            if self.place.share.is_short() {
                // Or what idle lanes keep would keep everybody out.
                self.instance.release_memory();
            }
            self.ground.history.note(past);
        }
        !self.broken
    }

    /// Runs one batch; its answers are sent by the caller, when it has let go of the batch.
    pub(super) fn run_batch(
        &mut self,
        formed: &Formed<Arc<Ticket>>,
        waited: Waited,
        answers: &mut Vec<Completion>,
    ) -> Past {
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
        self.instance.limit_memory(self.place.share.lane_bytes());
        self.runs = 0;
        self.run_rows(&formed.rows, answers);
        let time = begun.elapsed();
        self.ground.waiting.pace(time, formed.rows.len());
        self.charge(formed, time);
        let past = Past { lane: self.number, runs: self.runs, time, waited, ..Past::of(formed, begun) };
        let padding_ratio = formed.padding_ratio();
        metrics.padding_ratio.observe(padding_ratio);
        if let Some(span) = span {
            let (model, lane) = (self.ground.model.clone(), self.number);
            span.end(BatchFacts { model, lane, rows: formed.rows.len(), reason: formed.reason.name(), padding_ratio });
        }
        past
    }

    /// Runs rows together. If they throw, or if it is too much for the memory, each half runs on its own, until the rows
    /// that are to blame stand alone.
    fn run_rows(&mut self, rows: &Rows, answers: &mut Vec<Completion>) {
        let (ceiling, elements) = (self.ground.ceiling.clone(), self.padded_elements(rows));
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
    #[expect(clippy::disallowed_methods, reason = "nobody tells when a device's memory is free again; it is short")]
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
            Err(error) if delivered && panicked => {
                // Some have their outputs, some not: who has is not touched by this.
                rows.iter().for_each(|(ticket, _)| self.fail(ticket, &error, answers));
                Ok(())
            }
            // The rows have their outputs: running them again would deliver them twice.
            Err(error) if delivered => {
                tracing::warn!(model = self.ground.model, %error, "an error after the outputs were read");
                Ok(())
            }
            Ok(()) if !delivered => Err(BackendError::threw("the backend gave no outputs")),
            other => other,
        }
    }

    /// After a panic nothing is known about the instance: a new one takes its place. Where none is to be had, the lane
    /// ends after this batch and begins anew.
    fn replace(&mut self) {
        match unwinding(|| self.place.loaded.instance()) {
            Ok(mut instance) => {
                instance.limit_memory(self.place.share.lane_bytes());
                self.instance = instance;
            }
            Err(error) => {
                tracing::error!(model = self.ground.model, %error, "the instance could not be replaced");
                (self.instance, self.broken) = (Box::new(Gone), true);
            }
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

    /// Shares the batch's time out: each row pays for its elements, and for the padding that it makes others need.
    fn charge(&self, formed: &Formed<Arc<Ticket>>, time: Duration) {
        let mut parts = formed.parts.iter();
        // Rows of one request stand side by side.
        for request in formed.rows.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            let invocation = &request[0].0.invocation;
            let share = time.mul_f64(parts.by_ref().take(request.len()).sum());
            invocation.account.spend(Used::Device, share);
            self.ground.metrics.device_time(&invocation.tenant, &invocation.function, share);
        }
    }

    /// The elements of each row of a batch, padding included.
    fn padded_elements(&self, rows: &Rows) -> u64 {
        let plan = &self.ground.plan;
        let extent = |dimension: usize| rows.iter().map(|(ticket, index)| ticket.row(*index).lengths[dimension]).max();
        let padded = |dimension: usize| {
            let longest = extent(dimension)?;
            Some(plan.buckets.get(dimension).map_or(longest, |buckets| bucket(buckets, longest)))
        };
        (0..plan.maxima.len()).filter_map(padded).product()
    }
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
