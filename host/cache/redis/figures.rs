//! What is counted of the dealings with Redis. Owns the counters; refuses to know what they are shown in.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters behind [`RemoteFigures`], where each is explained.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) lookups: Counter,
    pub(super) lookups_skipped: Counter,
    pub(super) lookups_slow: Counter,
    pub(super) lookups_failed: Counter,
    pub(super) written: Counter,
    pub(super) writes_dropped: Counter,
    pub(super) writes_failed: Counter,
    pub(super) connections: Counter,
    pub(super) invalidations_sent: Counter,
    pub(super) invalidations_heard: Counter,
    pub(super) floors_heard: Counter,
    pub(super) announced: Counter,
    pub(super) announcements_dropped: Counter,
    pub(super) unreadable: Counter,
}

/// What became of what was asked of Redis since the start, and what waits for it now.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RemoteFigures {
    /// Lookups, whatever became of them; one may ask for many keys.
    pub lookups: u64,
    /// Those answered at once with nothing, as Redis was away.
    pub lookups_skipped: u64,
    /// Those that got no answer in time.
    pub lookups_slow: u64,
    /// Those that got an error for an answer, or lost their connection.
    pub lookups_failed: u64,
    /// Entries written or deleted.
    pub written: u64,
    /// Writes dropped before they were tried: no room in the queue, or Redis takes none for now.
    pub writes_dropped: u64,
    /// Writes that were tried in vain.
    pub writes_failed: u64,
    /// Writes that wait.
    pub queue_entries: u64,
    /// What they hold in memory.
    pub queue_bytes: u64,
    /// Why no writes go out for now.
    pub writes_rest: Option<String>,
    /// Connections made.
    pub connections: u64,
    /// Invalidations that Redis gave a number.
    pub invalidations_sent: u64,
    /// Invalidations by other hosts.
    pub invalidations_heard: u64,
    /// How often all that was remembered before was made void, as it was not known what else had been.
    pub floors_heard: u64,
    /// Scopes invalidated here that Redis, and so other hosts, do not know of yet.
    pub invalidations_pending: u64,
    /// Announcements sent to other hosts.
    pub announced: u64,
    /// Announcements that other hosts will not hear.
    pub announcements_dropped: u64,
    /// Messages that made no sense.
    pub unreadable: u64,
}

impl Counters {
    /// The counters as they are; what is no counter is left empty.
    pub(super) fn snapshot(&self) -> RemoteFigures {
        RemoteFigures {
            lookups: self.lookups.get(),
            lookups_skipped: self.lookups_skipped.get(),
            lookups_slow: self.lookups_slow.get(),
            lookups_failed: self.lookups_failed.get(),
            written: self.written.get(),
            writes_dropped: self.writes_dropped.get(),
            writes_failed: self.writes_failed.get(),
            connections: self.connections.get(),
            invalidations_sent: self.invalidations_sent.get(),
            invalidations_heard: self.invalidations_heard.get(),
            floors_heard: self.floors_heard.get(),
            announced: self.announced.get(),
            announcements_dropped: self.announcements_dropped.get(),
            unreadable: self.unreadable.get(),
            ..RemoteFigures::default()
        }
    }
}
