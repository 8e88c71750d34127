//! Which waiting rows run next: the batching policy.
//!
//! Pure: owns order and limits; refuses to know threads, tensors and clocks (the time is a parameter), so that every
//! decision can be asked for in a test. A request waits as one entry whose rows may leave in several batches.
//!
//! Who goes first is decided by two levels of [`Fair`]: the class (`interactive` has nine parts, `batch` one), and within
//! it the tenant that has had the least instance time for its weight. The oldest row of whoever is due begins the batch,
//! so nobody waits for ever; then rows are added in the same order as long as they fit and cost less together than apart
//! (`company`). A row that does not fit is passed over and keeps its place. While tenants that ask for little are about
//! (`neighbours`), the batches of those who ask for much end sooner: whoever comes must wait for the one that runs.

mod company;
mod form;
mod neighbours;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use company::{Limits, bucket};
use neighbours::Neighbours;

use crate::{
    fair::Fair,
    tenant::{Priority, Standing},
};

/// What a class gets of an instance while both have rows waiting: nine parts and one.
const CLASSES: [(Priority, f64); 2] = [(Priority::Interactive, 9.0), (Priority::Batch, 1.0)];
/// A full queue still lets in tenants that hold less of it than their share, until it holds so many times its limit.
pub(super) const MOST_OVER_LIMIT: usize = 2;

/// Why a batch was closed, as the metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No more rows are allowed.
    Full,
    /// The next row would pad it beyond the elements allowed.
    Elements,
    /// The next row would make it last too long.
    Time,
    /// The next row might be more than the device's memory holds.
    Memory,
    /// Further rows would make it longer and hardly any row cheaper.
    Enough,
    /// Its tenants ask for much, and one that asks for little would wait for it to end.
    Neighbour,
    /// Rows wait that would cost more in this batch than in one of their own.
    Unlike,
    /// Rows wait that may not share a batch, because their tenant's or this batch's is exclusive.
    Exclusive,
    /// The other rows are left to lanes that are free as well.
    Spread,
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
            Self::Memory => "memory",
            Self::Enough => "enough",
            Self::Neighbour => "neighbour",
            Self::Unlike => "unlike",
            Self::Exclusive => "exclusive",
            Self::Spread => "spread",
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
    /// Who pays for them.
    pub(super) tenant: Arc<str>,
    /// How the tenant stands among others.
    pub(super) standing: Standing,
    /// How urgent they are.
    pub(super) priority: Priority,
    /// How many there were.
    pub(super) rows: usize,
    /// Those that have not left, the longest first.
    left: Vec<usize>,
    /// The extents of each row in every ragged dimension, row after row.
    lengths: Arc<[u64]>,
    /// Since when it waits.
    pub(super) queued: Instant,
    /// Until when its first row must have left.
    pub(super) give_up: Instant,
    /// Until when its answer is of use.
    pub(super) deadline: Instant,
}

/// When a request came and how long it may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Since when it waits.
    pub(super) queued: Instant,
    /// Until when its first row must have left.
    pub(super) give_up: Instant,
    /// Until when its answer is of use.
    pub(super) deadline: Instant,
}

impl<T> Entry<T> {
    /// A request of `rows` rows whose extents `lengths` has one after another.
    pub(super) fn new(
        ticket: T,
        (tenant, standing, priority): (Arc<str>, Standing, Priority),
        (rows, lengths): (usize, Arc<[u64]>),
        times: Times,
    ) -> Self {
        let Times { queued, give_up, deadline } = times;
        let mut entry = Self {
            ticket,
            tenant,
            standing,
            priority,
            rows,
            left: (0..rows).rev().collect(),
            lengths,
            queued,
            give_up,
            deadline,
        };
        let mut left = std::mem::take(&mut entry.left);
        // Rows of like length stand side by side, so that they leave together. Stable: equal ones leave in order.
        left.sort_by_key(|row| std::cmp::Reverse(company::elements(entry.lengths_of(*row))));
        entry.left = left;
        entry
    }

    fn lengths_of(&self, row: usize) -> &[u64] {
        let dimensions = self.lengths.len() / self.rows.max(1);
        &self.lengths[row * dimensions..(row + 1) * dimensions]
    }

    fn has_begun(&self) -> bool {
        self.left.len() < self.rows
    }
}

/// Rows to run together.
#[derive(Clone, Debug)]
pub(super) struct Formed<T> {
    /// Ticket and row; rows of one request stand side by side.
    pub(super) rows: Vec<(T, usize)>,
    /// Elements of all rows that are not padding, and of each row with its padding.
    pub(super) elements: (u64, u64),
    /// What part of the batch's time each row causes.
    pub(super) parts: Vec<f64>,
    /// Why no more.
    pub(super) reason: Reason,
    /// What is to be settled when it has run.
    pub(super) bill: Bill,
}

impl<T> Formed<T> {
    /// Share of the elements of the batch that is padding.
    pub(super) fn padding_ratio(&self) -> f64 {
        let (real, padded) = self.elements;
        let all = padded.saturating_mul(self.rows.len() as u64).max(1) as f64;
        (1.0 - real as f64 / all).max(0.0)
    }
}

/// Who was served by a batch, and what was expected of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Bill {
    expected: Duration,
    flows: Vec<Served>,
}

/// One tenant's rows of one class in a batch.
#[derive(Clone, Debug)]
struct Served {
    priority: Priority,
    tenant: Arc<str>,
    weight: f64,
    rows: usize,
    /// Their part of the batch's time.
    part: f64,
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

/// The rows of one class that wait, by tenant, and who is due.
#[derive(Clone, Debug)]
struct Class<T> {
    priority: Priority,
    flows: BTreeMap<Arc<str>, VecDeque<Entry<T>>>,
    tenants: Fair<Arc<str>>,
}

/// The rows that wait for one model. A copy can be played forward to see what would run.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    limits: Limits,
    classes: [Class<T>; CLASSES.len()],
    /// Which class is due.
    between: Fair<Priority>,
    neighbours: Neighbours,
    rows: usize,
}

impl<T: Clone> Queue<T> {
    /// An empty queue.
    pub(super) fn new(limits: Limits) -> Self {
        let class = |(priority, _)| Class { priority, flows: BTreeMap::new(), tenants: Fair::default() };
        let (between, neighbours) = (Fair::default(), Neighbours::default());
        Self { limits, classes: CLASSES.map(class), between, neighbours, rows: 0 }
    }

    /// How many rows wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many requests wait.
    pub(super) fn requests(&self) -> usize {
        self.classes.iter().flat_map(|class| class.flows.values()).map(VecDeque::len).sum()
    }

    /// Whether a tenant's request may come in, where at most `most` rows should wait: while fewer wait or are `expected` (of
    /// all, and of this tenant), and beyond that as long as the tenant has less than its share of them, so that nobody is
    /// kept out by what others have queued or might queue.
    pub(super) fn has_room(
        &self,
        (tenant, standing): (&str, Standing),
        (expected, of_tenant): (usize, usize),
        most: usize,
    ) -> bool {
        if self.rows + expected < most {
            return true;
        }
        let held = |class: &Class<T>| {
            let entries = class.flows.get(tenant).into_iter().flatten();
            entries.map(|entry| entry.left.len()).sum::<usize>()
        };
        let share = |class: &Class<T>| class.tenants.share(tenant, standing.weight);
        let held = of_tenant + self.classes.iter().map(held).sum::<usize>();
        let share = self.classes.iter().map(share).fold(1.0, f64::min);
        self.rows < most.saturating_mul(MOST_OVER_LIMIT) && (held as f64) < share * most as f64
    }

    /// Adds a request. Whether there is room is asked before.
    pub(super) fn push(&mut self, entry: Entry<T>) {
        let rows = entry.left.len();
        if entry.priority == Priority::Interactive {
            self.neighbours.comes(&entry.tenant, entry.queued);
        }
        let class = &mut self.classes[entry.priority as usize];
        self.between.enter_all(&class.priority, CLASSES[entry.priority as usize].1, rows);
        class.tenants.enter_all(&entry.tenant, entry.standing.weight, rows);
        self.rows += rows;
        match class.flows.get_mut(&entry.tenant) {
            Some(flow) => flow.push_back(entry),
            None => drop(class.flows.insert(entry.tenant.clone(), VecDeque::from([entry]))),
        }
    }

    /// Takes out the waiting rows of a request: of any, or only if none of them has left. Answers how many it were.
    pub(super) fn withdraw(&mut self, only_unstarted: bool, mut is: impl FnMut(&T) -> bool) -> usize {
        let taken = self.take_out(|entry| is(&entry.ticket) && !(only_unstarted && entry.has_begun()));
        taken.iter().map(|entry| entry.left.len()).sum()
    }

    /// Takes out the requests that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(T, Expired)> {
        let why = |entry: &Entry<T>| match entry {
            late if late.deadline <= now => Some(Expired::Deadline),
            late if !late.has_begun() && late.give_up <= now => Some(Expired::QueueTimeout),
            _ => None,
        };
        let late = self.take_out(|entry| why(entry).is_some());
        late.into_iter().filter_map(|entry| why(&entry).map(|why| (entry.ticket, why))).collect()
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.take_out(|_| true).into_iter().map(|entry| entry.ticket).collect()
    }

    fn take_out(&mut self, mut is: impl FnMut(&Entry<T>) -> bool) -> Vec<Entry<T>> {
        let mut taken = Vec::new();
        for class in &mut self.classes {
            let before = taken.len();
            class.flows.retain(|_, flow| {
                if flow.iter().any(&mut is) {
                    let (out, stay) = flow.drain(..).partition(&mut is);
                    *flow = stay;
                    taken.extend::<VecDeque<_>>(out);
                }
                !flow.is_empty()
            });
            for entry in &taken[before..] {
                class.tenants.withdraw(&entry.tenant, entry.left.len());
                self.between.withdraw(&class.priority, entry.left.len());
                self.rows -= entry.left.len();
            }
        }
        taken
    }

    /// What an instance that is free now should do, while `free` lanes are free with its own. Expired requests are taken out
    /// before.
    pub(super) fn next(&mut self, now: Instant, free: usize) -> Decision<T> {
        let Some((picked, mut reason)) = self.pick(now, free) else { return Decision::Idle };
        if reason == Reason::Idle && !self.limits.delay.is_zero() {
            let entries = self.classes.iter().flat_map(|class| class.flows.values().flatten());
            let oldest = entries.map(|entry| entry.queued).min().unwrap_or(now);
            match oldest + self.limits.delay {
                ready if now < ready => return Decision::WaitUntil(ready),
                _ => reason = Reason::Deadline,
            }
        }
        Decision::Run(self.take(picked, reason))
    }

    /// A batch has run and took this long: what was expected of it is put right.
    pub(super) fn settle(&mut self, bill: &Bill, took: Duration, now: Instant) {
        self.neighbours.next_batch(took);
        for Served { priority, tenant, weight, rows, part } in &bill.flows {
            let (expected, took) = (bill.expected.mul_f64(*part), took.mul_f64(*part));
            let class = &mut self.classes[*priority as usize];
            class.tenants.settle(tenant, expected, took);
            class.tenants.leave_all(tenant, *rows);
            self.between.settle(priority, expected, took);
            self.between.leave_all(priority, *rows);
            let is_interactive = *priority == Priority::Interactive;
            self.neighbours.given(tenant, *weight, is_interactive, (took.as_secs_f64(), now));
        }
    }
}

#[cfg(test)]
mod tests;
