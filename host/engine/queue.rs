//! Which waiting rows run next: the batching policy.
//!
//! Pure: owns order and limits; refuses to know threads, tensors and clocks (the time is a parameter), so that every
//! decision can be asked for in a test. A request waits as one entry whose rows may leave in several batches.
//! Fairness will replace `in_turn`, and only that.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::profile::Profile;

/// What a batch may be.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Rows.
    pub(super) rows: usize,
    /// Rows x the longest extent of each ragged dimension.
    pub(super) elements: u64,
    /// Predicted time, where there is a profile.
    pub(super) time: Duration,
    /// How long an instance may idle for company.
    pub(super) delay: Duration,
    /// What predicts the time.
    pub(super) profile: Option<Arc<Profile>>,
}

/// A batch whose first row alone takes longer than allowed may take this much longer still: company that costs next to
/// nothing is let in, company that would double the time is not.
const OVER_SLOW_ROW: f64 = 1.25;

impl Limits {
    fn is_too_long(&self, rows: usize, elements: u64) -> bool {
        let predict = |rows| self.profile.as_ref().and_then(|profile| profile.predict(rows, elements));
        predict(rows)
            .is_some_and(|time| time > self.time && predict(1).is_some_and(|alone| time > alone.mul_f64(OVER_SLOW_ROW)))
    }
}

/// Why a batch was closed, as the metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No more rows are allowed.
    Full,
    /// The next row would pad it beyond the elements allowed.
    Elements,
    /// The next row would make it last too long.
    Time,
    /// Nothing else waits and an instance is free.
    Idle,
    /// Nothing else came within the delay.
    Deadline,
}

impl Reason {
    /// The label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Elements => "elements",
            Self::Time => "time",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
        }
    }
}

/// A request that waits. `T` is what the policy hands through without looking at it.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    /// Whose rows they are.
    pub(super) ticket: T,
    /// How many there were.
    pub(super) rows: usize,
    /// The rows before this one have left.
    pub(super) next: usize,
    /// The extents of each row in every ragged dimension, row after row.
    pub(super) lengths: Arc<[u64]>,
    /// Since when it waits.
    pub(super) queued: Instant,
    /// Until when its first row must have left.
    pub(super) give_up: Instant,
    /// Until when its answer is of use.
    pub(super) deadline: Instant,
}

impl<T> Entry<T> {
    fn lengths_of(&self, row: usize) -> &[u64] {
        let dimensions = self.lengths.len() / self.rows.max(1);
        &self.lengths[row * dimensions..(row + 1) * dimensions]
    }
}

/// Rows to run together.
#[derive(Debug)]
pub(super) struct Formed<T> {
    /// Ticket and row.
    pub(super) rows: Vec<(T, usize)>,
    /// Why no more.
    pub(super) reason: Reason,
}

/// What an idle instance should do.
#[derive(Debug)]
pub(super) enum Decision<T> {
    /// Run these.
    Run(Formed<T>),
    /// Ask again then, or when more rows have come.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Why an entry was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// No instance was free in time.
    QueueTimeout,
    /// Nobody waits for the answer any more.
    Deadline,
}

/// The rows that wait for one model. A copy can be played forward to see what would run.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<Entry<T>>,
    rows: usize,
}

impl<T: Clone> Queue<T> {
    /// An empty queue.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, waiting: VecDeque::new(), rows: 0 }
    }

    /// How many rows wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many requests wait.
    pub(super) fn requests(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a request. Whether there is room is asked before.
    pub(super) fn push(&mut self, entry: Entry<T>) {
        self.rows += entry.rows - entry.next;
        self.waiting.push_back(entry);
    }

    /// Takes out the waiting rows of a request: of any, or only if none of them has left. Answers how many it were.
    pub(super) fn withdraw(&mut self, only_unstarted: bool, mut is: impl FnMut(&T) -> bool) -> usize {
        let found = self.waiting.iter().position(|entry| is(&entry.ticket));
        let Some(index) = found.filter(|index| !only_unstarted || self.waiting[*index].next == 0) else { return 0 };
        let rows = self.waiting.remove(index).map_or(0, |entry| entry.rows - entry.next);
        self.rows -= rows;
        rows
    }

    /// Takes out the requests that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(T, Expired)> {
        let mut expired = Vec::new();
        let rows = &mut self.rows;
        self.waiting.retain(|entry| {
            let why = match entry {
                late if late.deadline <= now => Expired::Deadline,
                late if late.next == 0 && late.give_up <= now => Expired::QueueTimeout,
                _ => return true,
            };
            *rows -= entry.rows - entry.next;
            expired.push((entry.ticket.clone(), why));
            false
        });
        expired
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.rows = 0;
        self.waiting.drain(..).map(|entry| entry.ticket).collect()
    }

    /// What an instance that is free now should do. Expired requests are taken out before.
    pub(super) fn next(&mut self, now: Instant) -> Decision<T> {
        let Some(oldest) = self.waiting.front().map(|entry| entry.queued) else { return Decision::Idle };
        let (rows, mut reason) = self.fitting();
        if reason == Reason::Idle && !self.limits.delay.is_zero() {
            match oldest + self.limits.delay {
                ready if now < ready => return Decision::WaitUntil(ready),
                _ => reason = Reason::Deadline,
            }
        }
        Decision::Run(Formed { rows: self.take(rows), reason })
    }

    /// In which order rows get their turn: as they came.
    fn in_turn(&self) -> impl Iterator<Item = &[u64]> {
        self.waiting.iter().flat_map(|entry| (entry.next..entry.rows).map(|row| entry.lengths_of(row)))
    }

    /// How many rows fit together, and what stopped it. The first row always fits: rows are checked against the model's
    /// maxima before they are queued, and a row that takes long alone takes as long later.
    fn fitting(&self) -> (usize, Reason) {
        let limits = &self.limits;
        let mut longest: Vec<u64> = Vec::new();
        for (rows, lengths) in self.in_turn().enumerate() {
            if rows == limits.rows {
                return (rows, Reason::Full);
            }
            match rows {
                0 => longest.extend_from_slice(lengths),
                _ => longest.iter_mut().zip(lengths).for_each(|(longest, length)| *longest = (*longest).max(*length)),
            }
            let elements = longest.iter().fold(1, |product: u64, length| product.saturating_mul(*length));
            if rows > 0 && elements.saturating_mul(rows as u64 + 1) > limits.elements {
                return (rows, Reason::Elements);
            }
            if rows > 0 && limits.is_too_long(rows + 1, elements) {
                return (rows, Reason::Time);
            }
        }
        (self.rows, if self.rows == limits.rows { Reason::Full } else { Reason::Idle })
    }

    fn take(&mut self, count: usize) -> Vec<(T, usize)> {
        let mut rows = Vec::with_capacity(count);
        while let Some(entry) = self.waiting.front_mut().filter(|_| rows.len() < count) {
            let until = entry.rows.min(entry.next + count - rows.len());
            rows.extend((entry.next..until).map(|row| (entry.ticket.clone(), row)));
            entry.next = until;
            if entry.next == entry.rows {
                self.waiting.pop_front();
            }
        }
        self.rows -= rows.len();
        rows
    }
}

#[cfg(test)]
mod tests;
