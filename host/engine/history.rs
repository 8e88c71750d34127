//! What the last batches of a model were, kept for whoever asks why it batches as it does.
//!
//! Owns a bounded ring of facts and the figures that are made of them. Refuses to judge (that is `advice`) and holds
//! nothing of a batch itself: no tensor, no permit, no invocation outlives its answer because somebody may ask later. A
//! lane notes a batch after its answers are sent, so that a caller waits for none of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{queue::Formed, ticket::Ticket};

/// Batches that are kept: enough to see what is usual, little enough to forget what was usual before.
const KEPT_BATCHES: usize = 128;
/// Requests of a batch that are told one by one; the others are counted.
const KEPT_PARTS: usize = 32;

/// The rows of one request in a batch: they came together, so they waited together.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Whose they are.
    pub(super) tenant: Arc<str>,
    /// Of which function.
    pub(super) function: Arc<str>,
    /// How many.
    pub(super) rows: usize,
    /// From being queued to the start of the batch.
    pub(super) queue: Duration,
    /// Elements of the shortest row and of the longest.
    pub(super) elements: (u64, u64),
}

impl Part {
    fn of(rows: &[(Arc<Ticket>, usize)], began: Instant) -> Self {
        let (ticket, invocation) = (&rows[0].0, &rows[0].0.invocation);
        let elements = || rows.iter().map(|(ticket, index)| ticket.row(*index).lengths.iter().product::<u64>());
        Self {
            tenant: invocation.tenant.clone(),
            function: invocation.function.clone(),
            rows: rows.len(),
            queue: began.saturating_duration_since(ticket.queued()),
            elements: (elements().min().unwrap_or(0), elements().max().unwrap_or(0)),
        }
    }
}

/// What there was to choose from when a batch was formed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waited {
    /// Rows in the queue, those of the batch included.
    pub(super) rows: usize,
    /// Requests that they belong to.
    pub(super) requests: usize,
    /// Requests that had been refused until then, since the model came up.
    pub(super) refused: u64,
}

/// A batch that ran.
#[derive(Debug)]
pub(super) struct Past {
    /// When it began.
    pub(super) began: Instant,
    /// Which lane ran it.
    pub(super) lane: usize,
    /// Why it was closed.
    pub(super) reason: &'static str,
    /// Rows.
    pub(super) rows: usize,
    /// Requests that the rows belong to.
    pub(super) requests: usize,
    /// Elements that are not padding, and all.
    pub(super) elements: (u64, u64),
    /// Times that rows were given to the model: 1, or more where a batch threw and ran again in parts.
    pub(super) runs: usize,
    /// Time on the instance, until its rows had their outputs.
    pub(super) time: Duration,
    /// What waited when it was formed.
    pub(super) waited: Waited,
    /// The first of its requests.
    pub(super) parts: Vec<Part>,
}

impl Past {
    /// What is to be remembered of these rows, if they began then: facts, and nothing that their invocations hold.
    pub(super) fn of(formed: &Formed<Arc<Ticket>>, began: Instant) -> Self {
        let rows = &formed.rows;
        let (real, padded) = formed.elements;
        let mut past = Self {
            began,
            lane: 0,
            reason: formed.reason.name(),
            rows: rows.len(),
            requests: 0,
            elements: (real, padded * rows.len() as u64),
            runs: 1,
            time: Duration::ZERO,
            waited: Waited::default(),
            parts: Vec::with_capacity(rows.len().min(KEPT_PARTS)),
        };
        // Rows of one request stand side by side.
        for request in rows.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            past.requests += 1;
            if past.parts.len() < KEPT_PARTS {
                past.parts.push(Part::of(request, began));
            }
        }
        past
    }

    /// Elements of each row, padding included.
    pub(super) fn row_elements(&self) -> u64 {
        self.elements.1 / self.rows.max(1) as u64
    }
}

/// The last batches of a model, oldest first.
#[derive(Debug)]
pub(super) struct History(Mutex<VecDeque<Arc<Past>>>);

impl Default for History {
    fn default() -> Self {
        // Whole from the start: no lane waits for it to grow.
        Self(Mutex::new(VecDeque::with_capacity(KEPT_BATCHES)))
    }
}

impl History {
    /// Notes a batch and forgets the oldest.
    pub(super) fn note(&self, past: Past) {
        let past = Arc::new(past);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if kept.len() == KEPT_BATCHES { kept.pop_front() } else { None };
        kept.push_back(past);
        drop(kept);
        // Freed outside of the lock.
        drop(oldest);
    }

    /// The batches that are kept, oldest first.
    pub(super) fn batches(&self) -> Vec<Arc<Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
impl Past {
    /// A batch of so many rows of one element, which waited for nothing.
    pub(super) fn plain(rows: usize) -> Self {
        Self {
            began: Instant::now(),
            lane: 0,
            reason: "idle",
            rows,
            requests: 0,
            elements: (rows as u64, rows as u64),
            runs: 1,
            time: Duration::from_millis(1),
            waited: Waited::default(),
            parts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_latest_and_no_more() {
        let history = History::default();
        (0..KEPT_BATCHES + 3).for_each(|rows| history.note(Past::plain(rows)));
        let kept = history.batches();
        assert_eq!((kept.len(), kept[0].rows, kept[KEPT_BATCHES - 1].rows), (KEPT_BATCHES, 3, KEPT_BATCHES + 2));
    }
}
