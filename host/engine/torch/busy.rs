//! For how long a GPU had batches of this host: from where the first copy of one begins on its stream to where the last ends,
//! moments that streams share counted once.
//!
//! Owns that sum, of times that the device itself takes. Refuses to fail: a figure is no reason to lose a batch. It says what
//! `utilization` of a driver does not: whether it waits for this host, and it is exact over any time.

use std::sync::{Mutex, PoisonError};

use super::device::{Event, Stream};
use crate::engine::BackendError;

/// Times are told in 32 bits of milliseconds: after so long, from a newer beginning, to stay exact to some microseconds.
const BEGIN_ANEW_SECONDS: f64 = 60.0;
/// Periods that are still open to others that overlap them: more than lanes on a device, of which each has one.
const OPEN: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// From where times are told, and how long that is after the first.
    beginning: Option<(Event, f64)>,
    periods: Periods,
}

impl Busy {
    /// Counts a batch that lay between these; what its stream was given is done.
    pub(super) fn note(&self, begin: &Event, end: &Event, stream: Stream) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = state.note(begin, end, stream) {
            tracing::debug!(%error, "a batch is not in the time that its device was busy");
        }
    }

    /// All of it so far.
    pub(super) fn seconds(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).periods.seconds()
    }
}

impl State {
    fn note(&mut self, begin: &Event, end: &Event, stream: Stream) -> Result<(), BackendError> {
        let (beginning, at) = match self.beginning.take() {
            Some(known) => known,
            // The first, or after one that could not be asked any more: behind all that was counted.
            None => (marked(stream)?, self.periods.open.last().map_or(0.0, |period| period.1)),
        };
        let period = (at + beginning.seconds_to(begin)?, at + beginning.seconds_to(end)?);
        self.periods.add(period);
        self.beginning = Some(if period.1 - at > BEGIN_ANEW_SECONDS {
            let newer = marked(stream)?;
            let later = beginning.seconds_to(&newer)?;
            (newer, at + later)
        } else {
            (beginning, at)
        });
        Ok(())
    }
}

/// Now, on a stream that has nothing to do.
fn marked(stream: Stream) -> Result<Event, BackendError> {
    let event = Event::new()?;
    event.record(stream)?;
    event.wait()?;
    Ok(event)
}

/// Periods that may overlap, and come nearly in order.
#[derive(Debug, Default)]
struct Periods {
    settled: f64,
    /// Ascending, and none overlaps another.
    open: Vec<(f64, f64)>,
}

impl Periods {
    fn add(&mut self, (begin, end): (f64, f64)) {
        if end <= begin {
            return;
        }
        let first = self.open.partition_point(|period| period.1 < begin);
        let after = self.open.partition_point(|period| period.0 <= end);
        let overlapped = &self.open[first..after.max(first)];
        let begin = overlapped.first().map_or(begin, |period| period.0.min(begin));
        let end = overlapped.last().map_or(end, |period| period.1.max(end));
        self.open.splice(first..after.max(first), [(begin, end)]);
        if self.open.len() > OPEN {
            let (begin, end) = self.open.remove(0);
            self.settled += end - begin;
        }
    }

    fn seconds(&self) -> f64 {
        self.settled + self.open.iter().map(|(begin, end)| end - begin).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_counted_once() {
        let mut periods = Periods::default();
        let mut sum = |begin, end| {
            periods.add((begin, end));
            periods.seconds()
        };
        assert_eq!(sum(1.0, 2.0), 1.0);
        assert_eq!(sum(4.0, 6.0), 3.0);
        assert_eq!(sum(5.0, 7.0), 4.0);
        assert_eq!(sum(1.5, 1.75), 4.0, "within another");
        assert_eq!(sum(1.5, 4.5), 6.0, "closes the gap");
        assert_eq!(sum(8.0, 8.0), 6.0);
        assert_eq!(sum(-1.0, 0.0), 7.0, "one that comes late");
        assert_eq!(sum(-2.0, 9.0), 11.0, "around all");
    }

    #[test]
    fn only_so_many_stay_open_and_none_is_lost() {
        let mut periods = Periods::default();
        (0..1000).for_each(|at| periods.add((f64::from(at), f64::from(at) + 0.5)));
        assert_eq!((periods.seconds(), periods.open.len()), (500.0, OPEN));
    }
}
