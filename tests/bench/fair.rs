//! What a quiet tenant notices of a loud one: it asks for a quarter of what there is, at random times, while the other
//! asks for twenty times as much; against the same hours alone. Once for a model's lane, once for guests' processor time.
//! Whoever is refused counts as waiting for ever.

use std::{net::SocketAddr, path::Path, time::Duration};

use crate::{
    apart::Apart,
    cores::{self, LANE, REST},
    median,
    place::{PATIENT, Place},
    process::{Cell, Load, Pace},
    quantile, stamp,
    watched::Seen,
    wire::{self, Client},
};

/// The quiet tenant's share of the capacity, and how many times as much the loud one asks for.
const SHARE: f64 = 0.25;
const TIMES: f64 = 20.0;
/// Pairs of measurements, interleaved; the median of their ratios is told.
const PAIRS: usize = 5;
/// One measurement.
const WINDOW: Duration = Duration::from_secs(8);
/// The loud one begins before and ends after.
const LEAD: Duration = Duration::from_secs(2);
const TAIL: Duration = Duration::from_secs(1);
/// Connections of the quiet tenant.
const CONNECTIONS: usize = 64;
/// Clients that find out the capacity, and for how long.
const CLIENTS: usize = 32;
const SOUNDING: Duration = Duration::from_secs(3);
/// What the quiet tenant's p99 may come to.
const GOAL: f64 = 1.5;
/// The quiet tenant's times are the same in every run.
const SEED: u64 = 25;

const QUIET: &str = "quiet";
const LOUD: &str = "loud";
/// Ids of a row.
const BODY: [u8; 64] = [7; 64];
/// What a guest works by itself, and turns of its loop that tell how long one takes.
const WORK: Duration = Duration::from_millis(5);
const TRIED_TURNS: u64 = 1_000_000;
const TRIES: usize = 9;

/// Prints both ratios.
pub(crate) fn measure() {
    lanes();
    guests();
}

/// Lanes on one core, everything else on the other.
fn lanes() {
    let place = place().with_model("models/minilm", &PATIENT);
    for tenant in [QUIET, LOUD] {
        stamp::deploy(&place, tenant, stamp::ENCODER, &stamp::component(0));
    }
    let host = Apart::start(&place, REST, Seen::on(LANE));
    cores::on(REST, || compare("a lane (MiniLM, 64 tokens)", &host, "ids", &place.path("body")));
    host.end();
}

/// The host on one core, the load on the other.
fn guests() {
    let place = place();
    for tenant in [QUIET, LOUD] {
        stamp::deploy(&place, tenant, "", &stamp::component(0));
    }
    let host = Apart::start(&place, LANE, Seen::on(LANE));
    cores::on(REST, || {
        let turns = turns(host.address());
        compare("guests of 5 ms", &host, &format!("work?turns={turns}"), &place.path("body"));
    });
    host.end();
}

fn place() -> Place {
    let place = Place::empty();
    std::fs::write(place.path("body"), BODY).expect("a file can be written");
    place
}

/// As many turns as take the time of `WORK`.
fn turns(host: SocketAddr) -> u64 {
    let request = wire::post(&stamp::path(QUIET, &format!("work?turns={TRIED_TURNS}")), &BODY);
    let times = wire::latencies(host, &request, TRIES);
    (TRIED_TURNS as f64 * WORK.as_secs_f64() * 1e6 / quantile(&times, 0.5)) as u64
}

fn compare(what: &str, host: &Apart, path: &str, body: &Path) {
    let quiet = wire::post(&stamp::path(QUIET, path), &BODY);
    let capacity = wire::throughput(host.address(), &quiet, CLIENTS, SOUNDING);
    let due = due(capacity * SHARE);
    let loud = Load {
        url: format!("http://{}{}", host.address(), stamp::path(LOUD, path)),
        pace: Pace::Rate(capacity * SHARE * TIMES),
        duration: WINDOW + LEAD + TAIL,
        body,
        content_type: "application/octet-stream",
        pinned: false,
    };
    let mut pairs: Vec<_> = (0..PAIRS)
        .map(|_| {
            let alone = window(host, &quiet, &due);
            let driving = loud.start();
            wire::rest(LEAD);
            let beside = window(host, &quiet, &due);
            let cell = driving.finish();
            // What the load left behind would be worked off in the next window. Queues are in order for each tenant.
            Client::connect(host.address()).exchange(&wire::post(&stamp::path(LOUD, path), &BODY));
            (beside.p99_ms / alone.p99_ms, alone, beside, cell)
        })
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, alone, beside, Cell { requests_per_second, errors, .. }) = pairs[PAIRS / 2];
    let refused = median(pairs.iter().map(|pair| pair.2.refused as f64));
    println!(
        "quiet tenant beside a loud one, {what}: p99 {:.1} ms, alone {:.1} ms, {ratio:.2}x ({} {GOAL}x); p50 {:.1} ms, \
         alone {:.1} ms; {refused:.0} of {} refused; capacity {capacity:.0}/s, the loud one asks for {:.0}/s and gets \
         {requests_per_second:.0}/s ({errors:.0} refused)",
        beside.p99_ms,
        alone.p99_ms,
        if ratio <= GOAL { "within" } else { "OVER" },
        beside.p50_ms,
        alone.p50_ms,
        due.len(),
        capacity * SHARE * TIMES,
    );
}

/// What the quiet tenant saw of one window.
#[derive(Clone, Copy)]
struct Window {
    p50_ms: f64,
    p99_ms: f64,
    refused: usize,
}

fn window(host: &Apart, request: &[u8], due: &[Duration]) -> Window {
    let times = wire::open_loop(host.address(), request, due, CONNECTIONS);
    let at = |share: f64| {
        let time = times[((times.len() - 1) as f64 * share).round() as usize];
        time.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3)
    };
    Window { p50_ms: at(0.5), p99_ms: at(0.99), refused: times.iter().filter(|time| time.is_none()).count() }
}

/// When requests are due that know nothing of each other: with gaps that are exponential, so many per second in the mean.
fn due(rate: f64) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let gaps = std::iter::repeat_with(|| -(1.0 - random.f64()).ln() / rate);
    let sums = gaps.scan(0.0, |sum, gap| {
        *sum += gap;
        Some(Duration::from_secs_f64(*sum))
    });
    sums.take_while(|due| *due < WINDOW).collect()
}
