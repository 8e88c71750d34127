//! What guests say and how they fail, kept for the tenants who own them: a ring of lines for each function.
//!
//! Owns the rings, their bounds and the places of those who read along. Refuses to know what a line is about and how it is
//! sent. Why rings and no channels: writing then costs the same whether nobody reads or many do, it waits for nobody, and
//! a reader who is too slow misses lines and is told how many.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::sync::Notify;

/// The longest text of a line, and of a backtrace: a line of the sandbox's default is half as long.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// What a line takes beside its texts: itself, and what the allocator adds to its pieces.
const LINE_BYTES: usize = size_of::<Line>() + 64;

/// What is kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Lines of one function.
    lines: usize,
    /// Bytes of one function.
    bytes: usize,
    /// Bytes of all functions; whoever was silent for longest loses its lines first.
    all_bytes: i64,
    /// Functions, but for those that serve or are being read.
    functions: usize,
}

/// Enough to see what happened lately, and together less than one small model.
const BOUNDS: Bounds = Bounds { lines: 1000, bytes: 256 << 10, all_bytes: 64 << 20, functions: 4096 };

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// A guest said it.
    Log,
    /// A guest trapped.
    Trap,
    /// A guest ended an invocation in another way.
    Error,
}

/// A line, as it is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    at_ms: u64,
    level: &'static str,
    invocation: Arc<str>,
    revision: u64,
    kind: LineKind,
    text: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backtrace: Option<Box<str>>,
}

impl Line {
    /// A line of this moment; `level` is a name of `tracing`'s in lower case.
    pub fn new(kind: LineKind, level: &'static str, (invocation, revision): (Arc<str>, u64), text: &str) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        Self { at_ms, level, invocation, revision, kind, text: cut(text).into(), backtrace: None }
    }

    /// The same with the frames of a trap.
    #[must_use]
    pub fn with_backtrace(self, backtrace: &str) -> Self {
        let backtrace = (!backtrace.is_empty()).then(|| cut(backtrace).into());
        Self { backtrace, ..self }
    }

    fn bytes(&self) -> usize {
        LINE_BYTES + self.invocation.len() + self.text.len() + self.backtrace.as_ref().map_or(0, |frames| frames.len())
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// By tenant and function.
type Table = BTreeMap<(Arc<str>, Arc<str>), Arc<FunctionLog>>;

/// The logs of all functions.
#[derive(Debug)]
pub struct GuestLogs {
    bounds: Bounds,
    table: Mutex<Table>,
    /// What all rings hold. For a moment less than nothing, where a line is dropped before it was counted.
    bytes: AtomicI64,
}

impl GuestLogs {
    pub(super) fn new() -> Arc<Self> {
        Self::within(BOUNDS)
    }

    fn within(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, table: Mutex::default(), bytes: AtomicI64::new(0) })
    }

    /// The log of a function that exists; made when it is first asked for.
    pub fn of(self: &Arc<Self>, tenant: &str, function: &str) -> Arc<FunctionLog> {
        let mut table = lock(&self.table);
        let name = (tenant.into(), function.into());
        if let Some(log) = table.get(&name) {
            return log.clone();
        }
        if table.len() >= self.bounds.functions {
            let spare = table.iter().filter(|(_, log)| Arc::strong_count(log) == 1);
            let oldest = spare.min_by_key(|(_, log)| log.ring().last_ms()).map(|(name, _)| name.clone());
            if let Some(log) = oldest.and_then(|name| table.remove(&name)) {
                self.clear(&log);
            }
        }
        let log = Arc::new(FunctionLog { all: Arc::downgrade(self), ring: Mutex::default(), news: Notify::new() });
        table.insert(name, log.clone());
        log
    }

    /// The log of a function, where it ever said something; also of one that was never deployed with success.
    pub fn find(&self, tenant: &str, function: &str) -> Option<Arc<FunctionLog>> {
        let found = lock(&self.table).get(&(tenant.into(), function.into())).cloned();
        found.filter(|log| !log.ring().lines.is_empty())
    }

    /// Forgets what was said by functions that are registered no longer: who gets a name next must not read it. What
    /// never was registered stays, so that whoever tries to deploy sees why it fails.
    pub fn settle(&self, registered: impl Fn(&str, &str) -> bool) {
        lock(&self.table).retain(|(tenant, function), log| {
            let is = registered(tenant, function);
            let mut ring = log.ring();
            let was = std::mem::replace(&mut ring.registered, is);
            ring.gone = was && !is;
            let gone = ring.gone;
            drop(ring);
            if gone {
                self.clear(log);
                log.news.notify_waiters();
            }
            !gone
        });
    }

    fn clear(&self, log: &FunctionLog) {
        let mut ring = log.ring();
        ring.first += ring.lines.len() as u64;
        ring.lines = VecDeque::new();
        self.bytes.fetch_sub(std::mem::take(&mut ring.bytes) as i64, Relaxed);
    }

    /// Takes lines from those who were silent for longest, until there is some room again. Whoever comes meanwhile goes on:
    /// one is enough.
    fn trim(&self) {
        let Ok(table) = self.table.try_lock() else { return };
        let mut logs: Vec<_> = table.values().map(|log| (log.ring().last_ms(), log)).collect();
        logs.sort_unstable_by_key(|(last, _)| *last);
        let enough = self.bounds.all_bytes / 8 * 7;
        for (_, log) in logs {
            if self.bytes.load(Relaxed) <= enough {
                return;
            }
            self.clear(log);
        }
    }
}

/// The latest lines of one function.
#[derive(Debug)]
pub struct FunctionLog {
    all: Weak<GuestLogs>,
    ring: Mutex<Ring>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<Line>>,
    /// The number of the first line that is there; all lines are numbered from 0.
    first: u64,
    bytes: usize,
    registered: bool,
    /// The function was removed: nothing more comes.
    gone: bool,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    fn last_ms(&self) -> u64 {
        self.lines.back().map_or(0, |line| line.at_ms)
    }

    /// Adds a line and drops what is over; how many bytes there are more.
    fn push(&mut self, line: Arc<Line>, bounds: &Bounds) -> i64 {
        let before = self.bytes as i64;
        self.bytes += line.bytes();
        self.lines.push_back(line);
        while self.lines.len() > bounds.lines || self.bytes > bounds.bytes {
            let Some(dropped) = self.lines.pop_front() else { break };
            self.bytes -= dropped.bytes();
            self.first += 1;
        }
        self.bytes as i64 - before
    }
}

impl FunctionLog {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }

    /// Adds a line; waits for nobody who reads.
    pub fn push(&self, line: Line) {
        let Some(all) = self.all.upgrade() else { return };
        let line = Arc::new(line);
        let grown = {
            let mut ring = self.ring();
            if ring.gone {
                return;
            }
            ring.push(line, &all.bounds)
        };
        self.news.notify_waiters();
        if all.bytes.fetch_add(grown, Relaxed) + grown > all.bounds.all_bytes {
            all.trim();
        }
    }

    /// Reads from the newest `tail` lines on: to the one that is the last now, or for as long as the function is there.
    pub fn read(self: &Arc<Self>, tail: usize, follow: bool) -> Reader {
        let ring = self.ring();
        let next = ring.end() - (tail.min(ring.lines.len()) as u64);
        Reader { log: self.clone(), next, until: (!follow).then(|| ring.end()) }
    }
}

/// Somebody's place in a log.
#[derive(Debug)]
pub struct Reader {
    log: Arc<FunctionLog>,
    next: u64,
    until: Option<u64>,
}

/// What a reader gets at once.
#[derive(Debug, Default)]
pub struct Passage {
    /// Lines that were gone before the reader came to them.
    pub missed: u64,
    /// The lines after those.
    pub lines: Vec<Arc<Line>>,
    /// Whether there may be more at once.
    pub more: bool,
    /// Whether nothing will ever come after this.
    pub last: bool,
}

impl Reader {
    /// What is there, in order, up to some bytes and at least one line. Never waits.
    pub fn take(&mut self, most_bytes: usize) -> Passage {
        let ring = self.log.ring();
        let until = self.until.unwrap_or(u64::MAX).min(ring.end());
        let from = self.next.max(ring.first).min(until.max(self.next));
        let mut passage = Passage { missed: from - self.next, ..Passage::default() };
        let mut bytes = 0;
        for line in ring.lines.range((from - ring.first.min(from)) as usize..) {
            if from + passage.lines.len() as u64 >= until || (bytes > 0 && bytes + line.bytes() > most_bytes) {
                break;
            }
            bytes += line.bytes();
            passage.lines.push(line.clone());
        }
        self.next = from + passage.lines.len() as u64;
        passage.more = self.next < until;
        passage.last = !passage.more && (ring.gone || self.until.is_some());
        passage
    }

    /// Waits until there is something to take, or nothing will ever come.
    pub async fn news(&self) {
        loop {
            let mut told = pin!(self.log.news.notified());
            // Before the look, or what is said between the two would be told to nobody.
            told.as_mut().enable();
            {
                let ring = self.log.ring();
                if ring.gone || ring.end() > self.next || self.until.is_some() {
                    return;
                }
            }
            told.await;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
