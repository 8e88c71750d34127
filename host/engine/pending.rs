//! The waiting end of an inference: its outputs, or why there are none.
//!
//! Owns how long somebody waits, and that who leaves takes rows along that no lane has. Refuses to know what becomes of the
//! rows meanwhile (`ticket`, `instance`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    error::InferError,
    model::Model,
    ticket::{Answer, Ticket},
};
use crate::{
    invocation::{Outputs, Stage},
    telemetry::{Lap, SpanLink},
};

/// An inference on its way. Dropping it withdraws the rows that are in no batch yet.
#[derive(Debug)]
#[must_use = "dropping it withdraws the rows"]
pub struct Pending {
    model: Arc<Model>,
    ticket: Arc<Ticket>,
    answer: oneshot::Receiver<Answer>,
    give_up: Instant,
    answered: bool,
}

impl Pending {
    /// Rows of a ticket that were queued; without a lane for the first of them by `give_up` they are given up.
    pub(super) fn new(
        model: Arc<Model>,
        ticket: Arc<Ticket>,
        answer: oneshot::Receiver<Answer>,
        give_up: Instant,
    ) -> Self {
        Self { model, ticket, answer, give_up, answered: false }
    }

    /// The outputs of all rows. Adds the times in queue and on instances to the invocation.
    pub async fn outputs(mut self) -> Result<Outputs, InferError> {
        let answer = match tokio::time::timeout_at(self.give_up.into(), &mut self.answer).await {
            Ok(answer) => answer,
            Err(_) if self.model.ground().waiting.give_up(&self.ticket) => {
                self.spent(self.ticket.queued().elapsed(), Duration::ZERO, Vec::new());
                self.answered = true;
                return Err(InferError::QueueTimeout { model: self.model.name().into() });
            }
            // Some rows are on an instance: what was begun has until the invocation's deadline.
            Err(_) => (&mut self.answer).await,
        };
        self.answered = true;
        let Ok(answer) = answer else {
            return Err(InferError::Unavailable { model: self.model.name().into() });
        };
        self.spent(answer.queue, answer.infer, answer.batches);
        answer.result
    }

    /// The answer, if it is there.
    #[cfg(test)]
    pub(super) fn answered_yet(&mut self) -> Option<Result<Outputs, InferError>> {
        let answer = self.answer.try_recv().ok()?;
        self.answered = true;
        Some(answer.result)
    }

    /// Adds the times in queue and on instances to the invocation.
    fn spent(&self, queue: Duration, infer: Duration, batches: Vec<SpanLink>) {
        let stages = &self.ticket.invocation.stages;
        stages.add(Stage::Queue, queue);
        if infer > Duration::ZERO {
            stages.add(Stage::Infer, infer);
        }
        self.laps(queue, infer, batches);
    }

    /// The same as spans, where the invocation is sampled.
    fn laps(&self, queue: Duration, infer: Duration, batches: Vec<SpanLink>) {
        let Some(record) = &self.ticket.invocation.record else { return };
        let (queued, model) = (self.ticket.queued(), Some(self.model.name().into()));
        let started = queued + queue;
        record.lap(Lap { model, ..Lap::new(Stage::Queue.name(), queued, started) });
        if infer > Duration::ZERO {
            let model = Some(self.model.name().into());
            record.lap(Lap { model, batches, ..Lap::new(Stage::Infer.name(), started, started + infer) });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            self.model.ground().waiting.withdraw(&self.ticket);
            if self.ticket.invocation.record.is_some() {
                // Where an invocation was stuck when it was given up is what its trace is looked at for.
                let (now, (started, batches)) = (Instant::now(), self.ticket.so_far());
                let started = started.unwrap_or(now);
                self.laps(
                    started.saturating_duration_since(self.ticket.queued()),
                    now.saturating_duration_since(started),
                    batches,
                );
            }
        }
    }
}
