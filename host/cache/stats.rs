//! What the cache did, in numbers. Owns the counters of both tiers and those of each function; refuses to know how they
//! are shown. Counting takes no lock once a function's counters are at hand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;

use super::{Tier, redis::RemoteFigures};

/// Functions that are told apart; what others do counts for all of them together.
const MAX_FUNCTIONS: usize = 1024;
/// Who these others are.
const OTHER: &str = "other";

/// A number that only grows.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What came of a look into one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Hit,
    Miss,
    Stale,
    /// There was something, but nothing that could be read.
    Error,
}

/// What was not kept, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It is larger than an entry may be.
    TooLarge,
    /// Its tenant holds enough.
    Quota,
    /// Writes wait for Redis, or it rests.
    Queue,
    /// It was invalidated while it was computed, or its time is over.
    Void,
}

#[derive(Debug, Default)]
struct TierCounters([Counter; 4]);

impl TierCounters {
    fn figures(&self) -> TierFigures {
        let [hits, misses, stale, errors] = &self.0;
        TierFigures { hits: hits.get(), misses: misses.get(), stale: stale.get(), errors: errors.get() }
    }
}

/// The functions that are told apart, by tenant.
#[derive(Debug, Default)]
struct Functions {
    by_tenant: BTreeMap<String, BTreeMap<String, Arc<Tally>>>,
    count: usize,
}

impl Functions {
    fn get(&self, tenant: &str, function: &str) -> Option<&Arc<Tally>> {
        self.by_tenant.get(tenant)?.get(function)
    }

    fn add(&mut self, tenant: &str, function: &str) -> Arc<Tally> {
        if let Some(tally) = self.get(tenant, function) {
            return tally.clone();
        }
        let other = self.count >= MAX_FUNCTIONS;
        self.count += usize::from(!other);
        let (tenant, function) = if other { (OTHER, OTHER) } else { (tenant, function) };
        self.by_tenant.entry(tenant.into()).or_default().entry(function.into()).or_default().clone()
    }

    fn figures(&self) -> BTreeMap<String, BTreeMap<String, TallyFigures>> {
        let figures = |functions: &BTreeMap<String, Arc<Tally>>| {
            functions.iter().map(|(function, tally)| (function.clone(), tally.figures())).collect()
        };
        self.by_tenant.iter().map(|(tenant, functions)| (tenant.clone(), figures(functions))).collect()
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    memory: TierCounters,
    redis: TierCounters,
    dropped: [Counter; 4],
    stored: Counter,
    invalidated: Counter,
    functions: RwLock<Functions>,
}

impl Counters {
    pub(super) fn looked(&self, tier: Tier, outcome: Outcome) {
        let counters = match tier {
            Tier::Memory => &self.memory,
            Tier::Redis => &self.redis,
        };
        counters.0[outcome as usize].add(1);
    }

    pub(super) fn dropped(&self, why: Dropped) {
        self.dropped[why as usize].add(1);
    }

    pub(super) fn stored(&self, entries: u64) {
        self.stored.add(entries);
    }

    pub(super) fn invalidated(&self, scopes: usize) {
        self.invalidated.add(scopes as u64);
    }

    pub(super) fn of(&self, tenant: &str, function: &str) -> Arc<Tally> {
        // Whatever panicked within left a counter more or less.
        let known = self.functions.read().unwrap_or_else(PoisonError::into_inner).get(tenant, function).cloned();
        known.unwrap_or_else(|| self.functions.write().unwrap_or_else(PoisonError::into_inner).add(tenant, function))
    }

    pub(super) fn totals(&self) -> Totals {
        let [too_large, quota, queue, void] = &self.dropped;
        Totals {
            memory: self.memory.figures(),
            redis: self.redis.figures(),
            dropped: DroppedFigures {
                too_large: too_large.get(),
                quota: quota.get(),
                queue: queue.get(),
                void: void.get(),
            },
            stored: self.stored.get(),
            invalidated_scopes: self.invalidated.get(),
            functions: self.functions.read().unwrap_or_else(PoisonError::into_inner).figures(),
        }
    }
}

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What the cache did for one function. The one who asks the cache counts here, as only it knows what came of an
        /// answer.
        #[derive(Debug, Default)]
        pub struct Tally { $($name: Counter),* }

        /// The numbers of a [`Tally`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct TallyFigures { $($(#[$doc])* pub $name: u64),* }

        impl Tally {
            /// Its numbers now.
            pub fn figures(&self) -> TallyFigures {
                TallyFigures { $($name: self.$name.get()),* }
            }
        }
    };
}

tally! {
    /// Invocations that asked.
    lookups,
    /// Those answered from memory.
    memory_hits,
    /// Those answered from Redis.
    redis_hits,
    /// Of the hits, those that were stale.
    stale,
    /// Of these, those from Redis.
    redis_stale,
    /// Those that waited for an equal one.
    coalesced,
    /// Those that neither asked nor stored.
    bypassed,
    /// Rows that were asked for.
    rows_asked,
    /// Rows that were known.
    rows_known,
    /// Time on models that hits saved.
    saved_us,
    /// Entries given to be kept.
    stored,
    /// Entries that were not kept.
    dropped,
}

impl Tally {
    /// An invocation asked.
    pub fn looked_up(&self) {
        self.lookups.add(1);
    }

    /// It was answered from this tier.
    pub fn hit(&self, tier: Tier, stale: bool, saved_us: u64) {
        match tier {
            Tier::Memory => self.memory_hits.add(1),
            Tier::Redis => self.redis_hits.add(1),
        }
        self.stale.add(u64::from(stale));
        self.redis_stale.add(u64::from(stale && tier == Tier::Redis));
        self.saved_us.add(saved_us);
    }

    /// It waited for an equal one.
    pub fn coalesced(&self, saved_us: u64) {
        self.coalesced.add(1);
        self.saved_us.add(saved_us);
    }

    /// It neither asked nor stored.
    pub fn bypassed(&self) {
        self.bypassed.add(1);
    }

    /// Of so many rows so many were known.
    pub fn rows(&self, asked: u64, known: u64, saved_us: u64) {
        self.rows_asked.add(asked);
        self.rows_known.add(known);
        self.saved_us.add(saved_us);
    }

    /// An entry was given to be kept, and was or was not.
    pub fn stored(&self, kept: bool) {
        if kept { &self.stored } else { &self.dropped }.add(1);
    }
}

/// What came of looks into one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierFigures {
    /// Fresh entries.
    pub hits: u64,
    /// Nothing, or nothing that was good any more.
    pub misses: u64,
    /// Stale entries.
    pub stale: u64,
    /// Values that could not be read. What goes wrong with Redis itself is in [`Stats::remote`].
    pub errors: u64,
}

/// Entries, or their tiers, that were not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DroppedFigures {
    /// Larger than an entry may be.
    pub too_large: u64,
    /// Beyond their tenant's quota.
    pub quota: u64,
    /// Too many writes waited, or Redis rested.
    pub queue: u64,
    /// Invalidated while they were computed, or of no use from the start.
    pub void: u64,
}

/// The counters' sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Looks into memory.
    pub memory: TierFigures,
    /// Looks into Redis.
    pub redis: TierFigures,
    /// What was not kept.
    pub dropped: DroppedFigures,
    /// Entries that were kept in one tier at least.
    pub stored: u64,
    /// Scopes that this host was asked to invalidate.
    pub invalidated_scopes: u64,
    /// What was done for functions, by tenant and function.
    pub functions: BTreeMap<String, BTreeMap<String, TallyFigures>>,
}

/// What the cache did and holds.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// What it did.
    #[serde(flatten)]
    pub totals: Totals,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Entries in memory.
    pub memory_entries: u64,
    /// Bytes in Redis, as far as this host wrote them.
    pub redis_bytes: u64,
    /// How Redis is.
    pub state: super::RemoteState,
    /// What Redis did; nothing without Redis.
    pub remote: Option<RemoteFigures>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_functions_count_together() {
        let counters = Counters::default();
        for n in 0..MAX_FUNCTIONS + 5 {
            counters.of("t", &n.to_string()).looked_up();
        }
        counters.of("t", "0").hit(Tier::Redis, true, 9);
        let functions = counters.totals().functions;
        assert_eq!((functions["t"].len(), functions[OTHER][OTHER].lookups), (MAX_FUNCTIONS, 5));
        let expected = TallyFigures {
            lookups: 1,
            redis_hits: 1,
            stale: 1,
            redis_stale: 1,
            saved_us: 9,
            ..TallyFigures::default()
        };
        assert_eq!(functions["t"]["0"], expected);
    }

    #[test]
    fn each_outcome_has_its_counter() {
        let counters = Counters::default();
        counters.looked(Tier::Memory, Outcome::Hit);
        counters.looked(Tier::Redis, Outcome::Error);
        counters.looked(Tier::Redis, Outcome::Stale);
        counters.dropped(Dropped::Queue);
        let totals = counters.totals();
        assert_eq!(totals.memory, TierFigures { hits: 1, ..TierFigures::default() });
        assert_eq!(totals.redis, TierFigures { errors: 1, stale: 1, ..TierFigures::default() });
        assert_eq!(totals.dropped, DroppedFigures { queue: 1, ..DroppedFigures::default() });
    }
}
