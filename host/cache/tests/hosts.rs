//! What hosts that share a Redis promise each other, and what holds where it is not to be trusted or not there.

use std::sync::Mutex;

use ::redis::{Value, cmd};

use super::{super::Announced, *};
use crate::announce::Announce as _;

/// How soon another host must know.
const SOON: Duration = Duration::from_secs(1);

fn raw(key: &Key) -> String {
    format!("test:v:{}", key.hex())
}

async fn both() -> Option<Bed> {
    Bed::of(Made::Both).await
}

impl Bed {
    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Another host with the same Redis.
    async fn second(&self) -> Arc<Cache> {
        cache(config(self.server().port)).await
    }

    /// Keeps it, and waits until it is in Redis.
    async fn share(&self, key: Key, entry: Entry) {
        self.keep(key, entry).await;
        self.until("it is in Redis", async || self.is_in_redis(&key).await).await;
    }

    async fn is_in_redis(&self, key: &Key) -> bool {
        self.server().ask(cmd("EXISTS").arg(raw(key))).await == Value::Int(1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_host_computed_another_one_finds_and_keeps() {
    let Some(bed) = both().await else { return };
    let (key, second) = (key("a", "1"), bed.second().await);
    bed.share(key, bed.begun("a", "x", &[])).await;
    assert_eq!(second.get(&key).await.tier, Some(Tier::Redis));
    assert_eq!(second.get(&key).await.tier, Some(Tier::Memory));
    let many = second.get_many(&[key, super::key("a", "2")]).await;
    assert_eq!((many[0].is_some(), many[1].is_some()), (true, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invalidation_is_heard_by_other_hosts() {
    let Some(bed) = both().await else { return };
    let (key, second) = (key("a", "1"), bed.second().await);
    let all = [
        Scope::Tenant("a"),
        Scope::Function("a", "f"),
        Scope::Tag { tenant: "a", tag: "t" },
        Scope::Model("m"),
        Scope::ModelVersion("m", 3),
    ];
    for scope in all.into_iter().chain([Scope::Everything]) {
        bed.share(key, bed.begun("a", "x", &all)).await;
        // It may have to hear of the invalidation before, first.
        until("the other host has it", async || second.get(&key).await.entry.is_some()).await;
        let begun = Entry { seq: second.seq(), ..entry("a", "begun before", &all) };
        assert!(bed.cache.invalidate(&[scope]).await.everywhere);
        let told = Instant::now();
        until("the other host forgets it", async || second.get(&key).await.entry.is_none()).await;
        assert!(told.elapsed() < SOON, "{scope:?} took {:?}", told.elapsed());
        assert!(!second.put(key, begun), "{scope:?}: what was begun there before is void, too");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidations_of_many_hosts_at_once_lose_nothing() {
    let Some(bed) = both().await else { return };
    let second = bed.second().await;
    let tags: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    for tag in &tags {
        let scopes = [Scope::Tag { tenant: "a", tag }];
        bed.keep(key("a", tag), bed.begun("a", tag, &scopes)).await;
        second.put(key("a", tag), Entry { seq: second.seq(), ..entry("a", tag, &scopes) });
    }
    for (n, tag) in tags.iter().enumerate() {
        let host = if n % 2 == 0 { &bed.cache } else { &second };
        assert!(host.invalidate(&[Scope::Tag { tenant: "a", tag }]).await.everywhere);
    }
    for host in [&bed.cache, &second] {
        for tag in &tags {
            until("it is void on both", async || host.get(&key("a", tag)).await.entry.is_none()).await;
        }
    }
    // What comes afterwards is shared again.
    let scopes = [Scope::Tag { tenant: "a", tag: "3" }];
    until("numbers have settled", async || {
        second.put(key("a", "3"), Entry { seq: second.seq(), ..entry("a", "new", &scopes) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        bed.found(&key("a", "3")).await.is_some()
    })
    .await;
}

/// The value lies in Redis still, as nobody has looked at it since it was invalidated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_starts_later_takes_nothing_void() {
    let Some(bed) = both().await else { return };
    let (void, good) = (key("a", "1"), key("a", "2"));
    bed.share(void, bed.begun("a", "x", &[Scope::Model("m")])).await;
    bed.share(good, bed.begun("a", "x", &[Scope::Model("n")])).await;
    bed.cache.invalidate(&[Scope::Model("m")]).await;
    assert!(bed.is_in_redis(&void).await);
    let late = bed.second().await;
    assert!(late.get(&void).await.entry.is_none() && late.get(&good).await.entry.is_some());
    late.put(void, Entry { seq: late.seq(), ..entry("a", "again", &[Scope::Model("m")]) });
    bed.until("the new one is shared", async || bed.found(&void).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_miss_and_gone_afterwards() {
    let Some(bed) = Bed::of(Made::Redis).await else { return };
    let (good, poisoned) = (key("a", "good"), key("a", "poisoned"));
    bed.share(good, bed.begun("a", "x", &[])).await;
    let Value::BulkString(value) = bed.server().ask(cmd("GET").arg(raw(&good))).await else { panic!("no value") };
    let mut flipped = value.clone();
    flipped[60] ^= 1;
    for (n, bad) in [b"garbage".to_vec(), vec![], vec![0; 200], value, flipped].into_iter().enumerate() {
        bed.server().ask(cmd("SET").arg(raw(&poisoned)).arg(bad)).await;
        assert!(bed.found(&poisoned).await.is_none(), "{n}");
        assert_eq!(bed.cache.stats().totals.redis.errors, n as u64 + 1);
        bed.until("it is deleted", async || !bed.is_in_redis(&poisoned).await).await;
    }
    assert!(bed.found(&good).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_entry_of_another_host_beats_a_stale_one_here() {
    let Some(bed) = both().await else { return };
    let (key, second) = (key("a", "1"), bed.second().await);
    let stale = bed.begun("a", "stale", &[]);
    bed.share(key, Entry { created_ms: stale.created_ms - 700_000, ..stale }).await;
    assert_eq!(bed.cache.get(&key).await.entry.unwrap().1, Freshness::StaleWhile);
    second.put(key, Entry { seq: second.seq(), ..entry("a", "fresh", &[]) });
    until("the fresh one is found", async || bed.found(&key).await.unwrap().1 == Freshness::Fresh).await;
    assert_eq!(bed.cache.get(&key).await.tier, Some(Tier::Memory));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_written_before_the_end() {
    let Some(bed) = both().await else { return };
    for n in 0..200 {
        assert!(bed.cache.put(key("a", &n.to_string()), bed.begun("a", "x", &[])));
    }
    bed.cache.stop().await;
    let late = bed.second().await;
    let keys: Vec<Key> = (0..200).map(|n| key("a", &n.to_string())).collect();
    assert!(late.get_many(&keys).await.iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_reach_other_hosts() {
    let Some(bed) = both().await else { return };
    let heard = Arc::new(Mutex::new(Vec::<Announced>::new()));
    let ear = heard.clone();
    let second = Cache::start(config(bed.server().port), move |what| ear.lock().unwrap().push(what)).await.unwrap();
    until("it is heard", async || {
        bed.cache.announce("registry", "change:7");
        tokio::time::sleep(Duration::from_millis(10)).await;
        !heard.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(heard.lock().unwrap()[0], Announced { topic: "registry".into(), text: "change:7".into() });
    second.stop().await;
}

/// Nobody listens at the port, ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_redis_a_host_remembers_in_memory() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = Cache::start(Config { lookup_timeout_ms: 20, ..config(port) }, |_| ()).await.unwrap();
    assert!(matches!(cache.state(), RemoteState::Down { .. }), "{:?}", cache.state());
    let (key, scopes) = (key("a", "1"), [Scope::Model("m")]);
    assert!(cache.get(&key).await.entry.is_none());
    assert!(cache.put(key, Entry { seq: cache.seq(), ..entry("a", "x", &scopes) }));
    assert!(cache.get(&key).await.entry.is_some());
    assert!(!cache.invalidate(&scopes).await.everywhere);
    assert!(cache.get(&key).await.entry.is_none() && cache.get_many(&[key]).await[0].is_none());
    assert!(cache.put(key, Entry { seq: cache.seq(), ..entry("a", "x", &scopes) }));
    assert!(cache.get(&key).await.entry.is_some());
    cache.stop().await;
}
