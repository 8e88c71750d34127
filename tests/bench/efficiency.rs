//! How much of what a model can do at all its callers get: 32 clients over HTTP against the same model in a bare loop with
//! its best batch, one lane against one thread on the same core, everything else on the other core, taking turns. Both
//! count elements that are not padding. Beside it, how much padding the batches had.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    apart::Apart,
    bare::{Bare, Row},
    cores::{self, LANE, REST},
    made, median,
    place::{PATIENT, Place},
    stamp,
    watched::{Ran, Seen, pace},
    wire::{self, Client},
};

/// Callers in a closed loop, one row each.
const CLIENTS: usize = 32;
/// Groups of as many rows, after which a case begins anew.
const GROUPS: usize = 4;
/// Turns that each side takes; the median of the ratios is told.
const TURNS: usize = 3;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(6);
/// Before batches count.
const WARM_UP: Duration = Duration::from_secs(2);
/// Share of the bare loop that is wanted.
const GOAL: f64 = 0.95;
/// Padded elements for each real one, where lengths differ.
const PADDING_GOAL: f64 = 1.25;
/// Tokens of a short text.
const TOKENS: usize = 64;
/// Where lengths differ: from, and in so many steps up to 512.
const SHORTEST: usize = 16;
const STEP: usize = 16;
/// Of the order of lengths.
const SEED: u64 = 4;
/// What a tokenizer puts around a text.
const AROUND: usize = 2;
/// Words that are one token each.
const WORDS: [&str; 6] = ["time", "people", "water", "house", "music", "river"];
const TENANT: &str = "bench";

/// One kind of rows.
struct Case {
    name: &'static str,
    unit: &'static str,
    model: &'static str,
    rows: Vec<Row>,
    requests: Vec<Vec<u8>>,
}

/// Prints the ratio for each case.
pub(crate) fn measure() {
    let place = Place::empty().with_model("models/minilm", &PATIENT).with_model(".tenon/test-models/conv", &[]);
    place.function("test", "embed", &made(".tenon/test-functions/test/embed"));
    stamp::deploy(&place, TENANT, stamp::CONV, &stamp::component(0));
    let host = Apart::start(&place, REST, Seen::on(LANE));
    for case in [
        texts("MiniLM, 64 tokens", vec![TOKENS; CLIENTS * GROUPS]),
        texts("MiniLM, 16 to 512 tokens", uniform()),
        pictures(),
    ] {
        case.compare(&host);
    }
    host.end();
}

impl Case {
    fn compare(&self, host: &Apart) {
        cores::on(REST, || self.check(host));
        let file = made(self.model);
        let (turns, best) = cores::on(LANE, || {
            let bare = Bare::new(&file, &self.rows, CLIENTS);
            let best = bare.best();
            let turn = |_| (bare.pace(best, TURN), cores::on(REST, || self.serve(host)));
            ((0..TURNS).map(turn).collect::<Vec<_>>(), best)
        });
        let ratio = median(turns.iter().map(|(bare, ran)| pace(ran) / bare));
        let (bare, served) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| pace(&turn.1))));
        let ran: Vec<_> = turns.iter().flat_map(|turn| &turn.1).collect();
        let sum = |what: fn(&Ran) -> usize| ran.iter().map(|ran| what(ran)).sum::<usize>() as f64;
        let (batch, padding) = (sum(|ran| ran.rows) / ran.len() as f64, sum(|ran| ran.padded) / sum(|ran| ran.real));
        println!(
            "{}, {CLIENTS} clients against a bare loop: {ratio:.2}x ({} {GOAL}x; {served:.1} {}/s against {bare:.1}/s in \
             batches of {}{}); mean batch {batch:.1}, padded to real {padding:.2} ({} {PADDING_GOAL})",
            self.name,
            if ratio >= GOAL { "at least" } else { "UNDER" },
            self.unit,
            best.size,
            if best.sorted { ", sorted" } else { "" },
            if padding <= PADDING_GOAL { "within" } else { "OVER" },
        );
    }

    /// Batches under load, once it is steady.
    fn serve(&self, host: &Apart) -> Vec<Ran> {
        wire::under_load(host.address(), &self.requests, CLIENTS, || {
            wire::rest(WARM_UP);
            let start = Instant::now();
            wire::rest(TURN);
            host.seen.between(start, Instant::now())
        })
    }

    /// Whether texts have as many tokens as the bare loop gives them.
    fn check(&self, host: &Apart) {
        let mut client = Client::connect(host.address());
        for (row, request) in self.rows.iter().zip(&self.requests).take(CLIENTS) {
            let answer = client.ask(request);
            let Row::Ids(length) = row else { continue };
            let answer: Value = serde_json::from_slice(answer).expect("it answers with JSON");
            let tokens = answer["ids"][0].as_array().map_or(0, Vec::len);
            assert_eq!(tokens, *length, "the tokenizer makes another number of tokens of a text");
        }
    }
}

fn texts(name: &'static str, lengths: Vec<usize>) -> Case {
    let text = |length: usize| -> Vec<u8> {
        let words: Vec<_> = WORDS.into_iter().cycle().take(length - AROUND).collect();
        words.join(" ").into_bytes()
    };
    let request = |length: &usize| wire::post("/v1/functions/test/embed", &text(*length));
    let requests = lengths.iter().map(request).collect();
    let rows = lengths.into_iter().map(Row::Ids).collect();
    Case { name, unit: "tokens", model: "models/minilm/1/model.pt", rows, requests }
}

/// Each group of rows has every step once, in an order of its own: no turn has longer texts than another.
fn uniform() -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let group = |_| {
        let mut lengths: Vec<_> = (0..CLIENTS).map(|step| SHORTEST + step * STEP).collect();
        random.shuffle(&mut lengths);
        lengths
    };
    (0..GROUPS).flat_map(group).collect()
}

fn pictures() -> Case {
    let value = 0.5_f32.to_le_bytes();
    let picture: Vec<u8> = value.into_iter().cycle().take(3 * 64 * 64 * value.len()).collect();
    let requests = vec![wire::post(&stamp::path(TENANT, "picture"), &picture)];
    let rows = vec![Row::Picture; CLIENTS];
    Case { name: "conv net", unit: "rows", model: ".tenon/test-models/conv/1/model.pt", rows, requests }
}
