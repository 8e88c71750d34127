//! Random histories: whatever comes, leaves, expires and runs in whatever order, each row runs once or is given up once.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Push {
        tenant: usize,
        batch: bool,
        lengths: Vec<u64>,
    },
    Next {
        free: usize,
    },
    /// The batch that is that many places from the oldest running one ends.
    End {
        place: usize,
        took_ms: u64,
    },
    Withdraw {
        ticket: usize,
    },
    Pass {
        ms: u64,
    },
    Clear,
}

fn event() -> impl Strategy<Value = Event> {
    let lengths = proptest::collection::vec(1..80_u64, 1..9);
    prop_oneof![
        8 => (0..5_usize, any::<bool>(), lengths).prop_map(|(tenant, batch, lengths)| Event::Push { tenant, batch, lengths }),
        8 => (1..4_usize).prop_map(|free| Event::Next { free }),
        6 => (0..4_usize, 0..40_u64).prop_map(|(place, took_ms)| Event::End { place, took_ms }),
        2 => (0..20_usize).prop_map(|ticket| Event::Withdraw { ticket }),
        2 => (0..30_u64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::Clear),
    ]
}

/// What the test knows of a request: the rows that still wait, and of whom.
struct Request {
    lengths: Vec<u64>,
    waiting: BTreeSet<usize>,
    tenant: usize,
}

/// Tenant 4 shares with nobody.
fn standing(tenant: usize) -> Standing {
    Standing { weight: 1.0 + tenant as f64, exclusive: tenant == 4 }
}

fn some_limits(number: usize) -> Limits {
    let gains = profile(&[(16, 1000.0, 200.0), (80, 5000.0, 1000.0)]);
    let linear = profile(&[(16, 16_000.0, 16_000.0), (80, 80_000.0, 80_000.0)]);
    match number {
        0 => limits(),
        1 => Limits { profile: gains, ..limits() },
        2 => Limits { profile: linear, ..limits() },
        _ => Limits { profile: gains, buckets: vec![vec![16, 40, 80]], elements: 200, rows: 6, ..limits() },
    }
}

fn check(formed: &Formed<usize>, limits: &Limits, requests: &HashMap<usize, Request>) -> Result<(), TestCaseError> {
    let length = |(ticket, row): &(usize, usize)| requests[ticket].lengths[*row];
    let longest = formed.rows.iter().map(length).max().unwrap_or(0);
    let padded = limits.buckets.first().map_or(longest, |buckets| bucket(buckets, longest));
    prop_assert!(!formed.rows.is_empty() && formed.rows.len() <= limits.rows);
    prop_assert!(formed.rows.len() == 1 || padded * formed.rows.len() as u64 <= limits.elements);
    prop_assert_eq!(formed.elements, (formed.rows.iter().map(length).sum(), padded));
    prop_assert!((formed.parts.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let tenants: BTreeSet<_> = formed.rows.iter().map(|(ticket, _)| requests[ticket].tenant).collect();
    prop_assert!(tenants.len() == 1 || !tenants.contains(&4), "an exclusive tenant's rows with others: {tenants:?}");
    for same in formed.rows.chunk_by(|a, b| a.0 == b.0) {
        let others = formed.rows.iter().filter(|(ticket, _)| *ticket == same[0].0).count();
        prop_assert_eq!(others, same.len(), "rows of one request stand side by side");
    }
    Ok(())
}

fn play(limits: Limits, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut now = Instant::now();
    let mut queue = Queue::new(limits.clone());
    let mut requests: HashMap<usize, Request> = HashMap::new();
    let mut running = VecDeque::new();
    let mut pushed = 0;
    // At the end everything that waits gets its turns.
    let last = std::iter::repeat_n([Event::Next { free: 1 }, Event::End { place: 0, took_ms: 1 }], 600).flatten();
    for event in events.into_iter().chain(last) {
        match event {
            Event::Push { tenant, batch, lengths } => {
                let priority = if batch { Priority::Batch } else { Priority::Interactive };
                let times = Times { queued: now, give_up: now + 50 * MS, deadline: now + 200 * MS };
                let whose = (format!("t{tenant}").into(), standing(tenant), priority);
                queue.push(Entry::new(pushed, whose, (lengths.len(), lengths[..].into()), times));
                let waiting = (0..lengths.len()).collect();
                requests.insert(pushed, Request { lengths, waiting, tenant });
                pushed += 1;
            }
            Event::Withdraw { ticket } => {
                let taken = queue.withdraw(false, |waiting| *waiting == ticket);
                let waited = requests.get_mut(&ticket).map_or(0, |request| std::mem::take(&mut request.waiting).len());
                prop_assert_eq!(taken, waited);
            }
            Event::Pass { ms } => {
                now += Duration::from_millis(ms);
                for (ticket, why) in queue.expire(now) {
                    let request = requests.get_mut(&ticket).expect("it was pushed");
                    let unbegun = request.waiting.len() == request.lengths.len();
                    prop_assert!(!request.waiting.is_empty() && (why == Expired::Deadline || unbegun));
                    request.waiting.clear();
                }
            }
            Event::Clear => {
                for ticket in queue.clear() {
                    let request = requests.get_mut(&ticket).expect("it was pushed");
                    prop_assert!(!std::mem::take(&mut request.waiting).is_empty());
                }
            }
            Event::End { place, took_ms } => {
                let index = place.min(running.len().saturating_sub(1));
                if let Some(bill) = running.remove(index) {
                    queue.settle(&bill, Duration::from_millis(took_ms), now);
                }
            }
            Event::Next { free } => {
                let Decision::Run(formed) = queue.next(now, free) else { continue };
                check(&formed, &limits, &requests)?;
                for (ticket, row) in &formed.rows {
                    let waited = requests.get_mut(ticket).is_some_and(|request| request.waiting.remove(row));
                    prop_assert!(waited, "once, and not after withdrawal");
                }
                running.push_back(formed.bill);
            }
        }
        let waiting: usize = requests.values().map(|request| request.waiting.len()).sum();
        prop_assert_eq!(queue.rows(), waiting);
    }
    prop_assert_eq!(queue.rows(), 0);
    // Once nothing waits or runs, nobody is remembered.
    prop_assert!(running.is_empty());
    prop_assert_eq!(queue.between.clock(&Priority::Batch), 0.0);
    prop_assert!(queue.classes.iter().all(|class| class.flows.is_empty() && class.tenants.clock("t0") == 0.0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn no_row_is_lost_or_run_twice_and_limits_hold(
        limits in 0..4_usize,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        play(some_limits(limits), events)?;
    }
}
