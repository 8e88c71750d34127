//! The room `cache`: results remembered, in memory and in Redis, as one. Owns what a [`Key`] finds, for how long and
//! until what is invalidated. Refuses to know functions and guests, which bring names and bytes, and what an answer is.
//!
//! | file | |
//! |---|---|
//! | `key`, `scope` | names of what is remembered, and of what is invalidated at once (pure) |
//! | `entry` | one entry, its age, its form in Redis (pure) |
//! | `invalidations` | what is void, by numbers instead of clocks |
//! | `memory` | the first tier, with a quota for each tenant |
//! | `redis` | the second tier, which hosts share, and how they tell each other things |
//! | `ledger` | what tenants hold there |
//! | `tiers` | how the two are asked and filled |
//! | `flight` | equal things in progress are computed once |
//! | `stats` | what came of it all |
//!
//! Nothing here ever fails a request: every fault is a miss and a counter, and a lookup waits no longer than
//! `lookup_timeout_ms`. An entry that is found is whole, of that key, not older than it may be, and was begun after every
//! invalidation of its scopes that this host knows of.

use std::sync::Arc;

use tracing::{info, warn};

use crate::announce::Announce;

mod config;
mod entry;
mod flight;
mod invalidations;
mod key;
mod ledger;
mod memory;
mod redis;
mod scope;
mod stats;
mod tiers;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use entry::{Entry, Freshness, Unreadable};
pub use flight::{Flights, Follow, Landed, Lead, Seat};
pub use key::{Key, KeyBuilder};
pub use redis::RemoteFigures;
pub use scope::{Scope, ScopeId};
pub use stats::{DroppedFigures, Stats, Tally, TallyFigures, TierFigures, Totals};

use invalidations::Invalidations;
use ledger::Ledger;
use memory::Memory;
use redis::{Heard, Remote};
use stats::Counters;

/// Why the cache cannot be set up: its settings are wrong. A Redis that cannot be reached is none of these.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CacheError {
    #[error("{0}")]
    Config(String),
    #[error("the file that {setting} names cannot be used")]
    File { setting: &'static str, source: std::io::Error },
}

/// How Redis is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum RemoteState {
    /// None is configured.
    None,
    /// It answers.
    Up,
    /// It does not, or too slowly.
    Down {
        /// Since when, in Unix time.
        since_ms: u64,
        /// The last failure, in a word.
        reason: String,
    },
}

/// Where an entry was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// In this host's memory.
    Memory,
    /// In Redis.
    Redis,
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The entry and what its age allows, which is never [`Freshness::Gone`].
    pub entry: Option<(Entry, Freshness)>,
    /// Where it was.
    pub tier: Option<Tier>,
}

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Invalidated {
    /// Its number: that of Redis if it has one, or else one that means something on this host alone.
    pub seq: u64,
    /// Whether Redis has it, so that no host that hears Redis gives what is void. If not, it holds here already; hosts
    /// that share a Redis with this one hear of it when that is back.
    pub everywhere: bool,
}

/// What another host announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// What it is about.
    pub topic: String,
    /// What it says. It came through Redis: not to be trusted further than whoever may write there.
    pub text: String,
}

/// What is remembered.
pub struct Cache {
    config: Config,
    memory: Option<Arc<Memory>>,
    remote: Option<Arc<Remote>>,
    invalidations: Arc<Invalidations>,
    ledger: Ledger,
    counters: Counters,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Announce for Cache {
    fn announce(&self, topic: &'static str, text: &str) {
        if let Some(remote) = &self.remote {
            remote.announce(topic, text);
        }
    }
}

impl Cache {
    /// Sets it up, and waits for a moment for Redis if there is one. Only settings that are wrong are errors: a Redis
    /// that is not there may come. `heard` is told what other hosts announce; it must not wait.
    pub async fn start(
        config: Config,
        heard: impl Fn(Announced) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, CacheError> {
        config.validate().map_err(CacheError::Config)?;
        let memory = (config.memory_bytes > 0).then(|| Memory::new(config.memory_bytes, config.tenant_bytes));
        let memory = memory.map(Arc::new);
        let invalidations = Arc::new(Invalidations::default());
        let remote = match config.redis_url {
            Some(_) => Some(Remote::start(&config, hears(invalidations.clone(), memory.clone(), heard))?),
            None => None,
        };
        let ledger = Ledger::new(config.tenant_redis_bytes);
        let cache = Self { config, memory, remote, invalidations, ledger, counters: Counters::default() };
        if let Some(remote) = &cache.remote {
            remote.settled().await;
            match remote.state() {
                RemoteState::Down { reason, .. } => {
                    warn!(reason, "Redis is not there: results are remembered in memory alone until it is");
                }
                RemoteState::Up | RemoteState::None => info!("results are remembered in Redis"),
            }
        }
        Ok(Arc::new(cache))
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What an entry has to note whose computing begins now, before anything that it depends on is looked at.
    pub fn seq(&self) -> u64 {
        self.invalidations.now()
    }

    /// Makes all entries void that were begun before now and belong to one of these: here at once, on other hosts when
    /// Redis tells them. An entry that is being computed is void, too, when it is put.
    pub async fn invalidate(&self, scopes: &[Scope<'_>]) -> Invalidated {
        let scopes: Vec<ScopeId> = scopes.iter().map(ScopeId::from).collect();
        self.counters.invalidated(scopes.len());
        let seq = self.invalidations.next_local(&scopes);
        if scopes.contains(&ScopeId::everything())
            && let Some(memory) = &self.memory
        {
            memory.clear();
        }
        let Some(remote) = self.remote.as_ref().filter(|_| !scopes.is_empty()) else {
            return Invalidated { seq, everywhere: false };
        };
        match remote.invalidate(self.invalidations.known(), &scopes).await {
            Some(far) => {
                // A second time: meanwhile something may have come from Redis that was begun before.
                self.invalidations.confirmed(far, &scopes);
                Invalidated { seq: far, everywhere: true }
            }
            None => Invalidated { seq, everywhere: false },
        }
    }

    /// What this tenant's entries may take in memory, and in Redis; what the settings say where nothing is said.
    pub fn set_quota(&self, tenant: &str, memory_bytes: Option<u64>, redis_bytes: Option<u64>) {
        if let Some(memory) = &self.memory {
            memory.set_quota(tenant, memory_bytes);
        }
        self.ledger.set_quota(tenant, redis_bytes);
    }

    /// The counters of a function, for whoever asks the cache on its behalf.
    pub fn tally(&self, tenant: &str, function: &str) -> Arc<Tally> {
        self.counters.of(tenant, function)
    }

    /// What it did and holds.
    pub fn stats(&self) -> Stats {
        let (memory_bytes, memory_entries) = self.memory.as_ref().map_or((0, 0), |memory| memory.held());
        Stats {
            totals: self.counters.totals(),
            memory_bytes,
            memory_entries,
            redis_bytes: self.ledger.bytes(entry::now_ms()),
            state: self.state(),
            remote: self.remote.as_ref().map(|remote| remote.figures()),
        }
    }

    /// How Redis is.
    pub fn state(&self) -> RemoteState {
        self.remote.as_ref().map_or(RemoteState::None, |remote| remote.state())
    }

    /// Writes what waits for Redis, for a second at most, and ends what was started.
    pub async fn stop(&self) {
        if let Some(remote) = &self.remote {
            remote.stop().await;
        }
    }
}

/// What is done with what comes from other hosts.
fn hears(
    invalidations: Arc<Invalidations>,
    memory: Option<Arc<Memory>>,
    heard: impl Fn(Announced) + Send + Sync + 'static,
) -> Arc<dyn Fn(Heard) + Send + Sync> {
    // Entries of single scopes go when they are asked for; only where all are void at once it is known which.
    let clear = move || memory.iter().for_each(|memory| memory.clear());
    Arc::new(move |what| match what {
        Heard::Invalidated { seq, scopes } => {
            if invalidations.heard(seq, &scopes) && scopes.contains(&ScopeId::everything()) {
                clear();
            }
        }
        Heard::Floor(seq) => {
            invalidations.raise_floor(seq);
            clear();
        }
        Heard::Announced { topic, text } => heard(Announced { topic, text }),
    })
}
