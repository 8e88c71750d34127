//! When Redis is left alone, and when it is tried again.
//!
//! Pure: owns the count of failures and the rest after them. Refuses to know what a failure is, what a probe does and
//! what time it is: every call brings its `now`. It begins at rest and due for a probe, as nothing is proved yet.
//!
//! Only the probe closes it. A caller never is the guinea pig: whoever asks while it is open is told so at once. What
//! callers report counts only for the stretch of use that gave them their pass: an answer that comes late from before
//! a rest says nothing about now.

use std::time::{Duration, Instant};

/// What it takes to open it, and how long it stays so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) rest: Duration,
}

/// The right to ask, for as long as the stretch of use lasts in which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In use, since then, with so many failures since the last success.
    Closed { since: Instant, failures: u32 },
    /// Not in use until a probe, which is due then.
    Resting { until: Instant },
    /// Not in use, and a probe is on its way.
    Probing,
}

#[derive(Debug)]
pub(super) struct Breaker {
    limits: Limits,
    state: State,
    /// How often it was closed: the stretch of use that passes are for.
    stretch: u64,
}

impl Breaker {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, state: State::Resting { until: now }, stretch: 0 }
    }

    /// The right to ask, while it is closed.
    pub(super) fn pass(&self) -> Option<Pass> {
        matches!(self.state, State::Closed { .. }).then_some(Pass(self.stretch))
    }

    /// An answer came in time.
    pub(super) fn succeeded(&mut self, pass: Pass) {
        if let Some((_, failures)) = self.counted(pass) {
            *failures = 0;
        }
    }

    /// None came, or none in time. Says whether that opened it.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant) -> bool {
        let limit = self.limits.failures;
        let Some((_, failures)) = self.counted(pass) else { return false };
        *failures += 1;
        *failures >= limit && self.rest(now)
    }

    /// An answer that says that more of the same is of no use for now. Says whether that opened it.
    pub(super) fn refused(&mut self, pass: Pass, now: Instant) -> bool {
        self.counted(pass).is_some() && self.rest(now)
    }

    /// The connection is gone. After a good while of use a probe is due at once; after a short one it rests, so that
    /// something that accepts connections and drops them is not asked without end. Says whether that opened it.
    pub(super) fn broke(&mut self, pass: Pass, now: Instant) -> bool {
        let Some((since, _)) = self.counted(pass) else { return false };
        if now.saturating_duration_since(since) < self.limits.rest {
            return self.rest(now);
        }
        self.state = State::Resting { until: now };
        true
    }

    /// When the next probe is due, if one is to come.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Closed { .. } | State::Probing => None,
        }
    }

    /// Whether a probe may begin now; if so, it has.
    pub(super) fn begin_probe(&mut self, now: Instant) -> bool {
        let due = self.probe_at().is_some_and(|at| at <= now);
        if due {
            self.state = State::Probing;
        }
        due
    }

    /// How the probe went.
    pub(super) fn probed(&mut self, good: bool, now: Instant) {
        if self.state != State::Probing {
            return;
        }
        if good {
            self.stretch += 1;
            self.state = State::Closed { since: now, failures: 0 };
        } else {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) -> bool {
        self.state = State::Resting { until: now + self.limits.rest };
        true
    }

    /// What the holder of the pass may change: nothing, if it is of another stretch.
    fn counted(&mut self, pass: Pass) -> Option<(Instant, &mut u32)> {
        match &mut self.state {
            State::Closed { since, failures } if pass.0 == self.stretch => Some((*since, failures)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REST: Duration = Duration::from_millis(500);
    const MS: Duration = Duration::from_millis(1);

    fn closed(failures: u32) -> (Breaker, Pass, Instant) {
        let now = Instant::now();
        let mut breaker = Breaker::new(Limits { failures, rest: REST }, now);
        assert_eq!((breaker.pass(), breaker.probe_at()), (None, Some(now)), "nothing is proved yet");
        assert!(breaker.begin_probe(now));
        breaker.probed(true, now);
        let pass = breaker.pass().unwrap();
        (breaker, pass, now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_among_them_does_not() {
        let (mut breaker, pass, now) = closed(3);
        for _ in 0..4 {
            assert!(!breaker.failed(pass, now) && !breaker.failed(pass, now));
            breaker.succeeded(pass);
        }
        assert!(!breaker.failed(pass, now) && !breaker.failed(pass, now) && breaker.failed(pass, now));
        assert_eq!((breaker.pass(), breaker.probe_at()), (None, Some(now + REST)));
    }

    #[test]
    fn after_the_rest_one_probe_decides() {
        let (mut breaker, pass, now) = closed(1);
        assert!(breaker.failed(pass, now));
        assert!(!breaker.begin_probe(now + REST - MS), "it rests");
        assert!(breaker.begin_probe(now + REST));
        assert!(!breaker.begin_probe(now + REST), "one at a time");
        assert_eq!(breaker.pass(), None, "no caller is let through meanwhile");
        breaker.probed(false, now + REST);
        assert_eq!(breaker.probe_at(), Some(now + REST + REST), "the rest begins anew");
        assert!(breaker.begin_probe(now + REST + REST));
        breaker.probed(true, now + REST + REST);
        assert!(breaker.pass().is_some());
    }

    #[test]
    fn what_comes_late_from_before_a_rest_does_not_count() {
        let (mut breaker, old, now) = closed(2);
        assert!(breaker.refused(old, now), "one such answer is enough");
        breaker.succeeded(old);
        assert_eq!(breaker.pass(), None, "no late success closes it");
        let later = now + REST;
        assert!(breaker.begin_probe(later));
        breaker.probed(true, later);
        let new = breaker.pass().unwrap();
        assert!(!breaker.failed(new, later));
        assert!(!breaker.failed(old, later) && !breaker.broke(old, later) && !breaker.refused(old, later));
        assert_eq!(breaker.pass(), Some(new));
        breaker.succeeded(old);
        assert!(breaker.failed(new, later), "nor does it make good for what failed since");
    }

    #[test]
    fn a_lost_connection_is_made_again_at_once_unless_it_was_short_lived() {
        let (mut breaker, pass, now) = closed(5);
        assert!(breaker.broke(pass, now + REST));
        assert_eq!(breaker.probe_at(), Some(now + REST));
        let (mut breaker, pass, now) = closed(5);
        assert!(breaker.broke(pass, now + REST - MS));
        assert_eq!(breaker.probe_at(), Some(now + REST - MS + REST));
    }

    proptest! {
        /// Whatever happens in whatever order: it is open, or closed, or a probe is due or on its way, and after enough
        /// failures in a row it never is closed.
        #[test]
        fn it_never_gets_stuck(limit in 1..6_u32, events in proptest::collection::vec((0..7_u8, 0..700_u64), 1..200)) {
            let (mut breaker, mut pass, mut now) = closed(limit);
            let mut row = 0;
            for (event, ms) in events {
                now += Duration::from_millis(ms);
                match event {
                    0 => { breaker.succeeded(pass); row = 0 }
                    1 | 2 => { breaker.failed(pass, now); row += 1 }
                    3 => { breaker.refused(pass, now); }
                    4 => { breaker.broke(pass, now); }
                    5 => { breaker.begin_probe(now); }
                    _ => breaker.probed(ms % 2 == 0, now),
                }
                match breaker.pass() {
                    Some(new) if new != pass => (pass, row) = (new, 0),
                    Some(_) => prop_assert!(row < limit),
                    None => prop_assert!(breaker.state == State::Probing || breaker.probe_at().is_some()),
                }
                prop_assert!(breaker.probe_at().is_none_or(|at| at <= now + REST));
            }
        }
    }
}
