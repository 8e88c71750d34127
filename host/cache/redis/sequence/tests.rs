//! Tables of what follows from what is found, and histories of hosts that come and go around a Redis that forgets.

use proptest::prelude::*;

use super::*;

const OLD: u64 = 1;
const NEW: u64 = 2;

/// Has heard this list up to `last`, and seen that there is a number `seen`.
fn numbers(list: u64, last: u64, seen: u64) -> Numbers {
    let mut numbers = Numbers::default();
    numbers.follow(Id::of(list), last);
    numbers.saw(seen);
    numbers
}

fn found(list: u64, before: Option<(u64, u64)>, base: u64, top: u64) -> Option<Found> {
    let before = before.map(|(list, last)| (Id::of(list), last));
    Some(Found { marker: Marker { list: Id::of(list), before }, base, top, above: 0 })
}

fn asked_above(above: u64, found: Option<Found>) -> Option<Found> {
    found.map(|found| Found { above, ..found })
}

fn follow(list: u64, base: u64, floor: bool) -> Step {
    Step::Follow { list: Id::of(list), base, floor }
}

fn begin(before: Option<(u64, u64)>, base: u64) -> Step {
    let before = before.map(|(list, last)| (Id::of(list), last));
    Step::Begin { marker: Marker { list: Id::of(9), before }, base }
}

#[test]
fn what_follows() {
    let table = [
        ("nobody knows anything", Numbers::default(), None, begin(None, 1000)),
        ("the first contact", Numbers::default(), found(OLD, None, 50, 70), follow(OLD, 50, true)),
        ("nothing is amiss", numbers(OLD, 60, 60), found(OLD, None, 50, 70), follow(OLD, 50, false)),
        ("away for too long", numbers(OLD, 40, 40), found(OLD, None, 50, 70), follow(OLD, 50, true)),
        ("one came meanwhile", numbers(OLD, 71, 71), asked_above(70, found(OLD, None, 50, 70)), follow(OLD, 50, false)),
        ("somebody meddled with it", numbers(OLD, 80, 80), asked_above(80, found(OLD, None, 50, 70)), begin(None, 81)),
        ("lost, and all was heard", numbers(OLD, 60, 60), None, begin(Some((OLD, 60)), 60)),
        ("lost, and not all was heard", numbers(OLD, 60, 61), None, begin(None, 1000)),
        ("as much was heard", numbers(OLD, 60, 60), found(NEW, Some((OLD, 60)), 60, 65), follow(NEW, 60, false)),
        (
            "as much, but it was shortened",
            numbers(OLD, 60, 60),
            found(NEW, Some((OLD, 60)), 62, 65),
            follow(NEW, 62, true),
        ),
        ("less was heard", numbers(OLD, 59, 59), found(NEW, Some((OLD, 60)), 60, 65), follow(NEW, 60, true)),
        ("more was heard", numbers(OLD, 61, 61), found(NEW, Some((OLD, 60)), 60, 65), begin(None, 66)),
        ("more was seen", numbers(OLD, 60, 61), found(NEW, Some((OLD, 60)), 60, 65), begin(None, 66)),
        ("of another origin", numbers(7, 60, 60), found(NEW, Some((OLD, 60)), 60, 65), begin(None, 66)),
        ("all are to heed a floor", numbers(OLD, 60, 60), found(NEW, None, 66, 66), follow(NEW, 66, true)),
        ("a floor that is too low", numbers(OLD, 70, 70), found(NEW, None, 66, 66), begin(None, 71)),
    ];
    for (what, numbers, found, wanted) in table {
        assert_eq!(numbers.step(found, Id::of(9), 1000), wanted, "{what}");
    }
}

#[test]
fn the_channel_counts_while_nothing_is_missing() {
    let mut numbers = Numbers::default();
    assert_eq!(numbers.by_channel(Id::of(OLD), 7), Hearing::Early, "no list was read");
    numbers.follow(Id::of(OLD), 5);
    let before = numbers.interruptions();
    assert_eq!(numbers.by_channel(Id::of(OLD), 7), Hearing::Early);
    assert!(!numbers.read_to_end(before), "the reading began before the 7 came and may have missed it");
    assert!(numbers.by_list(6) && numbers.by_list(7) && !numbers.by_list(7));
    assert!(numbers.read_to_end(numbers.interruptions()));
    assert_eq!((numbers.by_channel(Id::of(OLD), 7), numbers.by_channel(Id::of(OLD), 9)), (Hearing::Old, Hearing::New));
    assert_eq!(numbers.by_channel(Id::of(NEW), 3), Hearing::Early, "another list has numbers of its own");
    assert_eq!(numbers.seen(), 9);
    assert_eq!(numbers.by_channel(Id::of(OLD), 11), Hearing::Early);
    assert_eq!(numbers.last(), 9);
    numbers.saw(12);
    assert!(numbers.by_list(11));
    assert!(!numbers.read_to_end(numbers.interruptions()), "there is a 12 somewhere");
    assert_eq!(numbers.by_channel(Id::of(OLD), u64::MAX), Hearing::Early);
    assert_eq!(numbers.seen(), 12, "nobody makes the numbers run out");
}

const SCOPES: usize = 3;

#[derive(Default)]
struct Host {
    numbers: Numbers,
    connected: bool,
    floor: u64,
    void: [u64; SCOPES],
    delivered: u64,
}

impl Host {
    fn deliver(&mut self, seq: u64, scope: usize) {
        assert!(seq > self.delivered, "each once and in their order");
        self.delivered = seq;
        self.void[scope] = seq;
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.seq >= self.floor && entry.seq >= self.void[entry.scope]
    }
}

struct Entry {
    seq: u64,
    scope: usize,
    begun: u64,
}

/// What the scripts do, without Redis.
struct Redis {
    marker: Marker,
    base: u64,
    entries: Vec<(u64, usize)>,
}

impl Redis {
    fn top(&self) -> u64 {
        self.entries.last().map_or(self.base, |(seq, _)| *seq)
    }
}

#[derive(Default)]
struct World {
    time: u64,
    ids: u64,
    redis: Option<Redis>,
    hosts: Vec<Host>,
    entries: Vec<Entry>,
    /// When a scope was invalidated last.
    invalidated: [u64; SCOPES],
}

impl World {
    /// As the bus does.
    fn catch_up(&mut self, at: usize) {
        for _ in 0..20 {
            self.ids += 1;
            let (new, least) = (Id::of(1000 + self.ids), self.time * 1000);
            let host = &mut self.hosts[at];
            let redis = self.redis.as_ref();
            let above = host.numbers.last();
            let found = redis.map(|redis| Found { marker: redis.marker, base: redis.base, top: redis.top(), above });
            match host.numbers.step(found, new, least) {
                Step::Begin { marker, base } => {
                    let base = redis.map_or(base, |redis| base.max(redis.top() + 1));
                    self.redis = Some(Redis { marker, base, entries: vec![] });
                    // All that are connected hear that there is another list.
                    self.hosts.iter_mut().for_each(|host| host.numbers.interrupted());
                }
                Step::Follow { list, base, floor } => {
                    if floor {
                        host.floor = base;
                    }
                    host.numbers.follow(list, base);
                    for (seq, scope) in self.redis.as_ref().map(|redis| redis.entries.clone()).unwrap_or_default() {
                        if host.numbers.by_list(seq) {
                            host.deliver(seq, scope);
                        }
                    }
                    let interruptions = host.numbers.interruptions();
                    let whole = host.numbers.read_to_end(interruptions);
                    assert!(whole, "nothing happens meanwhile here");
                    return;
                }
            }
        }
        panic!("it does not come to an end");
    }

    fn invalidate(&mut self, at: usize, scope: usize) {
        if self.redis.is_none() || self.hosts[at].numbers.list() != self.redis.as_ref().map(|redis| redis.marker.list) {
            self.catch_up(at);
        }
        let redis = self.redis.as_mut().unwrap();
        let seq = redis.top().max(self.hosts[at].numbers.seen()) + 1;
        redis.entries.push((seq, scope));
        let list = redis.marker.list;
        self.invalidated[scope] = self.time;
        self.hosts[at].numbers.saw(seq);
        for host in self.hosts.iter_mut().filter(|host| host.connected) {
            if host.numbers.by_channel(list, seq) == Hearing::New {
                host.deliver(seq, scope);
            }
        }
    }

    fn event(&mut self, kind: u8, at: usize, scope: usize) {
        self.time += 1;
        let at = at % self.hosts.len();
        match kind {
            0 if self.hosts[at].connected => self.invalidate(at, scope),
            1 => self.hosts[at].connected = false,
            2 => {
                self.hosts[at].connected = true;
                self.hosts[at].numbers.interrupted();
            }
            3 if self.hosts[at].connected => self.catch_up(at),
            4 => {
                self.redis = None;
                self.hosts.iter_mut().for_each(|host| host.connected = false);
            }
            5 => {
                let Some(redis) = &mut self.redis else { return };
                let cut = redis.entries.len() / 2;
                redis.entries.drain(..cut).for_each(|(seq, _)| redis.base = seq);
            }
            6 if self.hosts.len() < 4 => self.hosts.push(Host::default()),
            _ => {
                let seq = self.hosts[at].numbers.last();
                self.entries.push(Entry { seq, scope, begun: self.time });
            }
        }
    }

    /// All come back; what has to be void is void everywhere, and what is begun now is not.
    fn check(&mut self) {
        self.time += 1;
        for _ in 0..4 {
            for at in 0..self.hosts.len() {
                self.hosts[at].connected = true;
                self.catch_up(at);
            }
        }
        for (at, host) in self.hosts.iter().enumerate() {
            for entry in self.entries.iter().filter(|entry| entry.begun < self.invalidated[entry.scope]) {
                assert!(!host.holds(entry), "host {at} takes {} at {}", entry.seq, entry.scope);
            }
            for scope in 0..SCOPES {
                let seq = self.hosts[0].numbers.last();
                assert!(host.holds(&Entry { seq, scope, begun: self.time }), "host {at} takes nothing new");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// As long as no host that heard something is gone for good, nothing void is ever taken by a host that came back.
    #[test]
    fn nothing_void_is_taken(events in proptest::collection::vec((0..9_u8, 0..4_usize, 0..SCOPES), 1..60),
                             checks in 1..4_usize) {
        let mut world = World { hosts: vec![Host::default(), Host::default()], ..World::default() };
        for part in events.chunks(events.len().div_ceil(checks)) {
            for (kind, at, scope) in part {
                world.event(*kind, *at, *scope);
            }
            world.check();
        }
    }
}
