//! What a cache promises, whatever it is made of: the same tests for memory alone, Redis alone, and both. What hosts that
//! share a Redis promise each other is in `hosts`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Cache, Config, Entry, Freshness, Key, KeyBuilder, RemoteState, Scope, ScopeId, Tier, entry::now_ms, redis::Heard,
};

mod hosts;
mod server;

use server::Server;

/// What a cache is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Memory,
    Redis,
    Both,
}

/// A cache, and what it needs.
struct Bed {
    cache: Arc<Cache>,
    made: Made,
    server: Option<Server>,
}

impl Bed {
    async fn of(made: Made) -> Option<Self> {
        Self::with(made, |_| ()).await
    }

    /// None where there is no Redis.
    async fn with(made: Made, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let server = if made == Made::Memory { None } else { Some(Server::start().await?) };
        let mut config = server.as_ref().map_or_else(Config::default, |server| config(server.port));
        if made == Made::Redis {
            config.memory_bytes = 0;
        }
        change(&mut config);
        Some(Self { cache: cache(config).await, made, server })
    }

    async fn found(&self, key: &Key) -> Option<(Entry, Freshness)> {
        self.cache.get(key).await.entry
    }

    /// Keeps it, and waits until it is there.
    async fn keep(&self, key: Key, entry: Entry) {
        assert!(self.cache.put(key, entry.clone()), "it is not kept");
        self.until("it is there", async || {
            self.found(&key).await.is_some_and(|(found, _)| found.payload == entry.payload)
        })
        .await;
    }

    async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        until(what, holds).await;
    }

    fn begun(&self, tenant: &str, payload: &str, scopes: &[Scope<'_>]) -> Entry {
        Entry { seq: self.cache.seq(), ..entry(tenant, payload, scopes) }
    }
}

/// Of a host whose Redis is as slow as this machine may be.
fn config(port: u16) -> Config {
    Config {
        redis_url: Some(format!("redis://127.0.0.1:{port}")),
        redis_prefix: "test".into(),
        lookup_timeout_ms: 2000,
        connect_timeout_ms: 2000,
        write_timeout_ms: 2000,
        ..Config::default()
    }
}

async fn cache(config: Config) -> Arc<Cache> {
    let remote = config.redis_url.is_some();
    let cache = Cache::start(config, |_| ()).await.unwrap();
    until("Redis answers", async || !remote || cache.state() == RemoteState::Up).await;
    cache
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn key(tenant: &str, name: &str) -> Key {
    KeyBuilder::new("test", tenant).part(name.as_bytes()).finish()
}

fn entry(tenant: &str, payload: &str, scopes: &[Scope<'_>]) -> Entry {
    Entry {
        tenant: tenant.into(),
        created_ms: now_ms(),
        fresh_ms: 600_000,
        stale_while_ms: 600_000,
        stale_error_ms: 600_000,
        seq: 0,
        scopes: scopes.iter().map(ScopeId::from).collect(),
        saved_us: 1000,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

macro_rules! contract {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        mod memory_alone { contract!(@ Memory $($name)*); }
        mod redis_alone { contract!(@ Redis $($name)*); }
        mod both_tiers { contract!(@ Both $($name)*); }
    };
    (@ $made:ident $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Made::$made).await;
            }
        )*
    };
}

contract! {
    what_is_put_is_got_until_it_is_forgotten,
    ages_are_told,
    what_expires_is_gone,
    many_come_in_order_and_with_gaps,
    what_is_too_large_is_not_kept,
    a_quota_holds_for_its_tenant_alone,
    every_scope_can_be_invalidated,
    what_was_begun_before_an_invalidation_is_not_kept,
    durations_are_capped,
    a_newer_entry_replaces_an_older_one,
    tenants_with_equal_material_never_meet,
    counters_tell_what_happened,
}

async fn what_is_put_is_got_until_it_is_forgotten(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let (one, other) = (key("a", "1"), key("a", "2"));
    let put = bed.begun("a", "payload", &[Scope::Tenant("a")]);
    bed.keep(one, put.clone()).await;
    let found = bed.cache.get(&one).await;
    assert_eq!(found.entry, Some((put, Freshness::Fresh)));
    assert_eq!(found.tier, Some(if made == Made::Redis { Tier::Redis } else { Tier::Memory }));
    assert_eq!(bed.cache.get(&other).await, super::Found::default());
    bed.until("it is forgotten", async || {
        bed.cache.forget(&one);
        bed.found(&one).await.is_none()
    })
    .await;
    bed.cache.stop().await;
}

async fn ages_are_told(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    for (age_s, freshness) in [(0, Freshness::Fresh), (700, Freshness::StaleWhile), (1300, Freshness::StaleError)] {
        let key = key("a", &age_s.to_string());
        let old = bed.begun("a", "x", &[]);
        bed.keep(key, Entry { created_ms: old.created_ms - age_s * 1000, ..old }).await;
        assert_eq!(bed.found(&key).await.unwrap().1, freshness);
        let many = bed.cache.get_many(&[key]).await;
        assert_eq!(many[0].is_some(), freshness == Freshness::Fresh, "only fresh ones come in numbers");
    }
    let old = bed.begun("a", "x", &[]);
    assert!(!bed.cache.put(key("a", "gone"), Entry { created_ms: old.created_ms - 1_800_000, ..old }));
    assert!(bed.found(&key("a", "gone")).await.is_none());
}

async fn what_expires_is_gone(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let (key, brief) = (key("a", "1"), bed.begun("a", "x", &[]));
    let brief = Entry { fresh_ms: 300, stale_while_ms: 0, stale_error_ms: 0, ..brief };
    assert!(bed.cache.put(key, brief.clone()));
    // By the entry's own clock, not by how quick this machine is.
    bed.until("it is gone", async || {
        let over = now_ms() >= brief.created_ms + 300;
        let found = bed.found(&key).await;
        assert!(found.is_none() || !over, "it outlived its time");
        over && found.is_none()
    })
    .await;
}

async fn many_come_in_order_and_with_gaps(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let keys: Vec<Key> = (0..20).map(|n| key("a", &n.to_string())).collect();
    for n in (0..20).step_by(3) {
        bed.keep(keys[n], bed.begun("a", &n.to_string(), &[])).await;
    }
    let asked: Vec<Key> = keys.iter().rev().chain(&keys[..4]).copied().collect();
    let found = bed.cache.get_many(&asked).await;
    let expected = (0..20).rev().chain(0..4).map(|n| (n % 3 == 0).then(|| n.to_string()));
    let found: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|e| e.payload.clone())).collect();
    assert_eq!(found, expected.map(|payload| payload.map(Bytes::from)).collect::<Vec<_>>());
    assert!(bed.cache.get_many(&[]).await.is_empty());
}

async fn what_is_too_large_is_not_kept(made: Made) {
    let Some(bed) = Bed::with(made, |config| config.max_entry_bytes = 1000).await else { return };
    let (key, large) = (key("a", "1"), "x".repeat(1001));
    assert!(!bed.cache.put(key, bed.begun("a", &large, &[])));
    let scopes = vec![ScopeId::from(Scope::Tenant("a")); 257].into();
    assert!(!bed.cache.put(key, Entry { scopes, ..bed.begun("a", "x", &[]) }));
    assert!(!bed.cache.put(key, bed.begun(&"t".repeat(300), "x", &[])));
    assert!(bed.found(&key).await.is_none());
    assert_eq!(bed.cache.stats().totals.dropped.too_large, 3);
    bed.keep(key, bed.begun("a", &large[1..], &[])).await;
}

async fn a_quota_holds_for_its_tenant_alone(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    bed.cache.set_quota("small", Some(10), Some(10));
    assert!(!bed.cache.put(key("small", "1"), bed.begun("small", "x", &[])));
    assert!(bed.found(&key("small", "1")).await.is_none());
    assert!(bed.cache.stats().totals.dropped.quota > 0);
    bed.keep(key("other", "1"), bed.begun("other", "x", &[])).await;
    bed.cache.set_quota("small", None, None);
    bed.keep(key("small", "1"), bed.begun("small", "x", &[])).await;
}

async fn every_scope_can_be_invalidated(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let all = [
        Scope::Tenant("a"),
        Scope::Function("a", "f"),
        Scope::Tag { tenant: "a", tag: "t" },
        Scope::Model("m"),
        Scope::ModelVersion("m", 3),
    ];
    let others = [Scope::Tenant("b"), Scope::Function("a", "g"), Scope::Tag { tenant: "b", tag: "t" }];
    let (one, other) = (key("a", "1"), key("b", "1"));
    bed.keep(other, bed.begun("b", "other", &others)).await;
    for (n, scope) in all.iter().enumerate() {
        bed.keep(one, bed.begun("a", &n.to_string(), &all)).await;
        let done = bed.cache.invalidate(&[*scope]).await;
        assert_eq!(done.everywhere, made != Made::Memory);
        assert!(bed.found(&one).await.is_none() && bed.cache.get_many(&[one]).await[0].is_none(), "{scope:?}");
        assert!(bed.found(&other).await.is_some(), "{scope:?} is not one of its");
    }
    bed.keep(one, bed.begun("a", "again", &all)).await;
    bed.cache.invalidate(&[Scope::Everything]).await;
    assert!(bed.found(&one).await.is_none() && bed.found(&other).await.is_none());
    bed.keep(one, bed.begun("a", "after", &all)).await;
}

async fn what_was_begun_before_an_invalidation_is_not_kept(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let (key, scopes) = (key("a", "1"), [Scope::Model("m")]);
    let early = bed.begun("a", "early", &scopes);
    bed.cache.invalidate(&scopes).await;
    let late = bed.begun("a", "late", &scopes);
    assert!(!bed.cache.put(key, early.clone()));
    assert!(bed.found(&key).await.is_none());
    bed.keep(key, late).await;
    assert!(bed.cache.put(key, Entry { scopes: [].into(), ..early }), "it belongs to nothing that is void");
}

async fn durations_are_capped(made: Made) {
    let Some(bed) = Bed::with(made, |config| config.max_ttl_s = 100).await else { return };
    let (key, forever) = (key("a", "1"), bed.begun("a", "x", &[]));
    let forever = Entry { fresh_ms: u64::MAX, stale_while_ms: u64::MAX, created_ms: u64::MAX, ..forever };
    bed.keep(key, forever).await;
    let (found, age) = bed.found(&key).await.unwrap();
    assert_eq!((found.ttl(), age), (Duration::from_secs(300), Freshness::Fresh));
    assert!(found.created_ms <= now_ms(), "nothing is made in the future");
}

async fn a_newer_entry_replaces_an_older_one(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let key = key("a", "1");
    for payload in ["one", "two", "three"] {
        bed.keep(key, bed.begun("a", payload, &[])).await;
    }
    assert_eq!(bed.found(&key).await.unwrap().0.payload, "three");
}

async fn tenants_with_equal_material_never_meet(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    let material = ["", "a", "ab", "request"];
    for tenant in ["a", "b", "ab"] {
        for name in material {
            bed.keep(key(tenant, name), bed.begun(tenant, &format!("{tenant}/{name}"), &[])).await;
        }
    }
    for tenant in ["a", "b", "ab"] {
        for name in material {
            let (found, _) = bed.found(&key(tenant, name)).await.unwrap();
            assert_eq!((&*found.tenant, found.payload), (tenant, Bytes::from(format!("{tenant}/{name}"))));
        }
        assert!(bed.found(&key(&format!("{tenant}x"), "a")).await.is_none());
    }
}

async fn counters_tell_what_happened(made: Made) {
    let Some(bed) = Bed::of(made).await else { return };
    assert!(bed.found(&key("a", "1")).await.is_none());
    bed.keep(key("a", "1"), bed.begun("a", "x", &[])).await;
    bed.cache.tally("a", "f").looked_up();
    let stats = bed.cache.stats();
    let (memory, redis) = (stats.totals.memory, stats.totals.redis);
    assert_eq!((memory.hits > 0, redis.hits > 0), (made != Made::Redis, made == Made::Redis));
    assert_eq!((memory.misses > 0, redis.misses > 0), (made != Made::Redis, made != Made::Memory));
    assert_eq!((stats.memory_entries, stats.memory_bytes > 0), (u64::from(made != Made::Redis), made != Made::Redis));
    assert_eq!((stats.redis_bytes > 0, stats.remote.is_some()), (made != Made::Memory, made != Made::Memory));
    assert_eq!((stats.totals.stored, stats.totals.functions["a"]["f"].lookups), (1, 1));
    assert_eq!(stats.state, if made == Made::Memory { RemoteState::None } else { RemoteState::Up });
    assert_eq!((bed.made, bed.server.is_some()), (made, made != Made::Memory));
}

#[tokio::test]
async fn settings_that_are_wrong_are_errors() {
    let config = Config { redis_url: Some("http://x".into()), ..Config::default() };
    let error = Cache::start(config, |_| ()).await.unwrap_err().to_string();
    assert!(error.starts_with("cache.redis_url"), "{error}");
}

#[test]
fn what_was_missed_voids_what_memory_holds() {
    let invalidations = Arc::new(super::Invalidations::default());
    let memory = Arc::new(super::Memory::new(1 << 20, 1 << 20));
    let hears = super::hears(invalidations.clone(), Some(memory.clone()), |_| ());
    let everything = vec![ScopeId::everything()];
    for what in [Heard::Floor(5), Heard::Invalidated { seq: 6, scopes: everything }] {
        let begun = invalidations.now();
        memory.put(key("a", "1"), entry("a", "x", &[]));
        hears(what);
        assert!(!invalidations.is_valid(begun, &[]) && memory.get(&key("a", "1")).is_none());
    }
    assert_eq!(invalidations.known(), 6);
    assert!(!invalidations.is_valid_far(5, &[]) && invalidations.is_valid_far(6, &[]));
}
