//! The policy in tables, and over random histories.

use proptest::prelude::*;

use super::*;
use crate::engine::profile::{Curve, Key};

const MS: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits { rows: 4, elements: 100, time: 100 * MS, delay: Duration::ZERO, profile: None }
}

/// A request named by a number; one ragged dimension.
fn entry(ticket: usize, lengths: &[u64], queued: Instant) -> Entry<usize> {
    let (give_up, deadline) = (queued + 50 * MS, queued + 200 * MS);
    Entry { ticket, rows: lengths.len(), next: 0, lengths: lengths.into(), queued, give_up, deadline }
}

fn run(queue: &mut Queue<usize>, now: Instant) -> (Vec<(usize, usize)>, Reason) {
    match queue.next(now) {
        Decision::Run(formed) => (formed.rows, formed.reason),
        other => panic!("expected a batch, not {other:?}"),
    }
}

/// A name, limits, the rows of requests, and how many rows go for which reason.
type Case<'a> = (&'a str, Limits, &'a [&'a [u64]], usize, Reason);

#[test]
fn a_free_instance_takes_what_waits_and_says_why_no_more() {
    let now = Instant::now();
    let profile = |first_us, further_us| {
        let key = Key { model: String::new(), device: String::new(), backend: String::new() };
        Some(Arc::new(Profile::new(
            key,
            vec![Curve { elements: 1, first_us, further_us, first_bytes: None, further_bytes: None }],
        )))
    };
    let cases: [Case<'_>; 9] = [
        ("one row", limits(), &[&[5]], 1, Reason::Idle),
        ("rows of two requests", limits(), &[&[5], &[6, 7]], 3, Reason::Idle),
        ("exactly full", limits(), &[&[1; 4]], 4, Reason::Full),
        ("more than full", limits(), &[&[1; 3], &[1; 3]], 4, Reason::Full),
        ("a long row would pad the others", limits(), &[&[10, 10, 50]], 2, Reason::Elements),
        ("a row over the limit goes alone", limits(), &[&[150, 1]], 1, Reason::Elements),
        ("predicted time", Limits { profile: profile(40_000.0, 40_000.0), ..limits() }, &[&[1; 4]], 2, Reason::Time),
        ("a slow row goes alone", Limits { profile: profile(2e6, 1e6), ..limits() }, &[&[1; 2]], 1, Reason::Time),
        (
            "unless company costs nothing",
            Limits { profile: profile(2e6, 1.0), ..limits() },
            &[&[1; 2]],
            2,
            Reason::Idle,
        ),
    ];
    for (case, limits, requests, rows, reason) in cases {
        let mut queue = Queue::new(limits);
        requests.iter().enumerate().for_each(|(ticket, lengths)| queue.push(entry(ticket, lengths, now)));
        let waiting = queue.rows();
        let batch = run(&mut queue, now);
        assert_eq!((batch.0.len(), batch.1), (rows, reason), "{case}");
        assert_eq!(queue.rows(), waiting - rows, "{case}");
    }
}

#[test]
fn a_delay_is_waited_out_unless_the_batch_is_full() {
    let now = Instant::now();
    let mut queue = Queue::new(Limits { delay: 5 * MS, ..limits() });
    assert!(matches!(queue.next(now), Decision::Idle));
    queue.push(entry(0, &[1], now));
    assert!(matches!(queue.next(now + MS), Decision::WaitUntil(ready) if ready == now + 5 * MS));
    assert_eq!(run(&mut queue, now + 5 * MS).1, Reason::Deadline);
    queue.push(entry(1, &[1; 5], now));
    assert_eq!(run(&mut queue, now).1, Reason::Full);
}

#[test]
fn rows_without_ragged_dimensions_have_no_elements_to_limit() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(Entry { rows: 3, ..entry(0, &[], now) });
    assert_eq!(run(&mut queue, now), (vec![(0, 0), (0, 1), (0, 2)], Reason::Idle));
}

#[test]
fn who_waited_too_long_is_given_up_but_not_who_was_begun() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(entry(0, &[1; 6], now));
    queue.push(entry(1, &[1], now));
    assert_eq!(run(&mut queue, now).0.len(), 4);
    assert_eq!(queue.expire(now + 49 * MS), []);
    assert_eq!(queue.expire(now + 50 * MS), [(1, Expired::QueueTimeout)]);
    assert_eq!(queue.rows(), 2);
    assert_eq!(queue.expire(now + 200 * MS), [(0, Expired::Deadline)]);
    assert_eq!(queue.rows(), 0);
}

#[test]
fn withdrawing_frees_the_places_of_the_rows_that_wait() {
    let now = Instant::now();
    let mut queue = Queue::new(limits());
    queue.push(entry(0, &[1; 6], now));
    queue.push(entry(1, &[1; 2], now));
    assert_eq!(run(&mut queue, now).0.len(), 4);
    assert_eq!(queue.withdraw(true, |ticket| *ticket == 0), 0, "it was begun");
    assert_eq!(queue.withdraw(false, |ticket| *ticket == 0), 2);
    assert_eq!(queue.withdraw(true, |ticket| *ticket == 1), 2);
    assert_eq!(queue.withdraw(false, |ticket| *ticket == 1), 0);
    assert_eq!(queue.rows(), 0);
    queue.push(entry(2, &[1], now));
    assert_eq!(queue.clear(), [2]);
    assert!(matches!(queue.next(now), Decision::Idle));
}

#[derive(Clone, Debug)]
enum Event {
    Push(Vec<u64>),
    Next,
    Withdraw(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => proptest::collection::vec(1..80_u64, 1..9).prop_map(Event::Push),
        4 => Just(Event::Next),
        1 => (0..20_usize).prop_map(Event::Withdraw),
        1 => (0..30_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn no_row_is_lost_or_run_twice_and_limits_hold(events in proptest::collection::vec(event(), 1..60)) {
        let mut now = Instant::now();
        let mut queue = Queue::new(limits());
        // For each request: its lengths, and the row that must come next; `None` once it is out of the queue.
        let mut requests: Vec<(Vec<u64>, Option<usize>)> = Vec::new();
        let mut latest = 0;
        for event in events.into_iter().chain(std::iter::repeat_n(Event::Next, 400)) {
            match event {
                Event::Push(lengths) => {
                    queue.push(entry(requests.len(), &lengths, now));
                    requests.push((lengths, Some(0)));
                }
                Event::Withdraw(ticket) => {
                    queue.withdraw(false, |waiting| *waiting == ticket);
                    if let Some(request) = requests.get_mut(ticket) {
                        request.1 = None;
                    }
                }
                Event::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    for (ticket, why) in queue.expire(now) {
                        let begun = requests[ticket].1;
                        prop_assert!(why == Expired::Deadline || begun == Some(0));
                        prop_assert!(begun.is_some());
                        requests[ticket].1 = None;
                    }
                }
                Event::Next => {
                    let Decision::Run(formed) = queue.next(now) else { continue };
                    let longest = formed.rows.iter().map(|(ticket, row)| requests[*ticket].0[*row]).max().unwrap();
                    prop_assert!(formed.rows.len() <= 4);
                    prop_assert!(formed.rows.len() == 1 || longest * formed.rows.len() as u64 <= 100);
                    for (ticket, row) in formed.rows {
                        prop_assert!(ticket >= latest, "first come, first served");
                        latest = ticket;
                        prop_assert_eq!(requests[ticket].1, Some(row), "in order, once, and not after withdrawal");
                        let next = row + 1;
                        requests[ticket].1 = (next < requests[ticket].0.len()).then_some(next);
                    }
                }
            }
            let waiting: usize = requests.iter().map(|(lengths, next)| next.map_or(0, |next| lengths.len() - next)).sum();
            prop_assert_eq!(queue.rows(), waiting);
        }
        prop_assert_eq!(queue.rows(), 0);
    }
}
