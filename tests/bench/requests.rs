//! Whole requests over loopback: Tenon and a bare axum echo on the same runtime, taking turns.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use tenon_host::{
    boot::{self, Host},
    config::Config,
};
use tokio::runtime::Runtime;

use crate::{
    TURNS, median,
    place::{Place, reactor},
    quantile,
    wire::{self, latencies, throughput},
};

/// How long a turn is.
const TURN: Duration = Duration::from_secs(2);
/// Clients of a throughput measurement.
const CLIENTS: usize = 32;
/// Requests of a latency measurement.
const REQUESTS: usize = 5000;

pub(crate) struct Servers {
    pub(crate) runtime: Runtime,
    pub(crate) host: Host,
    pub(crate) echo: SocketAddr,
    _place: Place,
}

impl Servers {
    /// Ends the host.
    pub(crate) fn end(self) {
        self.runtime.block_on(self.host.drain());
    }
}

/// A host with the test functions, and an echo beside it.
pub(crate) fn start() -> Servers {
    start_with(Place::new(), |_| {})
}

/// The same with other functions and settings.
pub(crate) fn start_with(place: Place, change: impl FnOnce(&mut Config)) -> Servers {
    let mut config = place.config();
    change(&mut config);
    let runtime = reactor(&config);
    let host = runtime.block_on(boot::start(config)).expect("the host starts");
    let echo = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/echo", post(async |body: Bytes| body));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    });
    Servers { runtime, host, echo, _place: place }
}

/// The empty function (validates, responds) against the echo.
pub(crate) fn empty() {
    let servers = start();
    let host = servers.host.data_address();
    let ours = wire::post("/v1/functions/test/empty", b"{}");
    let bare = wire::post("/echo", b"{\"ok\":true}");
    for clients in [1, CLIENTS] {
        let mut ratios = Vec::new();
        let mut best = (0.0_f64, 0.0_f64);
        for _ in 0..TURNS {
            let echo = throughput(servers.echo, &bare, clients, TURN);
            let tenon = throughput(host, &ours, clients, TURN);
            ratios.push(tenon / echo);
            best = (best.0.max(tenon), best.1.max(echo));
        }
        let (tenon, echo) = best;
        println!(
            "empty function against a bare axum echo, {clients} clients: {:.2}x (best turns: {tenon:.0}/s against {echo:.0}/s)",
            median(ratios)
        );
    }
    servers.end();
}

/// One row of fp32[16] through a plugin and the identity model, one client.
pub(crate) fn identity() {
    let servers = start();
    let host = servers.host.data_address();
    let row: Vec<u8> = (0..16_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let ours = wire::post("/v1/functions/test/identity", &row);
    let bare = wire::post("/echo", &row);
    latencies(host, &ours, REQUESTS / 10);
    let mut medians = Vec::new();
    for _ in 0..TURNS {
        let (tenon, echo) = (latencies(host, &ours, REQUESTS), latencies(servers.echo, &bare, REQUESTS));
        medians.push((quantile(&tenon, 0.5), quantile(&tenon, 0.99), quantile(&echo, 0.5)));
    }
    medians.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (p50, p99, echo) = medians[TURNS / 2];
    println!(
        "identity fp32[16] through a plugin, one client: p50 {p50:.0} us, p99 {p99:.0} us (bare echo p50 {echo:.0} us)"
    );
    println!("identity fp32[16], {CLIENTS} clients: {:.0}/s", throughput(host, &ours, CLIENTS, TURN));
    servers.end();
}
