//! When a cell is measured: what begins before is warm-up, what begins after is not sent, and everybody stops when the
//! user says so.
//!
//! It owns instants and shared counters; what is driven, and how, is not its matter.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The measurement of one cell, as each thread sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// When driving begins.
    pub(super) origin: Instant,
    /// From here on it counts.
    pub(super) start: Instant,
    /// Until here; none when a number of requests ends it.
    pub(super) end: Option<Instant>,
}

/// What threads and whoever watches them share.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Requests that ended, for the progress bar.
    pub(super) done: AtomicU64,
    /// Those without a good answer.
    pub(super) errors: AtomicU64,
    /// Requests of `--requests` that have begun.
    begun: AtomicU64,
    /// When the user interrupted.
    stop: OnceLock<Instant>,
}

impl Window {
    /// Begins a moment after now, so that all threads are there.
    pub(super) fn new(origin: Instant, warm_up: Duration, duration: Option<Duration>) -> Self {
        let start = origin + warm_up;
        Self { origin, start, end: duration.map(|duration| start + duration) }
    }

    /// Whether what begins now, or was due then, counts.
    pub(super) fn counts(&self, instant: Instant) -> bool {
        instant >= self.start && self.end.is_none_or(|end| instant < end)
    }

    /// Whether nothing more begins.
    pub(super) fn is_over(&self, instant: Instant) -> bool {
        self.end.is_some_and(|end| instant >= end)
    }
}

impl Gauge {
    /// Takes one of the requests that may still begin; without a number all may.
    pub(super) fn begin(&self, requests: Option<u64>) -> bool {
        self.begin_up_to(requests, 1) == 1
    }

    /// Takes so many of them, or as many as are left.
    pub(super) fn begin_up_to(&self, requests: Option<u64>, wanted: u64) -> u64 {
        let left = |requests: u64| requests.saturating_sub(self.begun.fetch_add(wanted, Relaxed));
        requests.map_or(wanted, |requests| left(requests).min(wanted))
    }

    /// Notes one that ended.
    pub(super) fn ended(&self, good: bool) {
        self.done.fetch_add(1, Relaxed);
        if !good {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    /// Nothing more begins from now on.
    pub(super) fn stop(&self) {
        self.stop.get_or_init(Instant::now);
    }

    /// Whether that was said.
    pub(super) fn stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    /// When that was said.
    pub(super) fn stopped_at(&self) -> Option<Instant> {
        self.stop.get().copied()
    }
}
