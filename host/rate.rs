//! Rates: how much of something is let through, and how much may have been used.
//!
//! Pure: owns the levels of buckets and the arithmetic of waits. Refuses to know what is counted, for whom and what time
//! it is: every call brings its `now`, so that a history can be played in a test. A bucket holds tokens; they come at
//! an even rate, none beyond the burst.
//!
//! Own code and not `governor`: that one cannot change a rate while it counts, nor go below zero for what was used
//! already, and brings its own clock. The state is four numbers that change together, so a lock held for ten
//! instructions is simpler than atomics, and as quick where callers of one tenant alone meet at it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;

#[cfg(test)]
mod tests;

/// What is told of something that will never be let through, as it is more than a burst.
pub const NEVER: Duration = Duration::MAX;

/// Slower than one in 17 minutes is a prohibition, faster than any machine no limit: both are slips of the pen. Within
/// these, sums of tokens keep their fractions in a double.
const PER_SECOND: std::ops::RangeInclusive<f64> = 0.001..=1e9;
/// The least burst lets one through; see above for the most.
const BURST: std::ops::RangeInclusive<f64> = 1.0..=1e9;
/// The CPU time of one machine per second, from a thousandth of a core.
const CPUS: std::ops::RangeInclusive<f64> = 0.001..=10_000.0;
/// Hoarded CPU time, from what one quick invocation takes to a day.
const BURST_S: std::ops::RangeInclusive<f64> = 0.001..=86_400.0;
/// What is added to a wait, so that clocks that count nanoseconds do not end it too early.
const MARGIN_S: f64 = 1e-6;

/// How many per second, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many come back each second.
    pub per_second: f64,
    /// How many may go at once after a pause; a second's worth where it is not said.
    pub burst: Option<f64>,
}

impl Rate {
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        within("per_second", self.per_second, PER_SECOND)?;
        within("burst", self.burst(), BURST)
    }

    fn burst(&self) -> f64 {
        self.burst.unwrap_or(self.per_second.max(*BURST.start()))
    }

    /// Whoever did not ask `validate` gets the nearest rate that there is.
    fn filling(&self) -> Filling {
        Filling { per_second: clamped(self.per_second, PER_SECOND), burst: clamped(self.burst(), BURST) }
    }
}

/// How much CPU time may be used.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Seconds of CPU time for each second: 1.5 is one and a half cores.
    pub cpus: f64,
    /// Seconds of CPU time that may be used at once after a pause.
    pub burst_s: f64,
}

impl Allowance {
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        within("cpus", self.cpus, CPUS)?;
        within("burst_s", self.burst_s, BURST_S)
    }

    fn filling(&self) -> Filling {
        Filling { per_second: clamped(self.cpus, CPUS), burst: clamped(self.burst_s, BURST_S) }
    }
}

fn within(key: &str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{key} must be {} to {}, not {value}", range.start(), range.end()))
}

/// What is no number lets least through.
fn clamped(value: f64, range: std::ops::RangeInclusive<f64>) -> f64 {
    value.max(*range.start()).min(*range.end())
}

#[derive(Clone, Copy, Debug)]
struct Filling {
    per_second: f64,
    burst: f64,
}

/// What both kinds of bucket share.
#[derive(Debug)]
struct Level {
    tokens: f64,
    /// When there were so many.
    at: Instant,
    filling: Filling,
}

impl Level {
    fn full(filling: Filling, now: Instant) -> Self {
        Self { tokens: filling.burst, at: now, filling }
    }

    /// How many there are. A `now` from before, which threads bring each other, adds none.
    fn tokens(&self, now: Instant) -> f64 {
        let came = now.saturating_duration_since(self.at).as_secs_f64() * self.filling.per_second;
        (self.tokens + came).min(self.filling.burst)
    }

    fn change(&mut self, now: Instant, tokens: f64) {
        (self.tokens, self.at) = (tokens, self.at.max(now));
    }

    /// How long until there are so many.
    fn wait(&self, now: Instant, wanted: f64) -> Duration {
        let missing = wanted - self.tokens(now);
        // The sums above are off by the last digits of a burst at most.
        let inexact = self.filling.burst.max(missing) * 4.0 * f64::EPSILON;
        let seconds = (missing + inexact) / self.filling.per_second + MARGIN_S;
        let late = self.at.saturating_duration_since(now);
        Duration::try_from_secs_f64(seconds).map_or(NEVER, |wait| wait.saturating_add(late))
    }

    /// What is there stays there, what was used stays used; from now on it fills as it is told.
    fn set(&mut self, now: Instant, filling: Filling) {
        self.change(now, self.tokens(now));
        self.filling = filling;
    }
}

fn lock(level: &Mutex<Level>) -> MutexGuard<'_, Level> {
    level.lock().unwrap_or_else(PoisonError::into_inner) // four numbers, each valid whatever happened
}

/// Lets so many through and no more.
#[derive(Debug)]
pub struct Bucket(Mutex<Level>);

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self(Mutex::new(Level::full(rate.filling(), now)))
    }

    /// Takes so many or none. If none: how long until there will be enough, if nobody else takes them; [`NEVER`] for
    /// more than a burst.
    pub fn take(&self, now: Instant, amount: u64) -> Result<(), Duration> {
        let (mut level, amount) = (lock(&self.0), amount as f64);
        let left = level.tokens(now) - amount;
        if left >= 0.0 {
            level.change(now, left);
            return Ok(());
        }
        // The level stays as it was: callers who ask all the time would round its small additions away.
        Err(if amount > level.filling.burst { NEVER } else { level.wait(now, amount) })
    }

    /// Puts back what was taken for something that did not come to pass.
    pub fn give_back(&self, amount: u64) {
        let mut level = lock(&self.0);
        level.tokens = (level.tokens + amount as f64).min(level.filling.burst);
    }

    /// Another rate from now on.
    pub fn set(&self, now: Instant, rate: Rate) {
        lock(&self.0).set(now, rate.filling());
    }
}

/// CPU time, which is known only after it was used.
#[derive(Debug)]
pub struct Budget(Mutex<Level>);

impl Budget {
    /// A full one.
    pub fn new(allowance: Allowance, now: Instant) -> Self {
        Self(Mutex::new(Level::full(allowance.filling(), now)))
    }

    /// Notes what was used, be there so much or not.
    pub fn spend(&self, now: Instant, used: Duration) {
        let mut level = lock(&self.0);
        let left = level.tokens(now) - used.as_secs_f64();
        level.change(now, left);
    }

    /// Whether more may be begun. If more was used than there was: how long until that is made up for, if nothing else
    /// is used meanwhile.
    pub fn check(&self, now: Instant) -> Result<(), Duration> {
        let level = lock(&self.0);
        if level.tokens(now) >= 0.0 { Ok(()) } else { Err(level.wait(now, 0.0)) }
    }

    /// Another allowance from now on.
    pub fn set(&self, now: Instant, allowance: Allowance) {
        lock(&self.0).set(now, allowance.filling());
    }
}
