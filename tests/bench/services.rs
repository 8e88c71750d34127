//! The services of `examples/` under 1 to 256 clients: how many requests a second, how long they take, who is refused, and
//! how much of the processor goes to anything but the models. The host is in this process, with a clock around each
//! batch; `tenon bench` is in its own, and both share the machine's cores.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cpu_time::ProcessTime;
use tenon_host::boot;

use crate::{
    around,
    forward::Timed,
    made,
    place::{Place, reactor},
    process::{Load, Pace},
};

/// Callers in a closed loop; who is refused comes back at once.
const CLIENTS: [usize; 5] = [1, 10, 50, 100, 256];
/// How long each of them is counted.
const DURATION: Duration = Duration::from_secs(8);

/// One service and what it is asked.
struct Case {
    name: &'static str,
    models: &'static [&'static str],
    below: &'static str,
    content_type: &'static str,
    body: PathBuf,
}

/// A table for each service, in the order in which DESIGN names them.
pub(crate) fn measure() {
    let sample = |name: &str| made(".tenon/services/samples").join(name);
    let body = |name: &str| made("tests/bench/bodies").join(name);
    let cells: &[&str] = &["cells-hrnet", "cells-resunet", "cells-unet"];
    let cases = [
        Case {
            name: "detector",
            models: &["detector"],
            below: "/detect",
            content_type: "image/jpeg",
            body: sample("scene-1.jpg"),
        },
        Case {
            name: "segmentation",
            models: cells,
            below: "?model=unet",
            content_type: "image/png",
            body: sample("cells-1.png"),
        },
        Case {
            name: "tagger",
            models: &["tagger"],
            below: "",
            content_type: "text/plain; charset=utf-8",
            body: body("abstract.txt"),
        },
        Case {
            name: "reranker",
            models: &["minilm"],
            below: "",
            content_type: "application/json",
            body: body("question.json"),
        },
    ];
    for case in &cases {
        case.measure();
    }
}

impl Case {
    fn measure(&self) {
        let place = Place::empty().with_service(self.name, self.models, &[]);
        let config = place.config();
        let runtime = reactor(&config);
        let timed = Arc::new(Timed::default());
        let clock = timed.clone();
        let started = boot::start_with(config, move || around::torch(&clock));
        let host = runtime.block_on(started).expect("the host starts");
        let url = format!("http://{}/v1/functions/demo/{}{}", host.data_address(), self.name, self.below);
        println!("{}: host and load on the same cores, {} s a line", self.name, DURATION.as_secs());
        println!("  clients  answers/s    p50 ms    p95 ms    p99 ms  429s  other errors  processor outside the model");
        for clients in CLIENTS {
            self.line(&url, clients, &timed);
        }
        runtime.block_on(host.drain());
    }

    fn line(&self, url: &str, clients: usize, timed: &Timed) {
        let load = Load {
            url: url.to_owned(),
            pace: Pace::Clients(clients),
            duration: DURATION,
            body: &self.body,
            content_type: self.content_type,
            pinned: false,
        };
        let (process, before) = (ProcessTime::now(), timed.spent());
        let cell = load.drive();
        let (process, forward) = (process.elapsed(), timed.spent() - before);
        println!(
            "  {clients:>7}  {:>9.1}  {:>8.1}  {:>8.1}  {:>8.1}  {:>4.0}  {:>12.0}  {:>5.1} %",
            cell.requests_per_second,
            cell.p50_ms,
            cell.p95_ms,
            cell.p99_ms,
            cell.refused,
            cell.errors - cell.refused,
            100.0 * (1.0 - forward.as_secs_f64() / process.as_secs_f64()),
        );
    }
}
