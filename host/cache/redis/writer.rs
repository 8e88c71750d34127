//! Writes on their way to Redis. Owns the queue, bounded in number and bytes, and the task that empties it; refuses to
//! know what is written and whether it matters.
//!
//! Nothing is tried twice: an entry that was not written is one that is computed again. While Redis takes no writes
//! none are queued, so that it is not met by stale ones when it is back.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::redis::{Cmd, cmd};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::{Key, Names, figures::Counters, line::Line, wire::Fault};

/// What goes out at once: enough to make up for the way there and back, not so much that it takes long.
const BATCH_ENTRIES: usize = 128;
const BATCH_BYTES: u64 = 4 << 20;
/// What a write holds besides its value: the key and its place in the queue.
const OVERHEAD_BYTES: u64 = 128;

/// What is to become of a key.
enum Change {
    Put { value: Bytes, ttl_ms: u64 },
    Forget,
}

struct Write {
    key: Key,
    change: Change,
    held: Held,
}

/// Bytes that a write takes of those allowed, until it is dropped.
struct Held {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}

/// Where writes are handed in.
pub(super) struct Queue {
    sender: mpsc::Sender<Write>,
    line: Arc<Line>,
    bytes: Arc<AtomicU64>,
    limit_bytes: u64,
    counters: Arc<Counters>,
}

/// Takes them from there to Redis.
pub(super) struct Writer {
    receiver: mpsc::Receiver<Write>,
    line: Arc<Line>,
    names: Arc<Names>,
    timeout: Duration,
    counters: Arc<Counters>,
}

/// What a queue may hold, and how long the writing of a batch may take.
pub(super) struct Bounds {
    pub(super) entries: usize,
    pub(super) bytes: u64,
    pub(super) timeout: Duration,
}

/// Both ends.
pub(super) fn queue(line: Arc<Line>, names: Arc<Names>, counters: Arc<Counters>, bounds: &Bounds) -> (Queue, Writer) {
    let (sender, receiver) = mpsc::channel(bounds.entries);
    let bytes = Arc::new(AtomicU64::new(0));
    let queue = Queue { sender, line: line.clone(), bytes, limit_bytes: bounds.bytes, counters: counters.clone() };
    (queue, Writer { receiver, line, names, timeout: bounds.timeout, counters })
}

impl Queue {
    /// Whether it will be tried to write the entry, to be kept for so long.
    pub(super) fn put(&self, key: Key, value: Bytes, ttl: Duration) -> bool {
        let bytes = value.len() as u64;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        // Redis knows no shorter time.
        ttl_ms > 0 && self.push(key, Change::Put { value, ttl_ms }, bytes)
    }

    pub(super) fn forget(&self, key: Key) -> bool {
        self.push(key, Change::Forget, 0)
    }

    fn push(&self, key: Key, change: Change, bytes: u64) -> bool {
        let queued = self.line.is_up()
            && self
                .held(bytes + OVERHEAD_BYTES)
                .is_some_and(|held| self.sender.try_send(Write { key, change, held }).is_ok());
        if !queued {
            self.counters.writes_dropped.add(1);
        }
        queued
    }

    fn held(&self, bytes: u64) -> Option<Held> {
        let fits = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.limit_bytes);
        self.bytes.try_update(Relaxed, Relaxed, fits).ok()?;
        Some(Held { bytes, of: self.bytes.clone() })
    }

    /// How many wait, and the bytes that they and those being written hold.
    pub(super) fn waiting(&self) -> (u64, u64) {
        ((self.sender.max_capacity() - self.sender.capacity()) as u64, self.bytes.load(Relaxed))
    }
}

impl Writer {
    /// Writes what is handed in. Told to stop, it takes nothing more and ends with what is there.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut stopping = false;
        loop {
            let first = tokio::select! {
                first = self.receiver.recv() => first,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    self.receiver.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let batch = self.batch(first);
            self.write(batch).await;
        }
    }

    /// The first and what else is there, within bounds.
    fn batch(&mut self, first: Write) -> Vec<Write> {
        let mut bytes = first.held.bytes;
        let mut batch = vec![first];
        while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let Ok(next) = self.receiver.try_recv() else { break };
            bytes += next.held.bytes;
            batch.push(next);
        }
        batch
    }

    async fn write(&self, batch: Vec<Write>) {
        let (counters, count) = (&self.counters, batch.len() as u64);
        let Some((pass, wire)) = self.line.enter() else {
            counters.writes_dropped.add(count);
            return;
        };
        // They go their own ways: of several for a key, the last one alone.
        let last: HashMap<Key, &Write> = batch.iter().map(|write| (write.key, write)).collect();
        let commands: Vec<_> = last.values().map(|write| self.command(write)).collect();
        let repeated = count - commands.len() as u64;
        let faults: Vec<Fault> = match wire.ask_all(commands, self.timeout).await {
            Ok(written) => written.into_iter().filter_map(Result::err).collect(),
            Err(fault) => vec![fault; last.len()],
        };
        counters.writes_failed.add(faults.len() as u64);
        counters.written.add(count - repeated - faults.len() as u64);
        // One error among answers means its own key, unless it says that nothing can be written.
        let of_all = faults.first().filter(|_| faults.len() == last.len());
        let worst = faults.iter().find(|fault| fault.rests_writes()).or(of_all);
        self.line.leave(pass, worst);
    }

    fn command(&self, write: &Write) -> Cmd {
        let name = self.names.value(&write.key);
        match &write.change {
            Change::Put { value, ttl_ms } => cmd("SET").arg(name).arg(&value[..]).arg("PX").arg(*ttl_ms).take(),
            Change::Forget => cmd("UNLINK").arg(name).take(),
        }
    }
}
