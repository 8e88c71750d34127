//! From the start of `tenon-host` to its first answer: the demo's function and model, files in the page cache, the model's
//! profile stored by an earlier start.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    TURNS, made, median,
    place::Place,
    process::{end, free_address, host, pause},
    wire::{self, Client},
};

/// The first start measures the model.
const PATIENCE: Duration = Duration::from_secs(300);

/// Milliseconds until the reranker's first answer.
pub(crate) fn measure() {
    let place = Place::empty().with_demo(&[]);
    let question = std::fs::read(made("tests/bench/bodies/question.json")).expect("it can be read");
    let question = wire::post("/v1/functions/demo/reranker", &question);
    let first = start(&place, &question);
    let mut times: Vec<_> = (0..TURNS).map(|_| start(&place, &question)).collect();
    times.sort_by(f64::total_cmp);
    println!(
        "start to the reranker's first answer, profile stored: {:.0} ms ({:.0} to {:.0} in {TURNS} starts; the start \
         before them {first:.0} ms)",
        median(times.iter().copied()),
        times[0],
        times[TURNS - 1]
    );
}

fn start(place: &Place, question: &[u8]) -> f64 {
    let (data, control) = (free_address(), free_address());
    let mut command = Command::new(host());
    command.args(place.flags()).args(["--listen", &data.to_string(), "--control-listen", &control.to_string()]);
    command.env("TENON_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().expect("`tenon-host` is built");
    let answered = std::panic::catch_unwind(|| {
        knock(data, start);
        Client::connect(data).ask(question);
        start.elapsed()
    });
    end(&mut child);
    answered.expect("the host answers").as_secs_f64() * 1e3
}

fn knock(address: SocketAddr, start: Instant) {
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "the host did not listen within {PATIENCE:?}");
        pause();
    }
}
