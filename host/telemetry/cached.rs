//! What a cache did and holds, as figures: made by who counts it, told by metrics.
//!
//! Owns the words; refuses to know who counts and what is remembered. Figures are sums since the start, so counters are
//! raised to them when somebody asks, and nothing is counted twice while requests are served.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus::{CounterVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::labels::{Labels, counters, gauges, register};

/// What came of an invocation that could be answered from a cache, as the label says it: found in memory, in Redis, or
/// stale in either; waited for where an equal one computed it; computed; or neither looked up nor kept.
pub const ANSWERS: [&str; 6] = ["memory", "redis", "stale", "coalesced", "miss", "bypass"];

/// A place where a cache keeps things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachedTier {
    /// `memory` or `redis`.
    pub tier: &'static str,
    /// Looks into it, by the label's word for what came of them.
    pub lookups: [(&'static str, u64); 4],
    /// What it holds.
    pub bytes: u64,
    /// How many that are, where somebody knows.
    pub entries: Option<u64>,
}

/// What a cache did for one function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedFunction {
    /// Whose it is.
    pub tenant: String,
    /// Its name.
    pub function: String,
    /// Invocations, in the order of [`ANSWERS`].
    pub answers: [u64; ANSWERS.len()],
    /// Rows that were known, and that were not.
    pub rows: [u64; 2],
    /// Time on models that was saved.
    pub saved_seconds: f64,
}

/// What a cache did since the start, and holds now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheFigures {
    /// Where it keeps things.
    pub tiers: Vec<CachedTier>,
    /// Entries that were kept.
    pub stored: u64,
    /// Entries that were not, by why.
    pub dropped: [(&'static str, u64); 4],
    /// Whether Redis answers; none where there is no Redis.
    pub redis_up: Option<bool>,
    /// Writes that wait for it.
    pub writes_waiting: u64,
    /// What it did for functions.
    pub functions: Vec<CachedFunction>,
}

/// Asks whoever counts.
type Read = Box<dyn Fn() -> CacheFigures + Send + Sync>;

/// Metrics that are brought up to date when somebody asks.
#[derive(Clone)]
pub(super) struct CacheMetrics {
    lookups: IntCounterVec,
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    stored: IntCounter,
    dropped: IntCounterVec,
    redis_up: IntGaugeVec,
    writes_waiting: IntGauge,
    answers: IntCounterVec,
    rows: IntCounterVec,
    saved: CounterVec,
    tenants: Arc<Labels>,
    names: Arc<Labels>,
    read: Arc<OnceLock<Read>>,
    /// Two who ask at once would both raise a counter by the same difference.
    turn: Arc<Mutex<()>>,
}

impl CacheMetrics {
    pub(super) fn new(registry: &Registry, tenants: &Arc<Labels>, names: &Arc<Labels>) -> Self {
        let r = registry;
        let counters = |name: &str, help: &str, labels: &[&str]| counters(r, name, help, labels);
        let function = ["tenant", "function", "outcome"];
        let (saved, of) = ("Time on models that remembered answers and rows saved.", ["tenant", "function"]);
        Self {
            lookups: counters("tenon_cache_lookups_total", "Looks into a tier of the cache.", &["tier", "outcome"]),
            bytes: gauges(r, "tenon_cache_bytes", "Bytes that a tier of the cache holds.", &["tier"]),
            entries: gauges(r, "tenon_cache_entries", "Entries that a tier of the cache holds.", &["tier"]),
            stored: register(r, IntCounter::new("tenon_cache_stored_total", "Entries that were kept.")),
            dropped: counters("tenon_cache_dropped_total", "Entries, or their tiers, that were not kept.", &["reason"]),
            redis_up: gauges(r, "tenon_cache_redis_up", "Whether Redis answers.", &[]),
            writes_waiting: register(r, IntGauge::new("tenon_cache_writes_waiting", "Writes that wait for Redis.")),
            answers: counters("tenon_cache_answers_total", "Invocations that could be known, by what came.", &function),
            rows: counters("tenon_cache_rows_total", "Rows that could be known, by whether they were.", &function),
            saved: register(r, CounterVec::new(Opts::new("tenon_cache_saved_device_seconds_total", saved), &of)),
            tenants: tenants.clone(),
            names: names.clone(),
            read: Arc::default(),
            turn: Arc::default(),
        }
    }

    pub(super) fn watch(&self, read: Read) {
        // One cache in a process's telemetry; a second would be a second host.
        let _ = self.read.set(read);
    }

    pub(super) fn refresh(&self) {
        let Some(read) = self.read.get() else { return };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = read();
        for tier in &figures.tiers {
            for (outcome, count) in tier.lookups {
                raise(&self.lookups.with_label_values(&[tier.tier, outcome]), count);
            }
            set(&self.bytes.with_label_values(&[tier.tier]), tier.bytes);
            if let Some(entries) = tier.entries {
                set(&self.entries.with_label_values(&[tier.tier]), entries);
            }
        }
        raise(&self.stored, figures.stored);
        for (reason, count) in figures.dropped {
            raise(&self.dropped.with_label_values(&[reason]), count);
        }
        if let Some(up) = figures.redis_up {
            self.redis_up.with_label_values::<&str>(&[]).set(up.into());
        }
        set(&self.writes_waiting, figures.writes_waiting);
        self.refresh_functions(&figures.functions);
    }

    /// Labels fold, so what shares one is added up before it is told.
    fn refresh_functions(&self, functions: &[CachedFunction]) {
        let mut sums: BTreeMap<(String, String), CachedFunction> = BTreeMap::new();
        for one in functions {
            let labels = (self.tenants.bounded(&one.tenant), self.names.bounded(&one.function));
            let sum = sums.entry(labels).or_default();
            sum.answers.iter_mut().zip(one.answers).for_each(|(sum, one)| *sum += one);
            sum.rows.iter_mut().zip(one.rows).for_each(|(sum, one)| *sum += one);
            sum.saved_seconds += one.saved_seconds;
        }
        for ((tenant, function), sum) in &sums {
            let of = |outcome| [&tenant[..], &function[..], outcome];
            for (outcome, count) in ANSWERS.into_iter().zip(sum.answers) {
                raise(&self.answers.with_label_values(&of(outcome)), count);
            }
            for (outcome, count) in ["known", "computed"].into_iter().zip(sum.rows) {
                raise(&self.rows.with_label_values(&of(outcome)), count);
            }
            let saved = self.saved.with_label_values(&[&tenant[..], &function[..]]);
            saved.inc_by((sum.saved_seconds - saved.get()).max(0.0));
        }
    }
}

/// A figure that was told once is never told smaller.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn set(gauge: &IntGauge, to: u64) {
    gauge.set(i64::try_from(to).unwrap_or(i64::MAX));
}

impl fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    fn function(tenant: &str, known: u64) -> CachedFunction {
        let (tenant, function) = (tenant.to_owned(), "f".to_owned());
        CachedFunction { tenant, function, answers: [known, 0, 1, 0, 2, 0], rows: [known, 5], saved_seconds: 0.25 }
    }

    #[test]
    fn figures_are_told_once_however_often_somebody_asks() {
        let telemetry = Telemetry::new();
        assert!(!telemetry.text().contains("tenon_cache_redis_up"), "no Redis, no figure of it");
        let told = Arc::new(Mutex::new(CacheFigures {
            tiers: vec![CachedTier {
                tier: "memory",
                lookups: [("hit", 3), ("miss", 1), ("stale", 0), ("error", 0)],
                bytes: 700,
                entries: Some(1),
            }],
            redis_up: Some(false),
            dropped: [("too-large", 0), ("quota", 2), ("queue", 0), ("void", 0)],
            functions: vec![function("a", 3), function("b", 4)],
            ..CacheFigures::default()
        }));
        let asked = told.clone();
        telemetry.watch_cache(move || asked.lock().unwrap().clone());
        let has = |line: &str| {
            let text = telemetry.text();
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        };
        telemetry.text();
        has("tenon_cache_lookups_total{outcome=\"hit\",tier=\"memory\"} 3");
        has("tenon_cache_bytes{tier=\"memory\"} 700");
        has("tenon_cache_entries{tier=\"memory\"} 1");
        has("tenon_cache_redis_up 0");
        has("tenon_cache_dropped_total{reason=\"quota\"} 2");
        has("tenon_cache_answers_total{function=\"f\",outcome=\"memory\",tenant=\"b\"} 4");
        has("tenon_cache_rows_total{function=\"f\",outcome=\"computed\",tenant=\"a\"} 5");
        has("tenon_cache_saved_device_seconds_total{function=\"f\",tenant=\"a\"} 0.25");
        // What is only a miss as long as somebody waits for it may become less; what was told does not.
        told.lock().unwrap().functions = vec![CachedFunction { answers: [5, 0, 1, 1, 1, 0], ..function("a", 5) }];
        has("tenon_cache_answers_total{function=\"f\",outcome=\"memory\",tenant=\"a\"} 5");
        has("tenon_cache_answers_total{function=\"f\",outcome=\"miss\",tenant=\"a\"} 2");
    }

    #[test]
    fn tenants_beyond_the_bound_are_added_up() {
        let telemetry = Telemetry::new();
        telemetry.watch_cache(|| {
            let functions = (0..300).map(|n| function(&format!("t{n:03}"), 1)).collect();
            CacheFigures { functions, ..CacheFigures::default() }
        });
        let line = "tenon_cache_rows_total{function=\"f\",outcome=\"known\",tenant=\"other\"} 44";
        let text = telemetry.text();
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
