//! What is counted while a server is driven, in memory that does not grow with time: histograms, and tables of a bounded
//! number of names.
//!
//! Latencies of good answers, and the waits of requests that never got one (a timeout is a wait of at least that long),
//! are one histogram; refusals and other errors that came as answers are another, because a quick refusal must not make
//! a slow server look fast.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::wire::{Answered, Missed};
use crate::failure::{Exit, Failure};

/// Different codes of errors that are counted by name; more fold into [`OTHER`].
const CODES_MAX: usize = 64;
const OTHER: &str = "other";
/// Three digits are right in every percentile.
const DIGITS: u8 = 3;
/// The longest latency that is told apart, an hour, in nanoseconds.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Everything counted by one thread, or by all of them together.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Nanoseconds of good answers, and of waits that ended without any.
    pub(super) latency: Histogram<u64>,
    /// Nanoseconds of answers that were errors, and of connections that failed.
    pub(super) error_latency: Histogram<u64>,
    /// Open loop: nanoseconds between the instant of the schedule and the start, where a connection was free.
    pub(super) lag: Histogram<u64>,
    /// Requests that count, however they ended.
    pub(super) requests: u64,
    /// Those with a good answer.
    pub(super) good: u64,
    /// Good answers that came before the measurement's end.
    pub(super) good_in_time: u64,
    /// Open loop: requests that had to wait for a free connection.
    pub(super) held_back: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) codes: BTreeMap<String, u64>,
    pub(super) missed: BTreeMap<Missed, u64>,
    /// When the last one ended.
    pub(super) last: Option<Instant>,
}

/// One request, as it is counted.
pub(super) struct Ended {
    pub(super) result: Result<Answered, Missed>,
    /// When it began, or was to begin.
    pub(super) from: Instant,
    /// When it ended.
    pub(super) to: Instant,
    /// Bytes of the request's body.
    pub(super) bytes_out: u64,
    /// Whether the measurement still ran when it ended.
    pub(super) in_time: bool,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS)
                .map_err(|error| Failure::new(Exit::Tenon, format!("no histogram: {error}")))
        };
        Ok(Self {
            latency: histogram()?,
            error_latency: histogram()?,
            lag: histogram()?,
            requests: 0,
            good: 0,
            good_in_time: 0,
            held_back: 0,
            bytes_in: 0,
            bytes_out: 0,
            connections: 0,
            statuses: BTreeMap::new(),
            codes: BTreeMap::new(),
            missed: BTreeMap::new(),
            last: None,
        })
    }

    /// Counts one request; whether it had a good answer.
    pub(super) fn count(&mut self, ended: Ended) -> bool {
        self.requests += 1;
        self.bytes_out += ended.bytes_out;
        self.last = self.last.max(Some(ended.to));
        let ns = nanoseconds(ended.to.saturating_duration_since(ended.from));
        match ended.result {
            Ok(answer) => {
                self.bytes_in += answer.bytes;
                *self.statuses.entry(answer.status).or_default() += 1;
                if answer.status < 400 {
                    self.good += 1;
                    self.good_in_time += u64::from(ended.in_time);
                    self.latency.saturating_record(ns);
                    return true;
                }
                self.error_latency.saturating_record(ns);
                if let Some(code) = answer.code {
                    self.count_code(code, 1);
                }
            }
            Err(missed) => {
                *self.missed.entry(missed).or_default() += 1;
                match missed {
                    Missed::Timeout | Missed::Unfinished => self.latency.saturating_record(ns),
                    _ => self.error_latency.saturating_record(ns),
                }
            }
        }
        false
    }

    /// Counts requests that were due and never began: each waited at least this long.
    pub(super) fn count_not_started(&mut self, waited: Duration, requests: u64) {
        self.requests += requests;
        *self.missed.entry(Missed::NotStarted).or_default() += requests;
        self.latency.saturating_record_n(nanoseconds(waited), requests);
    }

    fn count_code(&mut self, code: String, requests: u64) {
        let known = self.codes.len() < CODES_MAX || self.codes.contains_key(&code);
        *self.codes.entry(if known { code } else { OTHER.to_owned() }).or_default() += requests;
    }

    /// Requests without a good answer.
    pub(super) fn errors(&self) -> u64 {
        self.requests - self.good
    }

    /// Adds what another thread, or another turn, has counted.
    pub(super) fn add(&mut self, other: Tally) {
        // All have the same bounds, so adding cannot fail.
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.error_latency, &other.error_latency),
            (&mut self.lag, &other.lag),
        ] {
            let _ = mine.add(theirs);
        }
        self.requests += other.requests;
        self.good += other.good;
        self.good_in_time += other.good_in_time;
        self.held_back += other.held_back;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connections += other.connections;
        self.last = self.last.max(other.last);
        other.statuses.into_iter().for_each(|(status, n)| *self.statuses.entry(status).or_default() += n);
        other.codes.into_iter().for_each(|(code, n)| self.count_code(code, n));
        other.missed.into_iter().for_each(|(missed, n)| *self.missed.entry(missed).or_default() += n);
    }
}

/// A duration as histograms hold it; none is longer than they tell apart.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(HIGHEST_NS).clamp(1, HIGHEST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: Result<Answered, Missed>, ms: u64) -> Ended {
        let from = Instant::now();
        Ended { result, from, to: from + Duration::from_millis(ms), bytes_out: 1, in_time: true }
    }

    fn answered(status: u16, code: Option<String>) -> Result<Answered, Missed> {
        Ok(Answered { status, bytes: 2, code, retry_after: None })
    }

    #[test]
    fn quick_refusals_do_not_hide_slow_answers() {
        let mut tally = Tally::new().unwrap();
        assert!(tally.count(ended(answered(200, None), 100)));
        for _ in 0..99 {
            assert!(!tally.count(ended(answered(429, Some("queue-full".into())), 1)));
        }
        tally.count(ended(Err(Missed::Timeout), 500));
        tally.count(ended(Err(Missed::Unfinished), 500));
        tally.count_not_started(Duration::from_secs(2), 1);
        assert_eq!((tally.requests, tally.errors(), tally.latency.len()), (103, 102, 4));
        assert!(tally.latency.min() > 99_000_000 && tally.latency.max() > 1_990_000_000);
        assert_eq!((tally.codes["queue-full"], tally.statuses[&429]), (99, 99));
    }

    #[test]
    fn a_server_cannot_fill_the_table_of_codes() {
        let mut tally = Tally::new().unwrap();
        for n in 0..1000 {
            tally.count(ended(answered(400, Some(format!("code-{n}"))), 1));
        }
        let mut sum = Tally::new().unwrap();
        sum.add(tally.clone());
        sum.add(tally);
        assert_eq!(sum.codes.len(), CODES_MAX + 1);
        assert_eq!((sum.codes.values().sum::<u64>(), sum.requests, sum.bytes_in), (2000, 2000, 4000));
    }
}
