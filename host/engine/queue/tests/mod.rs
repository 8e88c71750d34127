//! The policy in tables, over random histories, and in virtual time.

mod histories;
mod shares;
mod tables;

use super::*;
use crate::engine::profile::{Curve, Key, Profile};

const MS: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits {
        rows: 4,
        elements: 100,
        time: 100 * MS,
        delay: Duration::ZERO,
        profile: None,
        buckets: Vec::new(),
        ceiling: None,
    }
}

/// A device on which a row of `elements` takes so many microseconds alone, and so many in company.
fn profile(curves: &[(u64, f64, f64)]) -> Option<Arc<Profile>> {
    let key = Key { model: String::new(), device: String::new(), backend: String::new() };
    let curve = |(elements, first_us, further_us): &(u64, f64, f64)| Curve {
        elements: *elements,
        first_us: *first_us,
        further_us: *further_us,
        larger: Vec::new(),
        first_bytes: None,
        further_bytes: None,
    };
    Some(Arc::new(Profile::new(key, curves.iter().map(curve).collect())))
}

/// A request named by a number; one ragged dimension.
fn entry(ticket: usize, lengths: &[u64], queued: Instant) -> Entry<usize> {
    entry_of("t", Standing::default(), ticket, lengths, queued)
}

fn entry_of(tenant: &str, standing: Standing, ticket: usize, lengths: &[u64], queued: Instant) -> Entry<usize> {
    let times = Times { queued, give_up: queued + 50 * MS, deadline: queued + 200 * MS };
    Entry::new(ticket, (tenant.into(), standing, Priority::Interactive), (lengths.len(), lengths.into()), times)
}

fn run(queue: &mut Queue<usize>, now: Instant) -> (Vec<(usize, usize)>, Reason) {
    match queue.next(now, 1) {
        Decision::Run(formed) => (formed.rows, formed.reason),
        other => panic!("expected a batch, not {other:?}"),
    }
}
