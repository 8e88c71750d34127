//! Callers who are refused and heed `Retry-After`, played in virtual time: the model must not run dry because of what
//! they were told.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

/// A model, its queue, and callers in a closed loop with one row each.
struct Case {
    /// Rows per second, all lanes together.
    rate: f64,
    batch: usize,
    queue: usize,
    callers: usize,
    /// What a caller does with its answer before it asks again.
    think_ms: u64,
}

/// Microseconds of virtual time that are played.
const PLAYED_US: u64 = 60_000_000;
/// Callers are not of one mind: each comes this much later at most.
const SPREAD_US: u64 = 2_000;

/// What an answer says: whole seconds, at least one, as `http` writes it.
fn told(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).max(1) as u64 * 1_000_000
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes,
    BatchEnds(usize),
}

/// Rows served, as a share of what the model could have served.
fn play(case: &Case) -> f64 {
    let row = Duration::from_secs_f64(1.0 / case.rate);
    let mut random = 1_u64;
    let mut spread = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % SPREAD_US
    };
    let mut events: BinaryHeap<_> = (0..case.callers).map(|_| Reverse((spread(), Event::Comes))).collect();
    let (mut waiting, mut running, mut served) = (0, false, 0);
    while let Some(Reverse((now, event))) = events.pop().filter(|Reverse((now, _))| *now < PLAYED_US) {
        match event {
            Event::Comes if waiting >= case.queue => {
                events.push(Reverse((now + told(retry_after(waiting, row)) + spread(), Event::Comes)));
            }
            Event::Comes => waiting += 1,
            Event::BatchEnds(rows) => {
                (running, served) = (false, served + rows);
                let back = now + case.think_ms * 1000;
                events.extend((0..rows).map(|_| Reverse((back + spread(), Event::Comes))));
            }
        }
        if !running && waiting > 0 {
            let rows = case.batch.min(waiting);
            (waiting, running) = (waiting - rows, true);
            let time = row.as_micros() as u64 * rows as u64;
            events.push(Reverse((now + time, Event::BatchEnds(rows))));
        }
    }
    served as f64 / (case.rate * PLAYED_US as f64 / 1e6)
}

#[test]
fn lanes_stay_busy_while_refused_callers_heed_what_they_are_told() {
    let case = |rate, (batch, queue), callers, think_ms| Case { rate, batch, queue, callers, think_ms };
    let cases = [
        // The `slow` model of the tests: 8 rows in 300 ms.
        case(26.7, (8, 16), 200, 0),
        case(26.7, (8, 16), 200, 100),
        case(26.7, (8, 16), 200, 1000),
        case(26.7, (8, 16), 1000, 0),
        case(26.7, (8, 64), 200, 0),
        // One row at a time, each a quarter of a second.
        case(4.0, (1, 16), 200, 0),
        case(4.0, (1, 16), 200, 5000),
        // Queues that run empty within the second that everybody is told at least.
        case(100.0, (8, 16), 200, 100),
        case(100.0, (8, 16), 200, 1000),
        case(1000.0, (8, 64), 200, 0),
        case(1000.0, (8, 64), 200, 100),
        case(200.0, (32, 256), 1000, 1000),
    ];
    for case in cases {
        let share = play(&case);
        let Case { rate, batch, queue, callers, think_ms } = case;
        assert!(
            share >= 0.95,
            "{share:.3} of {rate}/s with batches of {batch}, {queue} places and {callers} callers who think {think_ms} ms"
        );
    }
}

#[test]
fn a_refused_caller_is_told_when_half_of_the_queue_has_left() {
    let second = Duration::from_secs(1);
    assert_eq!(retry_after(16, second), 8 * second);
    assert_eq!(retry_after(0, second), RETRY_AFTER_LEAST);
    assert_eq!(retry_after(usize::MAX, second), RETRY_AFTER_MOST);
    assert_eq!(retry_after(16, Duration::MAX), RETRY_AFTER_MOST);
}
