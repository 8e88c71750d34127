//! What remembering answers and rows gains, and what it costs where it gains nothing: each against the same without it, in
//! turns. Redis is Debian's `redis-server`, on a port of its own.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use axum::{Router, routing::post};
use tenon_host::config::Config;
use tokio::runtime::Runtime;

use crate::{
    TURNS, made, median,
    place::{PATIENT, Place},
    quantile,
    requests::{Servers, start_with},
    wire::{self, Client, throughput},
};

const TURN: Duration = Duration::from_secs(2);
const CLIENTS: usize = 32;
const ASKED: usize = 2000;
/// Callers of the rerank workload, as in the comparison with peers.
const RERANK_CLIENTS: usize = 8;
const RERANK_TURN: Duration = Duration::from_secs(6);
/// How many of a hundred requests of that workload were asked before.
const REPEATS: usize = 80;
const DOCUMENTS: usize = 10;

const STATED: &str = "[cache]\nkey = \"request\"\nttl_s = 3600\n";
const ROWS: &str = "[cache]\nrows = \"input\"\n";
const BOTH: &str = "[cache]\nkey = \"request\"\nttl_s = 3600\nrows = \"input\"\n";

/// A `redis-server` until it is dropped.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start() -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free");
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        while TcpStream::connect(address).is_err() {
            wire::rest(Duration::from_millis(5));
        }
        Some(Self(child, address))
    }

    fn configure(&self, config: &mut Config) {
        config.cache.redis_url = Some(format!("redis://{}", self.1));
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "redis-server is there");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let (_, _) = (self.0.kill(), self.0.wait());
    }
}

/// Test functions with other `[cache]` sections: their names are what they are called by.
fn keepers() -> Place {
    let place = Place::new();
    let from = made(".tenon/test-functions/test");
    place.function("test", "keeper", &from.join("keeper"));
    for (name, plugin, cache) in [
        ("stated", "keeper", STATED),
        ("fresh", "identity", ""),
        ("answers", "identity", STATED),
        ("rows", "identity", ROWS),
    ] {
        place.function("test", name, &from.join(plugin));
        place.add_to("test", name, cache);
    }
    place
}

pub(crate) fn measure() {
    hits();
    unique();
    redis();
    rerank();
}

/// Hits in memory against an echo of the same body.
fn hits() {
    let bed = start_with(keepers(), |_| {});
    for (name, path, goal) in [
        ("stated by function.toml", "/v1/functions/test/stated/say", 0.6),
        ("said by the plugin", "/v1/functions/test/keeper/say?ttl=3600000", 0.4),
    ] {
        let request = wire::post(path, b"{\"a\":1}");
        let answer = Client::connect(bed.host.data_address()).ask(&request).to_vec();
        assert_eq!(Client::connect(bed.host.data_address()).ask(&request), answer, "it is to be a hit");
        let bare = wire::post("/echo", &answer);
        let turn = || {
            let echo = throughput(bed.echo, &bare, CLIENTS, TURN);
            (throughput(bed.host.data_address(), &request, CLIENTS, TURN), echo)
        };
        let turns: Vec<_> = (0..TURNS).map(|_| turn()).collect();
        let ratio = median(turns.iter().map(|(hit, echo)| hit / echo));
        let (hit, echo) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
        println!(
            "hit in memory, {name}: {ratio:.2}x a bare axum echo of the same body, {CLIENTS} clients ({hit:.0}/s against \
             {echo:.0}/s; goal {goal}x)"
        );
    }
    bed.end();
}

/// Requests per second where no two are the same.
fn all_unique(address: SocketAddr, path: &str, next: &AtomicUsize, clients: usize) -> f64 {
    let start = Instant::now();
    let client = || {
        let (mut client, mut count) = (Client::connect(address), 0);
        while start.elapsed() < TURN {
            let number = next.fetch_add(1, Relaxed) as f32;
            let row: Vec<u8> = (0..16).flat_map(|at| (number + at as f32 / 16.0).to_le_bytes()).collect();
            client.ask(&wire::post(path, &row));
            count += 1;
        }
        count
    };
    let counts: Vec<u64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    counts.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64()
}

/// Remembering what nobody asks again, before a model that takes next to no time.
fn unique() {
    let bed = start_with(keepers(), |_| {});
    let next = AtomicUsize::new(0);
    for (what, clients) in [("answers", 1), ("answers", CLIENTS), ("rows", 1), ("rows", CLIENTS)] {
        let path = format!("/v1/functions/test/{what}");
        let turn = || {
            let off = all_unique(bed.host.data_address(), "/v1/functions/test/fresh", &next, clients);
            (all_unique(bed.host.data_address(), &path, &next, clients), off)
        };
        let turns: Vec<_> = (0..TURNS).map(|_| turn()).collect();
        let ratio = median(turns.iter().map(|(on, off)| on / off));
        let (on, off) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
        println!(
            "unique rows through the identity model with {what} remembered: {ratio:.2}x of without, {clients} client(s) \
             ({on:.0}/s against {off:.0}/s; goal 0.97x)"
        );
    }
    bed.end();
}

/// What the host says that an answer took.
fn process_time(head: &str) -> Duration {
    let line = head.lines().find_map(|line| line.strip_prefix("x-process-time: "));
    let ms: f64 = line.and_then(|time| time.trim().parse().ok()).expect("every answer tells it");
    Duration::from_secs_f64(ms / 1e3)
}

/// Hits in Redis alone against a bare `GET` of as many bytes, and what a Redis costs that does not answer.
fn redis() {
    let Some(redis) = Redis::start() else { return println!("redis: there is no redis-server") };
    let bed = start_with(keepers(), |config| {
        redis.configure(config);
        config.cache.memory_bytes = 0;
    });
    let request = wire::post("/v1/functions/test/stated/say", b"{\"a\":1}");
    let mut client = Client::connect(bed.host.data_address());
    client.ask(&request);
    while !client.head().contains("x-tenon-cache: hit") {
        client.ask(&request);
    }
    let mut bare = Client::connect(bare_get(&bed.runtime, redis.1));
    let get = wire::post("/get", b"");
    let mut turn = |client: &mut Client| {
        let p50 = |client: &mut Client, request: &[u8]| {
            let mut times: Vec<_> = (0..ASKED)
                .map(|_| {
                    client.ask(request);
                    process_time(client.head())
                })
                .collect();
            times.sort();
            quantile(&times, 0.5)
        };
        (p50(client, &request), p50(&mut bare, &get))
    };
    let turns: Vec<_> = (0..TURNS).map(|_| turn(&mut client)).collect();
    let ratio = median(turns.iter().map(|(ours, get)| ours / get));
    let (ours, get) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
    println!(
        "hit in Redis: x-process-time p50 {ours:.0} us, {ratio:.2}x a bare GET by the same client library in an axum handler ({get:.0} us; goal \
         2.5x)"
    );
    // What it costs where Redis does not answer: the same misses before and after it stops.
    let next = AtomicUsize::new(1_000_000);
    let misses = |count: usize| {
        let mut client = Client::connect(bed.host.data_address());
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let request =
                    wire::post("/v1/functions/test/stated/say", next.fetch_add(1, Relaxed).to_string().as_bytes());
                let start = Instant::now();
                client.ask(&request);
                start.elapsed()
            })
            .collect();
        times.sort();
        (quantile(&times, 0.5) / 1e3, quantile(&times, 0.99) / 1e3)
    };
    let (before, before_p99) = misses(ASKED);
    redis.signal("STOP");
    misses(20);
    let (after, after_p99) = misses(ASKED);
    redis.signal("CONT");
    println!(
        "misses while Redis does not answer: p50 {after:.2} ms, p99 {after_p99:.2} ms; with Redis {before:.2} and \
         {before_p99:.2} ms (goal: p99 at most 10 ms more)"
    );
    drop(client);
    bed.end();
}

/// The client library that the host uses behind a bare handler on the same threads, which tells what its `GET` took as the
/// host does. Asked over a wire as well, because a loop in one task never waits for a thread to wake.
fn bare_get(runtime: &Runtime, redis: SocketAddr) -> SocketAddr {
    let client = redis::Client::open(format!("redis://{redis}/?protocol=resp3")).expect("an address is one");
    let mut line = runtime.block_on(client.get_multiplexed_async_connection()).expect("redis-server listens");
    // As many bytes as an entry has whose answer is some fifty.
    let set = async { redis::cmd("SET").arg("bare").arg(vec![b'x'; 420]).exec_async(&mut line).await };
    runtime.block_on(set).expect("it takes a value");
    let get = async move || {
        let (start, mut line) = (Instant::now(), line.clone());
        let value: Vec<u8> = redis::cmd("GET").arg("bare").query_async(&mut line).await.expect("it answers");
        ([("x-process-time", format!("{:.3}", start.elapsed().as_secs_f64() * 1e3))], value)
    };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/get", post(get));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    })
}

/// A query and ten documents; those at these numbers are like no others.
fn question(query: usize, documents: impl Iterator<Item = usize>) -> Vec<u8> {
    const TEXT: &str = "The ferry to the island leaves at twenty to eight, a quarter past twelve and six; in winter the noon \
                        crossing is cancelled, and bicycles pay half of the fare";
    let documents: Vec<_> = documents.map(|number| format!("{TEXT}, says notice {number}.")).collect();
    let body = serde_json::json!({ "query": format!("When does boat {query} leave?"), "documents": documents });
    wire::post("/v1/functions/demo/reranker", body.to_string().as_bytes())
}

/// A reranker with this `[cache]`.
fn reranker(cache: &str) -> Servers {
    let place = Place::empty().with_demo(&PATIENT);
    place.add_to("demo", "reranker", cache);
    start_with(place, |_| {})
}

/// Questions of which parts were asked before.
fn rerank() {
    let (off, rows) = (reranker(""), reranker(ROWS));
    let mut next = 0..;
    let mut number = || next.next().unwrap_or_default();
    let seen: Vec<usize> = (0..8).map(|_| number()).collect();
    let mut clients = [&off, &rows].map(|bed| Client::connect(bed.host.data_address()));
    let first = question(0, seen.iter().copied().chain([900_001, 900_002]));
    for client in &mut clients {
        client.ask(&first);
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        let request = question(0, seen.iter().copied().chain([number(), number()]));
        for (client, times) in clients.iter_mut().zip(&mut times) {
            let start = Instant::now();
            client.ask(&request);
            times.push(start.elapsed());
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    let [without, with] = times.map(|times| quantile(&times, 0.5) / 1e3);
    println!(
        "rerank whose query and 8 of {DOCUMENTS} documents were seen: {:.1}x faster ({with:.1} ms against {without:.1} ms; goal \
         3x)",
        without / with
    );
    drop(clients);
    rows.end();
    let both = reranker(BOTH);
    let next = AtomicUsize::new(1000);
    let drive = |bed: &Servers, repeats: usize| {
        let (start, known) = (Instant::now(), AtomicUsize::new(0));
        let client = |seed: usize| {
            let (mut client, mut count) = (Client::connect(bed.host.data_address()), 0_u64);
            let mut turn = seed;
            while start.elapsed() < RERANK_TURN {
                turn += 1;
                // Which are asked again is spread evenly: 80 of each hundred.
                let again = (turn * 37) % 100 < repeats;
                let at = if again { known.fetch_add(1, Relaxed) % 4 } else { next.fetch_add(1, Relaxed) };
                client.ask(&question(at, (at * DOCUMENTS..).take(DOCUMENTS)));
                count += 1;
            }
            count
        };
        let counts: Vec<u64> = thread::scope(|scope| {
            let clients: Vec<_> = (0..RERANK_CLIENTS).map(|at| scope.spawn(move || client(at * 13))).collect();
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
        });
        counts.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64()
    };
    for (repeats, goal) in [(REPEATS, "bound 5x, goal 4.5x"), (0, "goal 0.97x")] {
        let turns: Vec<_> = (0..3).map(|_| (drive(&both, repeats), drive(&off, repeats))).collect();
        let ratio = median(turns.iter().map(|(with, without)| with / without));
        let (with, without) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
        println!(
            "rerank, {RERANK_CLIENTS} clients, {repeats} % repeats: {ratio:.2}x its rate without the cache ({with:.1}/s \
             against {without:.1}/s; {goal})"
        );
    }
    off.end();
    both.end();
}
