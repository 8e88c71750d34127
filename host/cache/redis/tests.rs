//! Redis as it is, and as it should not be: real servers, killed, stopped, full and cut off.
//!
//! They start `redis-server` themselves and say so where there is none; with `TENON_TEST_ALL=1` they fail then.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    super::{Config, Key, KeyBuilder, RemoteState, Scope, ScopeId},
    Heard, Remote,
};

mod basics;
mod cluster;
mod faults;
mod hosts;
mod proxy;
mod secure;
mod server;

use proxy::{Mode, Proxy};
use server::Server;

/// What a lookup may take in these tests.
const LOOKUP: Duration = Duration::from_millis(20);
/// And a write, or a question about invalidations.
const WRITE: Duration = Duration::from_millis(300);
/// What a machine with other things to do may add.
const NOISE: Duration = Duration::from_millis(200);
/// How soon all must be well again.
const RECOVERY: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);

fn config(port: u16) -> Config {
    Config {
        redis_url: Some(format!("redis://127.0.0.1:{port}")),
        redis_prefix: "test".into(),
        lookup_timeout_ms: LOOKUP.as_millis() as u64,
        write_timeout_ms: WRITE.as_millis() as u64,
        connect_timeout_ms: 300,
        breaker_rest_ms: 200,
        ..Config::default()
    }
}

fn key(name: &str) -> Key {
    KeyBuilder::new("test", "tenant").part(name.as_bytes()).finish()
}

fn scope(tag: &str) -> ScopeId {
    Scope::Tag { tenant: "tenant", tag }.into()
}

/// A host, as far as Redis is concerned, and what it heard.
struct Host {
    remote: Arc<Remote>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Host {
    async fn start(config: &Config) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let remote = Remote::start(config, Arc::new(move |what| ear.lock().unwrap().push(what))).unwrap();
        remote.settled().await;
        Self { remote, heard }
    }

    /// One that answers, whatever else the machine does.
    async fn up(port: u16) -> Self {
        let host = Self::start(&config(port)).await;
        host.comes_up().await;
        host
    }

    async fn comes_up(&self) {
        until("Redis answers", || async { self.remote.state() == RemoteState::Up }).await;
    }

    async fn get(&self, key: Key) -> Option<Bytes> {
        self.remote.get_many(&[key]).await.remove(0)
    }

    /// Puts until it is found: how long that takes, from when it should be possible.
    async fn hits(&self, name: &str) -> Duration {
        let (key, start) = (key(name), Instant::now());
        let mut put_at = None::<Instant>;
        while self.get(key).await.is_none() {
            if put_at.is_none_or(|at| at.elapsed() > Duration::from_millis(50)) {
                self.remote.put(key, name.to_owned().into(), HOUR);
                put_at = Some(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(start.elapsed() < 5 * RECOVERY, "no hit: {:?} {:?}", self.remote.state(), self.remote.figures());
        }
        start.elapsed()
    }

    /// Asks without end for so long: the longest that a call took.
    async fn asks(&self, name: &str, time: Duration) -> Duration {
        let (key, start, mut longest) = (key(name), Instant::now(), Duration::ZERO);
        while start.elapsed() < time {
            let call = Instant::now();
            let found = self.remote.get_many(&[key, key]).await;
            assert_eq!(found.len(), 2);
            self.remote.put(key, name.to_owned().into(), HOUR);
            longest = longest.max(call.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        longest
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn heard_scopes(&self) -> Vec<ScopeId> {
        let scopes = |heard: Heard| if let Heard::Invalidated { scopes, .. } = heard { scopes } else { vec![] };
        self.heard().into_iter().flat_map(scopes).collect()
    }

    fn floors(&self) -> usize {
        self.heard().iter().filter(|heard| matches!(heard, Heard::Floor(_))).count()
    }

    async fn hears(&self, scope: ScopeId) -> Duration {
        let start = Instant::now();
        until("it is heard", || async { self.heard_scopes().contains(&scope) }).await;
        start.elapsed()
    }
}

/// Fails with these words if it does not come true in time.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A measured time, for whoever looks at the output.
#[expect(clippy::print_stderr, reason = "measurements are shown with --nocapture")]
fn say(what: &str, time: Duration) {
    eprintln!("{what}: {} ms", time.as_millis());
}
