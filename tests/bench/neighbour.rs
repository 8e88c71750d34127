//! A neighbour of misbehaving guests: the empty function in open loop, at a fixed rate whatever the answers take, while
//! one hostile invocation after another runs, and the same without. Latencies count from when a request was due, so a
//! host that stalls is charged for all that was due meanwhile.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    quantile,
    requests::start,
    wire::{self, Client},
};

/// Requests per second of the neighbour.
const RATE: u32 = 200;
/// Connections that share it.
const CONNECTIONS: usize = 8;
/// One measurement, with or without a hostile guest.
const WINDOW: Duration = Duration::from_secs(4);
/// Pairs of measurements, interleaved; the median of their ratios is told.
const PAIRS: usize = 5;
/// What DESIGN's promise to tenants comes to.
const GOAL: f64 = 2.0;

/// What a hostile guest does, and the order that makes the probe do it.
const KINDS: [(&str, &str); 6] = [
    ("loop", "loop/preprocess"),
    ("memory without end", "memory"),
    ("handles without end", "hoard?what=inferences"),
    ("log without end", "log?lines=100000000&bytes=100"),
    ("large answers", "respond?bytes=25000000"),
    ("recursion", "recursion"),
];

/// Prints the ratio of p99s for each kind of hostile guest.
pub(crate) fn measure() {
    let servers = start();
    let host = servers.host.data_address();
    let empty = wire::post("/v1/functions/test/empty", b"{}");
    neighbour(host, &empty);
    for (kind, path) in KINDS {
        let hostile = wire::post(&format!("/v1/functions/test/probe/{path}"), b"");
        let mut pairs: Vec<_> = (0..PAIRS)
            .map(|_| {
                let quiet = neighbour(host, &empty);
                let (beside, runs) = beside(host, &hostile, || neighbour(host, &empty));
                (beside / quiet, quiet, beside, runs)
            })
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, quiet, beside, runs) = pairs[PAIRS / 2];
        let verdict = if ratio <= GOAL { "within" } else { "OVER" };
        println!(
            "neighbour at {RATE}/s beside a guest with {kind}: p99 {beside:.0} us, alone {quiet:.0} us, {ratio:.2}x ({verdict} {GOAL}x); {runs} hostile invocations"
        );
    }
    servers.runtime.block_on(servers.host.drain());
}

/// The neighbour's p99 in microseconds over one window.
fn neighbour(host: SocketAddr, request: &[u8]) -> f64 {
    let due: Vec<_> = (0..RATE * WINDOW.as_secs() as u32).map(|index| Duration::from_secs(1) * index / RATE).collect();
    let times = wire::open_loop(host, request, &due, CONNECTIONS);
    let answered: Option<Vec<_>> = times.into_iter().collect();
    quantile(&answered.expect("nobody refuses the neighbour"), 0.99)
}

/// Measures while one hostile invocation runs at any time: a new one as soon as one has been ended.
fn beside(host: SocketAddr, hostile: &[u8], measure: impl FnOnce() -> f64) -> (f64, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let runs = scope.spawn(|| {
            let (mut client, mut runs) = (Client::connect(host), 0);
            while !over.load(Relaxed) {
                client.exchange(hostile);
                runs += 1;
            }
            runs
        });
        let measured = measure();
        over.store(true, Relaxed);
        (measured, runs.join().expect("a client does not panic"))
    })
}
