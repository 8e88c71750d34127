//! Tenon, mosec and FastAPI with the same models, bodies and load: each server on one core, `tenon bench` on another, taking
//! turns. What the peers run is in `peers/`; `setup/peers.py` installs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    made, median,
    place::{PATIENT, Place},
    process::{Cell, Load, Pace, Server, free_address, host},
    wire::{self, Client},
};

/// Callers in a closed loop.
const CLIENTS: [usize; 4] = [1, 8, 32, 64];
/// How far scores may lie apart: other tokens would show, another order of additions does not.
const TOLERANCE: f64 = 1e-4;
/// How far the sides of boxes may lie apart, in pixels of the picture.
const PIXELS: f64 = 1.5;
/// Sixteen FP32.
const ROW_BYTES: usize = 64;
/// 64 callers with nine rows each wait for seconds: nobody is to be refused, as with the peers.
const LONG_QUEUE: (&str, &str) = ("max_queue_size = 256", "max_queue_size = 4096");
const PATIENT_DETECTOR: (&str, &str) = ("queue_timeout_ms = 5000", "queue_timeout_ms = 60000");
/// On one core, as with the peers.
const ONE_LANE: (&str, &str) = ("count = 2", "count = 1");
const MOSEC_TIMEOUT_MS: &str = "60000";

/// What is asked of all three.
struct Case {
    name: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: PathBuf,
    model: PathBuf,
    turns: usize,
    turn: Duration,
    /// Whether two servers say the same: what Tenon says, what the other does.
    agree: fn(&[u8], &[u8]) -> bool,
}

/// A table for each model; nothing where the peers are not set up.
pub(crate) fn measure() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tenon/peers/bin/python");
    if !python.exists() {
        return println!("peers: not set up; `make bench BENCH=peers` does that (2.6 GB to download)");
    }
    let place = Place::new().with_demo(&[LONG_QUEUE, PATIENT[0]]);
    let place = place.with_service("detector", &["detector"], &[LONG_QUEUE, PATIENT_DETECTOR, ONE_LANE]);
    let row = place.path("row");
    let values: Vec<u8> = (0..16_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    std::fs::write(&row, values).expect("a file can be written");
    let identity = Case {
        name: "identity",
        path: "/v1/functions/test/identity",
        content_type: "application/octet-stream",
        body: row,
        model: made(".tenon/test-models/identity/1/model.pt"),
        turns: 3,
        turn: Duration::from_secs(3),
        agree: |tenon, other| tenon == other && tenon.len() == ROW_BYTES,
    };
    let reranker = Case {
        name: "reranker",
        path: "/v1/functions/demo/reranker",
        content_type: "application/json",
        body: made("tests/bench/bodies/question.json"),
        model: made("models/minilm/1/model.pt"),
        turns: 1,
        turn: Duration::from_secs(8),
        agree: same_order,
    };
    let image = Case {
        name: "detector",
        path: "/v1/functions/demo/detector/detect",
        content_type: "image/jpeg",
        body: made(".tenon/services/samples/scene-1.jpg"),
        model: made(".tenon/services/models/detector/1/model.pt"),
        turns: 3,
        turn: Duration::from_secs(6),
        agree: same_objects,
    };
    for case in [identity, image, reranker] {
        case.compare(&place, &python);
    }
}

impl Case {
    fn compare(&self, place: &Place, python: &Path) {
        let servers = [self.tenon(place), self.peer("mosec", python), self.peer("FastAPI", python)];
        let answers = servers.each_ref().map(|server| self.ask(server));
        for (server, answer) in servers.iter().zip(&answers) {
            assert!((self.agree)(&answers[0], answer), "{} answers otherwise than Tenon", server.name);
        }
        let (name, turns, seconds) = (self.name, self.turns, self.turn.as_secs());
        println!("{name}: each server on one core, the load on another, {turns} turn(s) of {seconds} s");
        println!("  clients  server   requests/s    p50 ms    p99 ms  errors  Tenon against it");
        for clients in CLIENTS {
            let turns: Vec<_> =
                (0..self.turns).map(|_| servers.each_ref().map(|server| self.drive(server, clients))).collect();
            for (index, server) in servers.iter().enumerate() {
                let of = |what: fn(&Cell) -> f64| median(turns.iter().map(|turn| what(&turn[index])));
                let ratio =
                    median(turns.iter().map(|turn| turn[0].requests_per_second / turn[index].requests_per_second));
                println!(
                    "  {clients:>7}  {:<7}  {:>10.0}  {:>8.2}  {:>8.2}  {:>6.0}  {}",
                    server.name,
                    of(|cell| cell.requests_per_second),
                    of(|cell| cell.p50_ms),
                    of(|cell| cell.p99_ms),
                    turns.iter().map(|turn| turn[index].errors).sum::<f64>(),
                    if index == 0 { String::new() } else { format!("{ratio:.2}x") }
                );
            }
        }
    }

    fn tenon(&self, place: &Place) -> Server {
        let (data, control) = (free_address(), free_address());
        let mut command = Command::new(host());
        command.args(place.flags()).args(["--listen", &data.to_string(), "--control-listen", &control.to_string()]);
        Server::start("Tenon", data, command.env("TENON_LOG", "warn"))
    }

    fn peer(&self, name: &'static str, python: &Path) -> Server {
        let address = free_address();
        let script = made("tests/bench/peers").join(format!("serve_{}.py", name.to_lowercase()));
        let mut command = Command::new(python);
        command.arg(script).args(["--port", &address.port().to_string()]);
        if name == "mosec" {
            command.args(["--address", "127.0.0.1", "--timeout", MOSEC_TIMEOUT_MS, "--log-level", "error"]);
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("SERVE", self.name).env("MODEL", &self.model);
        command.env("TOKENIZER", self.model.with_file_name("tokenizer.json"));
        Server::start(name, address, &command)
    }

    fn path(&self, server: &Server) -> &'static str {
        if server.name == "Tenon" { self.path } else { "/inference" }
    }

    fn drive(&self, server: &Server, clients: usize) -> Cell {
        let load = Load {
            url: format!("http://{}{}", server.address, self.path(server)),
            pace: Pace::Clients(clients),
            duration: self.turn,
            body: &self.body,
            content_type: self.content_type,
            pinned: true,
        };
        let cell = load.drive();
        // What the load left behind would be worked off in the next server's turn, on the same core. Queues are served in
        // order: when this is answered, they are empty.
        self.ask(server);
        cell
    }

    fn ask(&self, server: &Server) -> Vec<u8> {
        let body = std::fs::read(&self.body).expect("it can be read");
        Client::connect(server.address).ask(&wire::post(self.path(server), &body)).to_vec()
    }
}

/// The same order with nearly the same scores.
fn same_order(tenon: &[u8], other: &[u8]) -> bool {
    let ranks = |answer: &[u8]| -> Option<Vec<(u64, f64)>> {
        let read: Value = serde_json::from_slice(answer).ok()?;
        let results = read["results"].as_array()?.iter();
        results.map(|result| Some((result["index"].as_u64()?, result["relevance_score"].as_f64()?))).collect()
    };
    let (Some(tenon), Some(other)) = (ranks(tenon), ranks(other)) else { return false };
    tenon.len() == other.len() && tenon.iter().zip(&other).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < TOLERANCE)
}

/// The same objects at nearly the same places. JPEG's decoders differ by a step of a pixel's 256 here and there.
fn same_objects(tenon: &[u8], other: &[u8]) -> bool {
    let objects = |answer: &[u8]| -> Option<Vec<(u64, Vec<f64>)>> {
        let read: Value = serde_json::from_slice(answer).ok()?;
        let found = read["detections"].as_array()?.iter();
        let mut found: Vec<_> = found
            .map(|one| {
                let places = ["x1", "y1", "x2", "y2"].map(|side| one["box"][side].as_f64());
                Some((one["class_id"].as_u64()?, places.into_iter().collect::<Option<Vec<_>>>()?))
            })
            .collect::<Option<_>>()?;
        // Two that are as sure of themselves may come either way round.
        found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1[0].total_cmp(&b.1[0])));
        Some(found)
    };
    let (Some(tenon), Some(other)) = (objects(tenon), objects(other)) else { return false };
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < PIXELS;
    let same = |(class, sides): &(u64, Vec<f64>), (other, at): &(u64, Vec<f64>)| {
        class == other && sides.iter().zip(at).all(near)
    };
    !tenon.is_empty() && tenon.len() == other.len() && tenon.iter().zip(&other).all(|(a, b)| same(a, b))
}
