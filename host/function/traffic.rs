//! Which revision of a function serves a request: shares by weight, and the same one for requests that belong together.
//!
//! Pure: a choice is a function of the shares and of what the request says, so hosts that share a registry choose alike.

use crate::registry::Sticky;

use super::{Call, snapshot::Snapshot};

/// The revisions that serve a function.
#[derive(Clone)]
pub struct Traffic {
    /// In the order of their numbers; each with the end of its range of weights, the last of which is the sum.
    shares: Vec<(Snapshot, u64)>,
    sticky: Sticky,
}

impl Traffic {
    /// One revision serves everything.
    pub fn all(snapshot: Snapshot) -> Self {
        Self { shares: vec![(snapshot, 1)], sticky: Sticky::default() }
    }

    /// Several do, each with its weight; there must be one, and no weight may be 0.
    pub fn shared(mut shares: Vec<(Snapshot, u32)>, sticky: Sticky) -> Self {
        // So that a share that grows keeps all whom it had: the newest revision's range ends where all end.
        shares.sort_by_key(|(snapshot, _)| snapshot.revision.number);
        let mut end = 0;
        let shares = shares.into_iter().map(|(snapshot, weight)| {
            end += u64::from(weight);
            (snapshot, end)
        });
        Self { shares: shares.collect(), sticky }
    }

    /// What serves this request.
    pub(super) fn pick(&self, call: &Call) -> &Snapshot {
        let [.., (last, total)] = &self.shares[..] else { unreachable!("traffic has a share") };
        if self.shares.len() == 1 {
            return last;
        }
        let point = point(&self.sticky, call, *total);
        self.shares.iter().find(|(_, end)| point < *end).map_or(last, |(snapshot, _)| snapshot)
    }

    /// All of it.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.shares.iter().map(|(snapshot, _)| snapshot)
    }

    /// All of it, to be exchanged for the same revisions on other models.
    pub(super) fn snapshots_mut(&mut self) -> impl Iterator<Item = &mut Snapshot> {
        self.shares.iter_mut().map(|(snapshot, _)| snapshot)
    }

    /// The revision that most requests meet.
    pub(super) fn main(&self) -> &Snapshot {
        let mut begin = 0;
        let weight = |(snapshot, end): &(Snapshot, u64)| {
            let weight = end - std::mem::replace(&mut begin, *end);
            (weight, snapshot.clone())
        };
        let weights: Vec<_> = self.shares.iter().map(weight).collect();
        let most = weights.iter().map(|(weight, _)| *weight).max().unwrap_or_default();
        let found = weights.iter().rposition(|(weight, _)| *weight == most).unwrap_or_default();
        &self.shares[found].0
    }
}

/// Where in `total` a request falls. What it does not say (no such header, no key) leaves it to its id.
fn point(sticky: &Sticky, call: &Call, total: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    // Another function is another draw: who is in one canary is not in all of them.
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    add(call.tenant.as_bytes());
    add(call.function.as_bytes());
    let header = |wanted: &str| {
        let mut headers = call.request.headers.iter();
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_bytes())
    };
    match (sticky, call.caller.sticky()) {
        (Sticky::Request, _) => {
            add(call.request.method.as_bytes());
            add(call.request.path.as_bytes());
            for (name, value) in &call.request.query {
                add(name.as_bytes());
                add(value.as_bytes());
            }
        }
        (Sticky::Key, Some(key)) => add(&key.to_le_bytes()),
        (Sticky::Header { header: name }, _) if header(name).is_some() => add(header(name).unwrap_or_default()),
        (Sticky::None | Sticky::Key | Sticky::Header { .. }, _) => add(call.id.as_bytes()),
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // The high half of the product: as good as a remainder and as fair for any total.
    ((u128::from(u64::from_le_bytes(first)) * u128::from(total)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        access::{Caller, Scopes, key},
        invocation::Request,
        telemetry::TraceContext,
    };

    const ASKED: u32 = 4000;

    fn call(id: u32) -> Call {
        Call {
            id: id.to_string().into(),
            tenant: "t".into(),
            function: "f".into(),
            revision: None,
            timeout: None,
            priority: Default::default(),
            arrived: std::time::Instant::now(),
            trace: TraceContext::begin(),
            caller: Caller::Anonymous,
            afresh: false,
            request: Request { method: "POST".into(), ..Request::default() },
        }
    }

    fn with_header(id: u32, value: u32) -> Call {
        let mut call = call(id);
        call.request.headers.push(("X-User".into(), value.to_string()));
        call
    }

    #[test]
    fn requests_are_drawn_evenly_and_those_that_stick_fall_alike() {
        let header = Sticky::Header { header: "x-user".into() };
        let below = |sticky: &Sticky, calls: &dyn Fn(u32) -> Call| {
            (0..ASKED).filter(|id| point(sticky, &calls(*id), 100) < 10).count()
        };
        let tenth = ASKED as usize / 10;
        for drawn in [below(&Sticky::None, &call), below(&header, &|id| with_header(0, id)), below(&header, &call)] {
            assert!(drawn.abs_diff(tenth) < tenth / 4, "{drawn} of {ASKED}");
        }
        // The same header, the same request: the same point, whatever the id.
        let points = |sticky: &Sticky, calls: &dyn Fn(u32) -> Call| {
            let points = (0..100).map(|id| (point(sticky, &calls(id), 1 << 20), ()));
            points.collect::<BTreeMap<_, _>>().len()
        };
        assert_eq!(points(&header, &|id| with_header(id, 7)), 1);
        assert_eq!(points(&Sticky::Request, &call), 1);
        assert!(points(&Sticky::None, &call) > 90 && points(&Sticky::Key, &call) > 90);
        let presented = key::Presented::parse(&key::NewKey::make().unwrap().text).unwrap();
        let caller = Caller::of_key("t".into(), Scopes::default(), &presented);
        assert_eq!(points(&Sticky::Key, &|id| Call { caller: caller.clone(), ..call(id) }), 1);
    }

    #[test]
    fn another_function_draws_otherwise() {
        let other = |id| Call { function: "g".into(), ..call(id) };
        let same = (0..100).filter(|id| point(&Sticky::None, &call(*id), 2) == point(&Sticky::None, &other(*id), 2));
        assert!((20..80).contains(&same.count()));
    }
}
