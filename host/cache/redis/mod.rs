//! Redis, as the second tier: what hosts share. Owns the four lines to it, what is read and written over them, and how
//! hosts tell each other what is void. Refuses to know what an entry is: it moves bytes, which are not to be trusted.
//!
//! | file | |
//! |---|---|
//! | `breaker` | when Redis is left alone (pure) |
//! | `site`, `wire` | where it is; a connection, and what can go wrong with one |
//! | `line` | a connection that is kept, with its breaker |
//! | `writer` | the queue of writes |
//! | `bus` | invalidations and announcements, by the channel and by the list |
//! | `sequence`, `message`, `list`, `pending` | their numbers (pure), their texts (pure), the scripts, those not yet told |
//!
//! No call here fails, and none but `invalidate` waits longer than the timeout for lookups: what Redis does not give is a
//! miss, what it does not take is not kept, and both are counted. Where Redis gives users rights of their own, this one
//! needs those to `~<prefix>:* ~{<prefix>}:* &{<prefix>}:events` and the commands MGET, SET, UNLINK, EXISTS, EVAL,
//! SUBSCRIBE, PUBLISH, PING, and those within the scripts of `list`.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use ::redis::{Value, cmd};
use bytes::Bytes;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{CacheError, Config, Key, RemoteState, ScopeId, key::hex};

mod breaker;
mod bus;
mod figures;
mod line;
mod list;
mod message;
mod pending;
mod sequence;
mod site;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

pub use figures::RemoteFigures;

use breaker::Limits;
use bus::{Bus, Inbox, Parts};
use figures::Counters;
use line::{Duty, Ear, Line, Plan};
use list::List;
use site::Site;
use wire::Fault;
use writer::{Bounds, Queue};

/// For how long the end of writing what is queued is waited for.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Names that probes take in turn.
const PROBES: usize = 16;

/// What comes from other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// These are void, with this number. Each is heard once and in the order of their numbers, this host's own ones too.
    Invalidated { seq: u64, scopes: Vec<ScopeId> },
    /// Whatever was begun before this number is void.
    Floor(u64),
    /// Another host said so.
    Announced { topic: String, text: String },
}

/// What things are called in Redis.
struct Names {
    prefix: String,
}

impl Names {
    /// Values have no hash tag: a cluster spreads them.
    fn value(&self, key: &Key) -> String {
        format!("{}:v:{}", self.prefix, key.hex())
    }

    /// Another one each time: in a cluster one server that is away is not to keep the others from being used.
    fn probe(&self, turn: usize) -> String {
        format!("{}:probe:{}", self.prefix, turn % PROBES)
    }

    fn list(&self) -> String {
        format!("{{{}}}:invalidations", self.prefix)
    }

    fn events(&self) -> String {
        format!("{{{}}}:events", self.prefix)
    }
}

struct Lines {
    lookups: Arc<Line>,
    writes: Arc<Line>,
    control: Arc<Line>,
    listening: Arc<Line>,
}

impl Lines {
    fn all(&self) -> [&Arc<Line>; 4] {
        [&self.lookups, &self.writes, &self.control, &self.listening]
    }
}

/// A Redis, there or not.
pub(super) struct Remote {
    names: Arc<Names>,
    lines: Lines,
    queue: Queue,
    bus: Arc<Bus>,
    counters: Arc<Counters>,
    lookup_timeout: Duration,
    /// The longest that the start is waited for.
    patience: Duration,
    stop: watch::Sender<bool>,
    /// All end when these are dropped, at the latest with this.
    tasks: Mutex<JoinSet<()>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Remote {
    /// Starts to connect. Settings that are wrong are errors, a Redis that is not there is none. `heard` is called by a
    /// task of its own and must not wait.
    pub(super) fn start(config: &Config, heard: Arc<dyn Fn(Heard) + Send + Sync>) -> Result<Arc<Self>, CacheError> {
        let url = config.redis_url.as_deref().ok_or_else(|| CacheError::Config("cache.redis_url is not set".into()))?;
        let site = Arc::new(Site::new(config, url)?);
        let names = Arc::new(Names { prefix: config.redis_prefix.clone() });
        let counters = Arc::new(Counters::default());
        let (inbox, mail) = Inbox::new(counters.clone());
        let ear: Weak<dyn Ear> = Arc::downgrade(&(inbox.clone() as Arc<dyn Ear>));
        let lines = lines(config, &site, (&names, &counters), ear);
        let write_timeout = Duration::from_millis(config.write_timeout_ms);
        let (bus, announcements) = Bus::new(Parts {
            inbox,
            list: List::new(lines.control.clone(), names.clone(), write_timeout),
            listening: lines.listening.clone(),
            control: lines.control.clone(),
            hears: heard,
            timeout: write_timeout,
            counters: counters.clone(),
        });
        let bounds =
            Bounds { entries: config.write_queue_entries, bytes: config.write_queue_bytes, timeout: write_timeout };
        let (queue, writer) = writer::queue(lines.writes.clone(), names.clone(), counters.clone(), &bounds);
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for line in lines.all() {
            tasks.spawn(line.clone().keep());
        }
        tasks.spawn(bus.clone().listen(mail));
        tasks.spawn(bus.clone().tend(announcements));
        let writer = tokio::spawn(writer.run(stop.subscribe()));
        Ok(Arc::new(Self {
            names,
            lines,
            queue,
            bus,
            counters,
            lookup_timeout: config.lookup_timeout(),
            patience: site.connect_timeout() + write_timeout,
            stop,
            tasks: Mutex::new(tasks),
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// Waits until it has shown whether Redis is there, and then until this host has heard all there is to hear; not
    /// long.
    pub(super) async fn settled(&self) {
        let settled = async {
            for line in self.lines.all() {
                line.decided().await;
            }
            if self.lines.control.is_up() {
                self.bus.first_read().await;
            }
        };
        let _ = timeout(self.patience, settled).await;
    }

    /// The values of these keys, in their order; none for those that are not there, or when Redis is away.
    pub(super) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Bytes>> {
        let found = if keys.is_empty() { None } else { self.look_up(keys).await };
        found.unwrap_or_else(|| vec![None; keys.len()])
    }

    async fn look_up(&self, keys: &[Key]) -> Option<Vec<Option<Bytes>>> {
        self.counters.lookups.add(1);
        let Some((pass, wire)) = self.lines.lookups.enter() else {
            self.counters.lookups_skipped.add(1);
            return None;
        };
        let mut command = cmd("MGET");
        for key in keys {
            command.arg(self.names.value(key));
        }
        let answer = wire.ask(&command, self.lookup_timeout).await.and_then(|answer| values(answer, keys.len()));
        self.lines.lookups.leave(pass, answer.as_ref().err());
        match answer {
            Ok(values) => return Some(values),
            Err(Fault::Slow) => self.counters.lookups_slow.add(1),
            Err(_) => self.counters.lookups_failed.add(1),
        }
        None
    }

    /// Has the value written, to be kept for so long; whether that will be tried.
    pub(super) fn put(&self, key: Key, value: Bytes, ttl: Duration) -> bool {
        self.queue.put(key, value, ttl)
    }

    /// Has the key deleted, after what was put before.
    pub(super) fn forget(&self, key: Key) {
        self.queue.forget(key);
    }

    /// Makes these void on all hosts, with a number above `known`: the one that Redis gave. None if Redis could not be
    /// reached in time; then they are told as soon as it can be.
    pub(super) async fn invalidate(&self, known: u64, scopes: &[ScopeId]) -> Option<u64> {
        self.bus.invalidate(known, scopes).await
    }

    /// Tells other hosts; those that are away do not hear it.
    pub(super) fn announce(&self, topic: &'static str, text: &str) {
        self.bus.announce(topic, text);
    }

    pub(super) fn figures(&self) -> RemoteFigures {
        let (queue_entries, queue_bytes) = self.queue.waiting();
        RemoteFigures {
            queue_entries,
            queue_bytes,
            writes_rest: self.lines.writes.down().map(|down| down.reason),
            invalidations_pending: self.bus.pending() as u64,
            ..self.counters.snapshot()
        }
    }

    /// Whether lookups are answered.
    pub(super) fn state(&self) -> RemoteState {
        match self.lines.lookups.down() {
            Some(down) => RemoteState::Down { since_ms: down.since_ms, reason: down.reason },
            None => RemoteState::Up,
        }
    }

    /// Writes what is queued, for a second at most, and ends what was started.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut writer) = writer
            && timeout(LAST_WRITES, &mut writer).await.is_err()
        {
            writer.abort();
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            writer.abort();
        }
    }
}

/// A lookup may be slow once or twice; of the others, which are waited for a hundred times as long, none may.
fn lines(config: &Config, site: &Arc<Site>, shared: (&Arc<Names>, &Arc<Counters>), ear: Weak<dyn Ear>) -> Lines {
    let line = |duty, failures, patience| {
        let limits = Limits { failures, rest: Duration::from_millis(config.breaker_rest_ms) };
        let (names, counters) = (shared.0.clone(), shared.1.clone());
        Line::new(duty, Plan { site: site.clone(), names, counters, limits, patience })
    };
    let write_timeout = Duration::from_millis(config.write_timeout_ms);
    Lines {
        lookups: line(Duty::Lookups, config.breaker_failures, config.lookup_timeout()),
        writes: line(Duty::Writes, 1, write_timeout),
        control: line(Duty::Control, 1, write_timeout),
        listening: line(Duty::Listening(ear), 1, write_timeout),
    }
}

fn values(answer: Value, count: usize) -> Result<Vec<Option<Bytes>>, Fault> {
    match answer {
        Value::Array(values) if values.len() == count => Ok(values.into_iter().map(value).collect()),
        _ => Err(Fault::Gone("it does not answer what was asked".into())),
    }
}

/// What is no value there, be it of a type that is none of ours, is not there.
fn value(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
