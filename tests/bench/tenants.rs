//! Whether rows of many tenants share batches as rows of one do: 32 tenants, each with a plugin of its own, against one
//! tenant with one plugin, on the same model of the same host, under the same load, taking turns.

use std::{collections::BTreeSet, time::Duration};

use tenon_host::boot::{self, Host};

use crate::{
    TURNS, median,
    place::{PATIENT, Place, reactor},
    stamp,
    wire::{self, Client},
};

/// Tenants, plugins and clients.
const TENANTS: usize = 32;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(3);
/// Before anything counts: so long who asked in the turn before is taken for somebody who may come again.
const WARM_UP: Duration = Duration::from_millis(2500);
/// How far the two may lie apart, either way.
const GOAL: f64 = 0.1;
/// Bytes of a body: ids of a row, or sixteen numbers.
const BODY: [u8; 64] = [7; 64];

/// Models, and where they are asked.
const CASES: [(&str, &str); 2] = [("minilm", "ids"), ("identity", "numbers")];

/// What a turn came to.
#[derive(Clone, Copy)]
struct Turn {
    rows_per_second: f64,
    batch: f64,
}

/// Prints batch and throughput of many against one, for a model that takes long and for one that takes nothing.
pub(crate) fn measure() {
    let place = Place::new().with_model("models/minilm", &PATIENT);
    let models = [stamp::ENCODER, stamp::IDENTITY].concat();
    for tenant in 0..TENANTS {
        stamp::deploy(&place, &name(tenant), &models, &stamp::component(tenant as i64));
    }
    let config = place.config();
    let runtime = reactor(&config);
    let host = runtime.block_on(boot::start(config)).expect("the host starts");
    for (model, path) in CASES {
        let many: Vec<_> = (0..TENANTS).map(|tenant| wire::post(&stamp::path(&name(tenant), path), &BODY)).collect();
        are_different(&host, &many);
        let one = vec![many[0].clone()];
        let turns: Vec<_> = (0..TURNS).map(|_| (turn(&host, model, &one), turn(&host, model, &many))).collect();
        let of = |what: fn(&Turn) -> f64| {
            let ratio = median(turns.iter().map(|(one, many)| what(many) / what(one)));
            let verdict = if (ratio - 1.0).abs() <= GOAL { "within" } else { "OVER" };
            let (one, many) =
                (median(turns.iter().map(|turn| what(&turn.0))), median(turns.iter().map(|turn| what(&turn.1))));
            format!("{ratio:.2}x ({many:.1} against {one:.1}; {verdict} {:.0} %)", GOAL * 100.0)
        };
        println!(
            "{TENANTS} tenants with {TENANTS} plugins against one with one, {model}, {TENANTS} clients: rows/s {}, \
             mean batch {}",
            of(|turn| turn.rows_per_second),
            of(|turn| turn.batch)
        );
    }
    runtime.block_on(host.drain());
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant:02}")
}

/// Every plugin turns the same bytes into other answers.
fn are_different(host: &Host, requests: &[Vec<u8>]) {
    let mut client = Client::connect(host.data_address());
    let answers: BTreeSet<_> = requests.iter().map(|request| client.ask(request).to_vec()).collect();
    assert_eq!(answers.len(), requests.len(), "plugins are not as different as they should be");
}

/// Each client goes through the requests in turn, so every tenant has its share of the load.
fn turn(host: &Host, model: &str, requests: &[Vec<u8>]) -> Turn {
    wire::under_load(host.data_address(), requests, TENANTS, || {
        wire::rest(WARM_UP);
        let start = std::time::Instant::now();
        let (rows, batches) = batches_at(host, model);
        wire::rest(TURN);
        let (time, (later_rows, later_batches)) = (start.elapsed(), batches_at(host, model));
        Turn {
            rows_per_second: (later_rows - rows) / time.as_secs_f64(),
            batch: (later_rows - rows) / (later_batches - batches).max(1.0),
        }
    })
}

/// Rows and batches of a model so far, as `tenon_batch_rows` tells them.
fn batches_at(host: &Host, model: &str) -> (f64, f64) {
    let text = host.telemetry().text();
    let figure = |what: &str| {
        let start = format!("tenon_batch_rows_{what}{{model=\"{model}\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
        found.expect("the metrics tell of every model")
    };
    (figure("sum"), figure("count"))
}
