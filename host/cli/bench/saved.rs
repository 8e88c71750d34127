//! The shape in which results are saved: stable, so that runs of different ages can be compared. README.md describes it.
//!
//! It turns counts into figures and is read back by `compare`; it decides nothing about them. Fields are only added;
//! what would change a meaning raises [`FORMAT`].

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::flags::Load;
use super::run::Driven;
use super::tally::Tally;

/// A cell while it is measured: one sum of its turns, and of each turn no more than is saved, because histograms are
/// large and a matrix may have many turns.
pub(super) struct Sum {
    load: Load,
    seconds: f64,
    /// None before the first turn.
    tally: Option<Tally>,
    turns: Vec<Repetition>,
}

/// What the document calls itself.
pub(super) const FORMAT: &str = "tenon-bench/1";
const NS_PER_MS: f64 = 1e6;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) format: String,
    /// The version of this program.
    pub(super) tenon: String,
    /// When it began, UTC.
    pub(super) when: String,
    pub(super) target: SavedTarget,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    /// The user ended it early.
    pub(super) interrupted: bool,
    pub(super) cells: Vec<SavedCell>,
}

/// What was driven.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedTarget {
    pub(super) url: String,
    pub(super) method: String,
    /// `1.1` or `2`.
    pub(super) http: String,
    /// `none`, `data`, `file`, `form` or `jsonl`.
    pub(super) body: String,
    pub(super) bodies: u64,
    /// Of all bodies together.
    pub(super) body_bytes: u64,
}

/// Where the bench itself ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) os: String,
    pub(super) arch: String,
    pub(super) cpu: String,
    pub(super) cores: u64,
    pub(super) memory_bytes: u64,
    /// Load of the last minute when the run began: what else the machine did.
    pub(super) load: Option<f64>,
}

/// How it was driven.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub(super) kind: String,
    pub(super) duration_s: Option<f64>,
    pub(super) requests: Option<u64>,
    pub(super) warm_up_s: f64,
    pub(super) timeout_s: f64,
    pub(super) max_in_flight: Option<u32>,
    pub(super) honour_retry_after: bool,
    pub(super) threads: u32,
    pub(super) repeat: u32,
}

/// A cell of the matrix; figures of all its turns together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedCell {
    pub(super) clients: Option<u32>,
    pub(super) rate: Option<f64>,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    /// Good answers within the time.
    pub(super) requests_per_second: f64,
    /// Of good answers, and of requests that waited in vain; none when there were none.
    pub(super) latency_ms: Option<Latency>,
    pub(super) error_latency_ms: Option<Latency>,
    /// Open loop: how late requests began for which a connection was free.
    pub(super) lag_ms: Option<Latency>,
    /// Open loop: requests that had to wait for a connection.
    pub(super) held_back: Option<u64>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) codes: BTreeMap<String, u64>,
    /// Requests without any answer, by reason.
    pub(super) missed: BTreeMap<String, u64>,
    /// `latency_ms` whole: HdrHistogram V2, deflate, base64; nanoseconds.
    pub(super) histogram: String,
    pub(super) repetitions: Vec<Repetition>,
}

/// One turn of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Repetition {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) latency_ms: Option<Latency>,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

impl Latency {
    /// None of nothing.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / NS_PER_MS;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / NS_PER_MS,
            mean: histogram.mean() / NS_PER_MS,
        })
    }
}

impl Repetition {
    fn of(driven: &Driven) -> Self {
        let (tally, seconds) = (&driven.tally, driven.time.as_secs_f64());
        Self {
            requests: tally.requests,
            errors: tally.errors(),
            seconds,
            requests_per_second: rate(tally.good_in_time, seconds),
            latency_ms: Latency::of(&tally.latency),
        }
    }
}

impl Sum {
    /// Of no turn yet.
    pub(super) fn new(load: Load) -> Self {
        Self { load, seconds: 0.0, tally: None, turns: Vec::new() }
    }

    /// Adds a turn.
    pub(super) fn add(&mut self, turn: Driven) {
        self.seconds += turn.time.as_secs_f64();
        self.turns.push(Repetition::of(&turn));
        match &mut self.tally {
            Some(tally) => tally.add(turn.tally),
            None => self.tally = Some(turn.tally),
        }
    }

    /// The figures of a cell; none where it was never driven.
    pub(super) fn cell(self) -> Option<SavedCell> {
        let (tally, seconds) = (self.tally?, self.seconds);
        let (clients, open) = match self.load {
            Load::Closed(clients) => (Some(clients), None),
            Load::Open(rate) => (None, Some(rate)),
        };
        Some(SavedCell {
            clients,
            rate: open,
            requests: tally.requests,
            errors: tally.errors(),
            seconds,
            requests_per_second: rate(tally.good_in_time, seconds),
            latency_ms: Latency::of(&tally.latency),
            error_latency_ms: Latency::of(&tally.error_latency),
            lag_ms: Latency::of(&tally.lag),
            held_back: open.map(|_| tally.held_back),
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            connections: tally.connections,
            histogram: encode(&tally.latency),
            statuses: tally.statuses,
            codes: tally.codes,
            missed: tally.missed.into_iter().map(|(missed, n)| (missed.name().to_owned(), n)).collect(),
            repetitions: self.turns,
        })
    }
}

impl SavedCell {
    /// `50 clients` or `200/s`, as people and comparisons name it.
    pub(super) fn name(&self) -> String {
        match (self.clients, self.rate) {
            (Some(1), _) => "1 client".to_owned(),
            (Some(clients), _) => format!("{clients} clients"),
            (None, Some(rate)) => format!("{rate}/s"),
            (None, None) => "?".to_owned(),
        }
    }

    /// The whole distribution, where it can be read.
    pub(super) fn distribution(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.histogram).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
    }
}

fn rate(answers: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { answers as f64 / seconds } else { 0.0 }
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail; were it to, the figures are still there.
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_cell_keeps_its_whole_distribution() {
        let mut tally = Tally::new().unwrap();
        (1..=1000).for_each(|ms| tally.latency.saturating_record(ms * 1_000_000));
        (tally.requests, tally.good, tally.good_in_time) = (1000, 1000, 900);
        let turn = || Driven { tally: tally.clone(), time: Duration::from_secs(3), interrupted: false };
        let mut sum = Sum::new(Load::Closed(4));
        (0..2).for_each(|_| sum.add(turn()));
        let cell = sum.cell().unwrap();
        assert_eq!(cell.repetitions.iter().map(|turn| turn.requests).collect::<Vec<_>>(), [1000, 1000]);
        assert_eq!((cell.requests, cell.seconds, cell.requests_per_second), (2000, 6.0, 300.0));
        let text = serde_json::to_string(&cell).unwrap();
        let read: SavedCell = serde_json::from_str(&text).unwrap();
        let distribution = read.distribution().unwrap();
        assert_eq!(distribution.len(), 2000);
        let (again, latency) = (Latency::of(&distribution).unwrap(), read.latency_ms.unwrap());
        assert!((again.p99 - latency.p99).abs() < 1e-6, "{again:?} {latency:?}");
        assert!((latency.p50 - 500.0).abs() < 1.0 && (latency.p999 - 999.0).abs() < 1.5, "{latency:?}");
    }
}
