//! How requests lately went: percentiles, rates and shares of errors over the last minute, for `/health`.
//!
//! Owns the sliding window: counting only ever adds to totals, and the difference to a snapshot from a minute ago is what
//! lately was, so a request pays one atomic addition. Refuses to know who asks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use histogram::{AtomicHistogram32, Histogram32};
use serde::Serialize;
use tokio::sync::watch;

use super::{handles::OUTCOMES, metrics::Telemetry};

/// How often a snapshot is taken, and how many are kept: together the window.
const SLOT: Duration = Duration::from_secs(10);
const SLOTS: usize = 6;
/// Functions with figures of their own; later ones share some.
const MAX_FUNCTIONS: usize = 1024;
/// Microseconds with an error of 1/16, up to 18 minutes: 1.7 KiB for each snapshot of a function.
const GROUPING_POWER: u8 = 4;
const MAX_VALUE_POWER: u8 = 30;

/// Durations and outcomes of one function since the host began.
#[derive(Debug)]
pub(super) struct Totals {
    durations: AtomicHistogram32,
    /// By outcome. What went well is what is left of all, so that it costs nothing to count.
    outcomes: [AtomicU64; OUTCOMES.len()],
}

impl Default for Totals {
    fn default() -> Self {
        let durations = AtomicHistogram32::new(GROUPING_POWER, MAX_VALUE_POWER);
        let durations = durations.expect("the powers are constants of this file that fit");
        Self { durations, outcomes: Default::default() }
    }
}

impl Totals {
    /// Counts a request that ended so (an index into [`OUTCOMES`], 0 for well) after so long.
    pub(super) fn count(&self, outcome: usize, duration: Duration) {
        let most = (1 << MAX_VALUE_POWER) - 1;
        // Every value up to `most` has a bucket.
        let _ = self.durations.increment((duration.as_micros() as u64).min(most));
        if outcome > 0 {
            self.outcomes[outcome].fetch_add(1, Relaxed);
        }
    }

    fn read(&self) -> Read {
        Read { durations: self.durations.load(), outcomes: self.outcomes.each_ref().map(|count| count.load(Relaxed)) }
    }
}

/// Totals at one moment, or the difference of two.
#[derive(Clone, Debug)]
struct Read {
    durations: Histogram32,
    outcomes: [u64; OUTCOMES.len()],
}

impl Read {
    fn since(&self, before: &Self) -> Self {
        // All have the same shape; totals beyond 32 bits wrap, and so does the difference.
        let durations = self.durations.wrapping_sub(&before.durations).unwrap_or_else(|_| self.durations.clone());
        let outcomes = std::array::from_fn(|index| self.outcomes[index].saturating_sub(before.outcomes[index]));
        Self { durations, outcomes }
    }

    fn add(self, other: &Self) -> Self {
        let durations = self.durations.wrapping_add(&other.durations).unwrap_or(self.durations);
        let outcomes = std::array::from_fn(|index| self.outcomes[index] + other.outcomes[index]);
        Self { durations, outcomes }
    }

    fn requests(&self) -> u64 {
        self.durations.as_slice().iter().map(|count| u64::from(*count)).sum()
    }
}

/// Tenant and function.
type Name = (String, String);

/// The totals of all functions, and what they lately were.
#[derive(Debug)]
pub(super) struct Windows(Mutex<State>);

#[derive(Debug)]
struct State {
    functions: BTreeMap<Name, Arc<Totals>>,
    past: VecDeque<(Instant, BTreeMap<Name, Read>)>,
}

/// How the requests of a function, or of all, lately went.
#[derive(Debug, Serialize)]
struct Lately {
    requests_per_s: f64,
    /// Missing where there was no request.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Shares of the requests, by whose fault it was.
    errors: BTreeMap<&'static str, f64>,
}

/// The same of the host and of each function that had requests.
#[derive(Debug, Serialize)]
pub struct Latest {
    window_s: f64,
    #[serde(flatten)]
    all: Lately,
    functions: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    tenant: String,
    function: String,
    #[serde(flatten)]
    lately: Lately,
}

impl Windows {
    pub(super) fn new() -> Self {
        let past = VecDeque::from([(Instant::now(), BTreeMap::new())]);
        Self(Mutex::new(State { functions: BTreeMap::new(), past }))
    }

    /// The totals of a function.
    pub(super) fn function(&self, tenant: &str, function: &str) -> Arc<Totals> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = (tenant.to_owned(), function.to_owned());
        if state.functions.len() >= MAX_FUNCTIONS && !state.functions.contains_key(&name) {
            name = ("other".into(), "other".into());
        }
        state.functions.entry(name).or_default().clone()
    }

    /// Takes a snapshot and forgets what is older than the window.
    fn tick(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = state.functions.iter().map(|(name, totals)| (name.clone(), totals.read())).collect();
        state.past.push_back((now, read));
        while state.past.len() > SLOTS {
            state.past.pop_front();
        }
    }

    /// What lately was.
    pub(super) fn latest(&self, now: Instant) -> Latest {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = state.past.front().expect("there is one from the beginning, and the newest is kept");
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        let lately = |(name, totals): (&Name, &Arc<Totals>)| {
            let read = totals.read();
            let read = before.get(name).map_or_else(|| read.clone(), |before| read.since(before));
            (name.clone(), read)
        };
        let reads: Vec<_> = state.functions.iter().map(lately).collect();
        drop(state);
        let nothing = Read { durations: empty(), outcomes: [0; OUTCOMES.len()] };
        let all = reads.iter().fold(nothing, |all, (_, read)| all.add(read));
        let had_requests = reads.iter().filter(|(_, read)| read.requests() > 0);
        let named = had_requests.map(|((tenant, function), read)| Named {
            tenant: tenant.clone(),
            function: function.clone(),
            lately: tell(read, seconds),
        });
        Latest { window_s: (seconds * 10.0).round() / 10.0, all: tell(&all, seconds), functions: named.collect() }
    }
}

fn empty() -> Histogram32 {
    Histogram32::new(GROUPING_POWER, MAX_VALUE_POWER).expect("the powers are constants of this file that fit")
}

fn tell(read: &Read, seconds: f64) -> Lately {
    let percentile = |quantile: f64| {
        let bucket = read.durations.quantile_bucket(quantile).ok().flatten();
        // The upper end: nothing is told faster than it was.
        bucket.map(|bucket| bucket.end() as f64 / 1000.0)
    };
    let requests = read.requests();
    let share = |count: u64| if requests == 0 { 0.0 } else { count as f64 / requests as f64 };
    // A caller that left is nobody's fault and no error.
    let faults = OUTCOMES.into_iter().zip(read.outcomes).filter(|(outcome, _)| !["ok", "detached"].contains(outcome));
    Lately {
        requests_per_s: if seconds > 0.0 { (requests as f64 / seconds * 1000.0).round() / 1000.0 } else { 0.0 },
        p50_ms: percentile(0.5),
        p95_ms: percentile(0.95),
        p99_ms: percentile(0.99),
        errors: faults.map(|(outcome, count)| (outcome, share(count))).collect(),
    }
}

/// Takes snapshots until the host stops.
pub async fn follow(telemetry: Arc<Telemetry>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SLOT) => telemetry.windows.tick(Instant::now()),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(windows: &Windows, now: Instant) -> serde_json::Value {
        serde_json::to_value(windows.latest(now)).unwrap()
    }

    #[test]
    fn the_last_minute_is_told_and_what_was_before_is_not() {
        let windows = Windows::new();
        let begun = windows.0.lock().unwrap().past[0].0;
        let totals = windows.function("test", "a");
        let quiet = json(&windows, begun + SLOT);
        assert_eq!((&quiet["p50_ms"], &quiet["requests_per_s"]), (&serde_json::Value::Null, &0.0.into()));
        for milliseconds in 1..=100 {
            totals.count(usize::from(milliseconds > 90), Duration::from_millis(milliseconds));
        }
        let busy = json(&windows, begun + SLOT);
        let near = |name: &str, expected: f64| {
            let told = busy[name].as_f64().unwrap();
            assert!((expected..=expected * 1.07).contains(&told), "{name}: {told}, not {expected}");
        };
        near("p50_ms", 50.0);
        near("p95_ms", 95.0);
        near("p99_ms", 99.0);
        assert_eq!((&busy["requests_per_s"], &busy["errors"]["caller"]), (&10.0.into(), &0.1.into()));
        assert_eq!(busy["functions"][0]["function"], "a");
        for slot in 1..=SLOTS as u32 {
            windows.tick(begun + SLOT * slot);
        }
        totals.count(0, Duration::from_millis(1));
        let later = json(&windows, begun + SLOT * 7);
        assert_eq!((&later["window_s"], &later["errors"]["caller"]), (&60.0.into(), &0.0.into()));
        assert!(later["p99_ms"].as_f64().unwrap() < 1.1, "{later}");
    }

    #[test]
    fn functions_beyond_the_limit_share_figures() {
        let windows = Windows::new();
        let first = windows.function("t", "0");
        for number in 1..MAX_FUNCTIONS {
            windows.function("t", &number.to_string());
        }
        let (one, other) = (windows.function("t", "x"), windows.function("t", "y"));
        assert!(Arc::ptr_eq(&one, &other) && Arc::ptr_eq(&first, &windows.function("t", "0")));
        // A request longer than any bucket still counts.
        one.count(0, Duration::from_secs(1 << 40));
        assert!(one.read().durations.quantile_bucket(1.0).unwrap().is_some());
    }
}
