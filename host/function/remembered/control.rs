//! What operators and tenants ask of what is remembered: that it is void, and what came of it.
//!
//! Owns what an order means, and the form of the figures. Refuses to know who may ask what (`http`), and how an entry is
//! found void (the room `cache`).

use std::time::Instant;

use serde::Serialize;

use super::{super::deployer, Remembered};
use crate::{
    cache::{DroppedFigures, RemoteFigures, RemoteState, Scope, Stats, TallyFigures, TierFigures},
    caching::{MAX_TAGS, check_name},
    engine::ModelReference,
    telemetry::{CacheFigures, CachedFunction, CachedTier},
};

/// A function's name, where only the tenant's matters.
const ANY: &str = "any";

/// What is to be void: all that was begun before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// All there is.
    Everything,
    /// Answers and rows of a tenant.
    Tenant(String),
    /// Those that came of requests to one of its functions.
    Function(String, String),
    /// A tenant's answers to which one of these tags was given; rows have none.
    Tags(String, Vec<String>),
    /// What depends on any version of a model.
    Model(String),
    /// What depends on one.
    ModelVersion(String, u64),
}

impl Invalidation {
    /// Whose alone it is; nobody's where it may concern several tenants.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tenant(tenant) | Self::Function(tenant, _) | Self::Tags(tenant, _) => Some(tenant),
            Self::Everything | Self::Model(_) | Self::ModelVersion(..) => None,
        }
    }

    /// Names the first thing that cannot be meant.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Everything => Ok(()),
            Self::Tenant(tenant) => names(tenant, ANY),
            Self::Function(tenant, function) => names(tenant, function),
            Self::Tags(tenant, tags) => {
                names(tenant, ANY)?;
                if tags.is_empty() || tags.len() > MAX_TAGS {
                    return Err(format!("tags has 1 to {MAX_TAGS} of them, not {}", tags.len()));
                }
                tags.iter().try_for_each(|tag| check_name(tag))
            }
            Self::Model(model) | Self::ModelVersion(model, _) => {
                let named = model.parse::<ModelReference>().ok().filter(|reference| reference.name == *model);
                named.map(drop).ok_or_else(|| "model is the name of a model, without a version".to_owned())
            }
        }
    }

    fn scopes(&self) -> Vec<Scope<'_>> {
        match self {
            Self::Everything => vec![Scope::Everything],
            Self::Tenant(tenant) => vec![Scope::Tenant(tenant)],
            Self::Function(tenant, function) => vec![Scope::Function(tenant, function)],
            Self::Tags(tenant, tags) => tags.iter().map(|tag| Scope::Tag { tenant, tag }).collect(),
            Self::Model(model) => vec![Scope::Model(model)],
            Self::ModelVersion(model, version) => vec![Scope::ModelVersion(model, *version)],
        }
    }
}

/// What became of an invalidation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Voided {
    /// Its number: higher than every one before on this host, and where hosts share a Redis than every one of theirs.
    pub seq: u64,
    /// Whether every host that hears this one's Redis gives nothing of it any more. Here it holds in any case.
    pub everywhere: bool,
    /// How many names it had.
    pub scopes: usize,
    /// Why it is everywhere or not: `up`, `down` (the others hear of it when it is back), or `none`.
    pub redis: &'static str,
}

/// What a tier did and holds.
#[derive(Debug, Serialize)]
struct TierView {
    #[serde(flatten)]
    lookups: TierFigures,
    /// The part of the looks that found something; none where nobody looked.
    hit_ratio: Option<f64>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    /// What it may hold; of memory alone, because Redis knows its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
}

/// The second tier, and how it is.
#[derive(Debug, Serialize)]
struct RedisView {
    #[serde(flatten)]
    state: RemoteState,
    #[serde(flatten)]
    tier: TierView,
    /// What was asked of it; none without Redis.
    dealings: Option<RemoteFigures>,
}

/// What concerns the host as a whole.
#[derive(Debug, Serialize)]
struct HostView {
    memory: TierView,
    redis: RedisView,
    stored: u64,
    dropped: DroppedFigures,
    invalidated_scopes: u64,
}

/// What was done for one function.
#[derive(Debug, Serialize)]
struct FunctionView {
    tenant: String,
    function: String,
    #[serde(flatten)]
    done: TallyFigures,
    /// The part of the lookups that made no guest run.
    hit_ratio: Option<f64>,
}

/// What is remembered on this host, in figures since its start; of one tenant, or of all with what concerns the host.
#[derive(Debug, Serialize)]
pub struct CacheStats {
    #[serde(flatten)]
    host: Option<HostView>,
    saved_s: f64,
    functions: Vec<FunctionView>,
}

/// The same in short.
#[derive(Debug, Serialize)]
pub struct CacheSummary {
    memory_bytes: u64,
    memory_entries: u64,
    redis: RemoteState,
    redis_bytes: u64,
}

impl Remembered {
    /// Makes void what was remembered, here at once and, by Redis, on other hosts; or says what cannot be meant.
    pub async fn invalidate(&self, what: &Invalidation) -> Result<Voided, String> {
        what.check()?;
        let mut scopes = what.scopes();
        if let (Invalidation::Function(tenant, _) | Invalidation::Tags(tenant, _), names) = (what, scopes.len())
            && !self.voids.may(tenant, names, Instant::now())
        {
            tracing::warn!(tenant, "so many names were made void in a minute that now all of this tenant is");
            scopes = vec![Scope::Tenant(tenant)];
        }
        let done = self.cache.invalidate(&scopes).await;
        let redis = match (self.cache.state(), done.everywhere) {
            (RemoteState::None, _) => "none",
            (RemoteState::Up | RemoteState::Down { .. }, true) => "up",
            (RemoteState::Up | RemoteState::Down { .. }, false) => "down",
        };
        Ok(Voided { seq: done.seq, everywhere: done.everywhere, scopes: scopes.len(), redis })
    }

    /// Figures of this tenant's functions; of all, and of the host, where none is named.
    pub fn stats(&self, tenant: Option<&str>) -> CacheStats {
        let stats = self.cache.stats();
        let functions: Vec<FunctionView> = functions(&stats)
            .filter(|(owner, ..)| tenant.is_none_or(|tenant| tenant == *owner))
            .map(|(tenant, function, done)| FunctionView {
                tenant: tenant.to_owned(),
                function: function.to_owned(),
                done,
                hit_ratio: ratio(done.memory_hits + done.redis_hits + done.coalesced, done.lookups),
            })
            .collect();
        let saved_us: u64 = functions.iter().map(|function| function.done.saved_us).sum();
        let host = tenant.is_none().then(|| host(stats, self.cache.config().memory_bytes));
        CacheStats { host, saved_s: seconds(saved_us), functions }
    }

    /// What it holds, and how Redis is.
    pub fn summary(&self) -> CacheSummary {
        let Stats { memory_bytes, memory_entries, redis_bytes, state, .. } = self.cache.stats();
        CacheSummary { memory_bytes, memory_entries, redis: state, redis_bytes }
    }

    /// The same for metrics.
    pub fn figures(&self) -> CacheFigures {
        let stats = self.cache.stats();
        let tier = |tier, of: TierFigures, bytes, entries| CachedTier {
            tier,
            lookups: [("hit", of.hits), ("miss", of.misses), ("stale", of.stale), ("error", of.errors)],
            bytes,
            entries,
        };
        let totals = &stats.totals;
        let is_redis = stats.state != RemoteState::None;
        let memory = (self.cache.config().memory_bytes > 0)
            .then(|| tier("memory", totals.memory, stats.memory_bytes, Some(stats.memory_entries)));
        let redis = is_redis.then(|| tier("redis", totals.redis, stats.redis_bytes, None));
        let DroppedFigures { too_large, quota, queue, void } = totals.dropped;
        CacheFigures {
            tiers: memory.into_iter().chain(redis).collect(),
            stored: totals.stored,
            dropped: [("too-large", too_large), ("quota", quota), ("queue", queue), ("void", void)],
            redis_up: is_redis.then_some(stats.state == RemoteState::Up),
            writes_waiting: stats.remote.as_ref().map_or(0, |remote| remote.queue_entries),
            functions: functions(&stats).map(figures).collect(),
        }
    }
}

fn names(tenant: &str, function: &str) -> Result<(), String> {
    deployer::names((tenant, function)).map_err(|error| error.to_string())
}

fn functions(stats: &Stats) -> impl Iterator<Item = (&str, &str, TallyFigures)> {
    stats.totals.functions.iter().flat_map(|(tenant, functions)| {
        functions.iter().map(move |(function, done)| (tenant.as_str(), function.as_str(), *done))
    })
}

/// In the order of [`ANSWERS`](crate::telemetry::ANSWERS), each invocation under one of them.
fn figures((tenant, function, done): (&str, &str, TallyFigures)) -> CachedFunction {
    let memory_stale = done.stale.saturating_sub(done.redis_stale);
    let known = done.memory_hits + done.redis_hits + done.coalesced;
    CachedFunction {
        tenant: tenant.to_owned(),
        function: function.to_owned(),
        answers: [
            done.memory_hits.saturating_sub(memory_stale),
            done.redis_hits.saturating_sub(done.redis_stale),
            done.stale,
            done.coalesced,
            done.lookups.saturating_sub(known),
            done.bypassed,
        ],
        rows: [done.rows_known, done.rows_asked.saturating_sub(done.rows_known)],
        saved_seconds: seconds(done.saved_us),
    }
}

fn host(stats: Stats, limit_bytes: u64) -> HostView {
    let tier = |lookups: TierFigures, bytes| {
        let TierFigures { hits, misses, stale, errors } = lookups;
        let hit_ratio = ratio(hits + stale, hits + stale + misses + errors);
        TierView { lookups, hit_ratio, bytes, entries: None, limit_bytes: None }
    };
    let Stats { totals, memory_bytes, memory_entries, redis_bytes, state, remote } = stats;
    let memory = tier(totals.memory, memory_bytes);
    HostView {
        memory: TierView { entries: Some(memory_entries), limit_bytes: Some(limit_bytes), ..memory },
        redis: RedisView { state, tier: tier(totals.redis, redis_bytes), dealings: remote },
        stored: totals.stored,
        dropped: totals.dropped,
        invalidated_scopes: totals.invalidated_scopes,
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, Config};

    async fn remembered() -> std::sync::Arc<Remembered> {
        Remembered::new(Cache::start(Config::default(), |_| {}).await.unwrap()).0
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_named() {
        let remembered = remembered().await;
        let text = str::to_owned;
        let tags = |count: usize| Invalidation::Tags("acme".into(), (0..count).map(|n| n.to_string()).collect());
        for (what, named) in [
            (Invalidation::Tenant(text("Acme")), "is not a name"),
            (Invalidation::Function(text("acme"), text("a/b")), "is not a name"),
            (Invalidation::Tags(text(""), vec![text("a")]), "is not a name"),
            (Invalidation::Tags(text("acme"), vec![text("a\nb")]), "control characters"),
            (tags(0), "1 to 16"),
            (tags(17), "1 to 16"),
            (Invalidation::Model(text("minilm@3")), "without a version"),
            (Invalidation::Model(text("")), "the name of a model"),
        ] {
            let said = remembered.invalidate(&what).await.unwrap_err();
            assert!(said.contains(named), "{what:?} gave {said}");
        }
        let done = remembered.invalidate(&tags(16)).await.unwrap();
        assert_eq!((done.scopes, done.everywhere, done.redis), (16, false, "none"));
        let next = remembered.invalidate(&Invalidation::Everything).await.unwrap();
        assert!(next.seq > done.seq && next.scopes == 1);
    }

    #[tokio::test]
    async fn a_tenant_sees_its_own_figures_and_none_of_the_hosts() {
        let remembered = remembered().await;
        for tenant in ["a", "b"] {
            let tally = remembered.cache.tally(tenant, "f");
            tally.looked_up();
            tally.looked_up();
            tally.hit(crate::cache::Tier::Memory, false, 1_500_000);
        }
        let told = serde_json::to_value(remembered.stats(Some("a"))).unwrap();
        let members: Vec<_> = told.as_object().unwrap().keys().collect();
        assert_eq!(members, ["functions", "saved_s"]);
        assert_eq!((told["functions"].as_array().unwrap().len(), &told["saved_s"]), (1, &1.5.into()));
        assert_eq!(told["functions"][0]["hit_ratio"], 0.5);
        let told = serde_json::to_value(remembered.stats(None)).unwrap();
        assert_eq!((told["functions"].as_array().unwrap().len(), &told["redis"]["state"]), (2, &"none".into()));
        assert_eq!((&told["memory"]["hit_ratio"], &told["memory"]["bytes"]), (&().into(), &0.into()));
    }

    #[test]
    fn each_invocation_has_one_outcome() {
        let done = TallyFigures {
            lookups: 20,
            memory_hits: 7,
            redis_hits: 5,
            stale: 4,
            redis_stale: 1,
            coalesced: 2,
            bypassed: 3,
            rows_asked: 10,
            rows_known: 8,
            ..TallyFigures::default()
        };
        let told = figures(("a", "f", done));
        assert_eq!((told.answers, told.rows), ([4, 4, 4, 2, 6, 3], [8, 2]));
        assert_eq!(told.answers.iter().sum::<u64>(), done.lookups + done.bypassed);
    }
}
