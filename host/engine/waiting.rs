//! Where rows wait: the queue under its lock, with the lanes that sleep on it.
//!
//! Owns the lock, the waking and the answers to those who wait in vain. Refuses to know the policy (that is `queue`) and
//! what a lane does with a batch. Under the lock only the policy runs; nothing is answered or freed.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    error::InferError,
    history::Waited,
    queue::{Bill, Decision, Entry, Expired, Formed, Limits, MOST_OVER_LIMIT, Queue, Times},
    ticket::Ticket,
};
use crate::{
    arrivals::{Arrival, Arrivals},
    invocation::Invocation,
    telemetry::ModelMetrics,
    tenant::Standing,
};

/// What a refused caller is told to wait, at least and at most.
const RETRY_AFTER_LEAST: Duration = Duration::from_millis(100);
const RETRY_AFTER_MOST: Duration = Duration::from_secs(30);
/// How long a lane has nothing to do before it lets go of memory.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How much of the pace the latest batch makes up: one part in so many.
const PACE_PARTS: u64 = 8;

/// A batch that would run, and how long it would wait for company.
pub(super) type Forthcoming = (Formed<Arc<Ticket>>, Duration);

/// The rows that wait for one model, and the lanes that wait for rows.
#[derive(Debug)]
pub(super) struct Waiting {
    model: String,
    state: Mutex<State>,
    wake: Condvar,
    closing: Condvar,
    max_rows: usize,
    lanes: u64,
    /// Rows of requests that were let in and are not here yet.
    arrivals: Arc<Arrivals>,
    /// Nanoseconds that a row lately took of a lane.
    pace_ns: AtomicU64,
    /// Requests refused because the queue was full.
    refused: AtomicU64,
    metrics: ModelMetrics,
}

#[derive(Debug)]
struct State {
    queue: Queue<Arc<Ticket>>,
    /// What of it the metrics have been told.
    told: i64,
    /// Lanes that sleep.
    asleep: usize,
    closed: bool,
}

/// A batch on an instance: however it ends, what it took is billed to those whose rows it had.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    waiting: &'a Waiting,
    bill: Bill,
    begun: Instant,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.waiting.state().queue.settle(&self.bill, took, self.begun + took);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.metrics.queue_rows.sub(state.told);
        self.metrics.queue_limit_rows.sub(self.max_rows as i64);
    }
}

impl Waiting {
    /// An empty queue for `lanes` lanes.
    pub(super) fn new(model: &str, limits: Limits, max_rows: usize, lanes: usize, metrics: ModelMetrics) -> Arc<Self> {
        metrics.queue_limit_rows.add(max_rows as i64);
        let state = Mutex::new(State { queue: Queue::new(limits), told: 0, asleep: 0, closed: false });
        let (model, lanes) = (model.to_owned(), lanes as u64);
        Arc::new(Self {
            model,
            state,
            wake: Condvar::new(),
            closing: Condvar::new(),
            max_rows,
            lanes,
            arrivals: Arc::default(),
            pace_ns: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            metrics,
        })
    }

    /// How many rows wait.
    pub(super) fn rows(&self) -> usize {
        self.state().queue.rows()
    }

    /// Whether one more request of a tenant may come, of however many rows.
    pub(super) fn room(&self, tenant: &str, standing: Standing) -> Result<(), InferError> {
        self.room_beside(self.arrivals.rows(tenant), tenant, standing)
    }

    /// The same for rows that come now and were let in long ago, with an earlier step: only rows that are here keep them out.
    pub(super) fn room_now(&self, tenant: &str, standing: Standing) -> Result<(), InferError> {
        self.room_beside((0, 0), tenant, standing)
    }

    fn room_beside(&self, expected: (usize, usize), tenant: &str, standing: Standing) -> Result<(), InferError> {
        let state = self.state();
        self.open(&state)?;
        if state.queue.has_room((tenant, standing), expected, self.max_rows) {
            return Ok(());
        }
        Err(self.full(state.queue.rows()))
    }

    /// The rows of one more request of a tenant are on their way.
    pub(super) fn expect(&self, tenant: &Arc<str>) -> Arrival {
        self.arrivals.expect(tenant)
    }

    /// Who is on the way.
    pub(super) fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// Whether an invocation's rows, which come now, were expected.
    pub(super) fn arrives(&self, invocation: &Invocation) -> bool {
        invocation.first_step.arrives(&self.arrivals)
    }

    fn open(&self, state: &State) -> Result<(), InferError> {
        if state.closed { Err(InferError::Unavailable { model: self.model.clone() }) } else { Ok(()) }
    }

    fn full(&self, rows: usize) -> InferError {
        self.refused.fetch_add(1, Relaxed);
        InferError::QueueFull { model: self.model.clone(), retry_after: self.retry_after(rows) }
    }

    fn retry_after(&self, rows: usize) -> Duration {
        retry_after(rows, Duration::from_nanos(self.pace_ns.load(Relaxed) / self.lanes.max(1)))
    }

    /// Notes how long a row took, averaged over its batch.
    pub(super) fn pace(&self, batch: Duration, rows: usize) {
        let latest = batch.as_nanos() as u64 / rows.max(1) as u64;
        // Lanes may overwrite each other's update; it is an estimate.
        let before = self.pace_ns.load(Relaxed);
        let pace = if before == 0 { latest } else { before - before / PACE_PARTS + latest / PACE_PARTS };
        self.pace_ns.store(pace, Relaxed);
    }

    /// Queues all rows of a request, or none. Who was `expected` has been let in: only a queue that is far beyond its limit,
    /// because requests had many more rows than usual, refuses it now.
    pub(super) fn submit(&self, ticket: &Arc<Ticket>, give_up: Instant, expected: bool) -> Result<(), InferError> {
        let invocation = &*ticket.invocation;
        let times = Times { queued: ticket.queued(), give_up, deadline: invocation.deadline };
        let whose = (invocation.tenant.clone(), invocation.standing, invocation.priority);
        let entry = Entry::new(ticket.clone(), whose, (ticket.rows(), ticket.lengths().clone()), times);
        let mut state = self.state();
        self.open(&state)?;
        let rows = state.queue.rows();
        let is_in = expected && rows < self.max_rows.saturating_mul(MOST_OVER_LIMIT);
        // Who was not expected is the next round of an invocation that was let in long ago: only rows that are here keep it out.
        if !is_in && !state.queue.has_room((&invocation.tenant, invocation.standing), (0, 0), self.max_rows) {
            return Err(self.full(rows));
        }
        state.queue.push(entry);
        self.counted(&mut state);
        drop(state);
        self.arrivals.came(&invocation.tenant, ticket.rows());
        self.wake.notify_one();
        Ok(())
    }

    /// Takes the rows of a request out that are in no batch yet.
    pub(super) fn withdraw(&self, ticket: &Arc<Ticket>) {
        self.take_out(ticket, false);
    }

    /// Takes a request out if none of its rows has been in a batch; tells whether it did.
    pub(super) fn give_up(&self, ticket: &Arc<Ticket>) -> bool {
        self.take_out(ticket, true) > 0
    }

    fn take_out(&self, ticket: &Arc<Ticket>, only_unstarted: bool) -> usize {
        let mut state = self.state();
        let rows = state.queue.withdraw(only_unstarted, |waiting| Arc::ptr_eq(waiting, ticket));
        self.counted(&mut state);
        rows
    }

    /// Sleeps until there is a batch for a free lane; `None` when the model is being stopped. A lane that has had nothing to
    /// do for a while rests: it lets go of what it kept for its next batch.
    pub(super) fn next_batch(&self, rest: impl FnOnce()) -> Option<(Formed<Arc<Ticket>>, Waited)> {
        let mut rest = Some(rest);
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let expired = state.queue.expire(now);
            if !expired.is_empty() {
                self.counted(&mut state);
                drop(state);
                self.answer_expired(expired);
                state = self.state();
                continue;
            }
            let free = state.asleep + 1;
            let (rows, requests) = (state.queue.rows(), state.queue.requests());
            state = match state.queue.next(now, free) {
                Decision::Run(formed) => {
                    self.counted(&mut state);
                    if state.queue.rows() > 0 {
                        // Each request woke one lane; what does not fit into this batch is for another.
                        self.wake.notify_one();
                    }
                    return Some((formed, Waited { rows, requests, refused: self.refused.load(Relaxed) }));
                }
                Decision::WaitUntil(ready) => {
                    state.asleep += 1;
                    let wait = self.wake.wait_timeout(state, ready.saturating_duration_since(now));
                    let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
                    state.asleep -= 1;
                    state
                }
                Decision::Idle => {
                    state.asleep += 1;
                    let (mut state, is_tired) = if rest.is_some() {
                        let woken = self.wake.wait_timeout(state, REST_AFTER).unwrap_or_else(PoisonError::into_inner);
                        (woken.0, woken.1.timed_out())
                    } else {
                        (self.wake.wait(state).unwrap_or_else(PoisonError::into_inner), false)
                    };
                    state.asleep -= 1;
                    drop(state);
                    if let Some(rest) = rest.take_if(|_| is_tired) {
                        rest();
                    }
                    // Where the waker wants this core, it goes on first, and what else it has to queue comes into the
                    // same batch. Where there is a core for both, this returns at once.
                    std::thread::yield_now();
                    self.state()
                }
            };
        }
    }

    /// What a lane that is free at that time would take, without sleeping.
    #[cfg(test)]
    pub(super) fn batch_at(&self, now: Instant) -> Option<(Formed<Arc<Ticket>>, Waited)> {
        let expired = self.state().queue.expire(now);
        self.answer_expired(expired);
        match self.state().queue.next(now, 1) {
            Decision::Run(formed) => Some((formed, Waited::default())),
            _ => None,
        }
    }

    /// A batch has run and took this long.
    #[cfg(test)]
    pub(super) fn settle(&self, bill: &Bill, took: Duration, now: Instant) {
        self.state().queue.settle(bill, took, now);
    }

    /// A batch begins; what this gives is to be dropped when it has ended.
    pub(super) fn settling(&self, bill: Bill) -> Settling<'_> {
        Settling { waiting: self, bill, begun: Instant::now() }
    }

    /// The first batches that would run if lanes were free now and nothing else came, and how many rows would be left; each with how long it would wait for
    /// company: the policy itself, played forward on a copy outside of the lock.
    pub(super) fn foreseen(&self, most: usize) -> (Vec<Forthcoming>, usize) {
        let mut queue = self.state().queue.clone();
        let start = Instant::now();
        let (mut now, mut batches) = (start, Vec::new());
        // Before each batch there is one wait at most.
        for _ in 0..2 * most {
            if batches.len() == most {
                break;
            }
            // Rows that will have expired by then would not run.
            queue.expire(now);
            match queue.next(now, 1) {
                Decision::Run(formed) => batches.push((formed, now.saturating_duration_since(start))),
                Decision::WaitUntil(ready) => now = ready,
                Decision::Idle => break,
            }
        }
        (batches, queue.rows())
    }

    fn answer_expired(&self, expired: Vec<(Arc<Ticket>, Expired)>) {
        for (ticket, why) in expired {
            let model = self.model.clone();
            let error = match why {
                Expired::QueueTimeout => InferError::QueueTimeout { model },
                Expired::Deadline => InferError::Deadline { model },
            };
            let completion = ticket.fail(error);
            drop(ticket);
            completion.into_iter().for_each(super::ticket::Completion::send);
        }
    }

    /// Admits nobody any more, answers all who wait and lets idle lanes go.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = state.queue.clear();
        self.counted(&mut state);
        drop(state);
        self.wake.notify_all();
        self.closing.notify_all();
        for ticket in waiting {
            let completion = ticket.fail(InferError::Unavailable { model: self.model.clone() });
            drop(ticket);
            completion.into_iter().for_each(super::ticket::Completion::send);
        }
    }

    /// Waits so long, or until the model is being stopped; tells whether it is. Not on the lanes' condition: that would
    /// take a row's waking from a lane that could run it.
    pub(super) fn closed_within(&self, time: Duration) -> bool {
        let waited = self.closing.wait_timeout_while(self.state(), time, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Tells the metrics how many rows wait. Versions of one model share a gauge, so each tells what has changed.
    fn counted(&self, state: &mut State) {
        let rows = state.queue.rows() as i64;
        self.metrics.queue_rows.add(rows - std::mem::replace(&mut state.told, rows));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When half of the rows that wait now should have left: a refused caller that heeds it finds room, and lanes find work
/// until it is back. `row` is what a row lately took of all lanes together.
///
/// Not spread over those who were refused with it, and not longer the more there are, though both would refuse less: an
/// early caller costs a refusal of some 30 µs, a late one costs an idle lane. (`tests` plays callers against it.)
fn retry_after(rows: usize, row: Duration) -> Duration {
    let half = u32::try_from(rows / 2).unwrap_or(u32::MAX);
    row.saturating_mul(half).clamp(RETRY_AFTER_LEAST, RETRY_AFTER_MOST)
}

#[cfg(test)]
mod tests;
