//! What is void, held against a list that remembers everything.

use proptest::prelude::*;

use super::{super::Scope, *};

fn tag(n: usize) -> ScopeId {
    Scope::Tag { tenant: "t", tag: &n.to_string() }.into()
}

#[test]
fn what_was_begun_before_is_void_and_what_was_begun_after_holds() {
    let table = Invalidations::default();
    let before = table.now();
    assert!(table.is_valid(before, &[tag(1)]));
    let after = table.next_local(&[tag(1)]);
    assert!(!table.is_valid(before, &[tag(1)]) && !table.is_valid(before, &[tag(2), tag(1)]));
    assert!(table.is_valid(before, &[tag(2)]) && table.is_valid(before, &[]));
    assert!(table.is_valid(after, &[tag(1)]) && table.now() == after);
    table.next_local(&[ScopeId::everything()]);
    assert!(!table.is_valid(after, &[tag(2)]) && !table.is_valid(after, &[]));
    assert!(table.is_valid(table.now(), &[tag(1)]));
}

#[test]
fn numbers_of_redis_and_of_the_host_do_not_mix() {
    let table = Invalidations::default();
    (0..10).for_each(|n| assert_eq!(table.next_local(&[tag(n)]), n as u64 + 1));
    let begun = table.now();
    assert_eq!((begun, table.known(), table.far(begun)), (10, 0, 0));
    // The host is far ahead of Redis by itself; Redis' first number voids what it has nevertheless.
    table.heard(1, &[tag(20)]);
    assert!(!table.is_valid(begun, &[tag(20)]));
    assert!(!table.is_valid_far(table.far(begun), &[tag(20)]));
    assert_eq!(table.far(table.now()), 1);
    assert!(table.is_valid_far(1, &[tag(20)]));
    // What Redis does not know yet holds here for what comes from there, too.
    table.next_local(&[tag(21)]);
    assert!(!table.is_valid_far(1, &[tag(21)]) && table.is_valid_far(2, &[tag(21)]));
}

#[test]
fn an_answer_and_its_echo_count_once() {
    let table = Invalidations::default();
    table.confirmed(1, &[tag(1), tag(2)]);
    let begun = table.now();
    assert_eq!(table.far(begun), 0, "others may have come before 1");
    table.heard(1, &[tag(2), tag(1)]);
    assert!(table.is_valid(begun, &[tag(1)]));
    assert_eq!(table.far(begun), 1);
    table.heard(2, &[tag(1)]);
    let begun = table.now();
    table.confirmed(2, &[tag(1)]);
    assert!(table.is_valid(begun, &[tag(1)]) && table.far(begun) == 2);
}

#[test]
fn an_answer_that_overtakes_anothers_invalidation_hides_it_not() {
    let table = Invalidations::default();
    table.confirmed(2, &[tag(2)]);
    let begun = table.now();
    let noted = table.far(begun);
    assert_eq!(noted, 0, "what it is made of may be void since 1");
    table.heard(1, &[tag(1)]);
    table.heard(2, &[tag(2)]);
    assert!(!table.is_valid(begun, &[tag(1)]) && !table.is_valid_far(noted, &[tag(1)]));
}

#[test]
fn a_redis_that_counts_anew_makes_nothing_valid() {
    let table = Invalidations::default();
    (1..=50).for_each(|far| assert!(table.heard(far, &[tag(9)])));
    let (begun, noted) = (table.now(), table.far(table.now()));
    assert_eq!(noted, 50);
    table.heard(3, &[tag(1)]);
    assert!(!table.is_valid(begun, &[tag(1)]) && !table.is_valid_far(noted, &[tag(1)]));
    assert_eq!(table.far(begun), 0, "its number means nothing any more");
    assert_eq!(table.far(table.now()), 3);
    assert_eq!(table.known(), 50);
}

#[test]
fn a_floor_voids_what_was_begun_before() {
    let table = Invalidations::default();
    let begun = table.now();
    table.raise_floor(7);
    assert!(!table.is_valid(begun, &[]) && !table.is_valid_far(6, &[]) && table.is_valid_far(7, &[]));
    assert_eq!((table.known(), table.far(table.now())), (7, 7));
}

#[test]
fn a_full_table_forgets_no_invalidation() {
    let table = Invalidations::default();
    let begun = table.now();
    (0..MAX_SCOPES + 10).for_each(|n| assert!(table.heard(n as u64 + 1, &[tag(n)])));
    assert!(table.read().scopes.len() <= MAX_SCOPES);
    assert!((0..MAX_SCOPES + 10).all(|n| !table.is_valid(begun, &[tag(n)]) && !table.is_valid_far(0, &[tag(n)])));
    let late = table.now();
    assert!(table.is_valid(late, &[tag(3)]) && table.is_valid_far(table.far(late), &[tag(3)]));
    assert!(table.read().steps.len() <= MAX_STEPS && table.read().echoes.len() <= MAX_ECHOES);
    let first_kept = table.read().steps[0].here;
    assert_eq!(table.far(first_kept - 1), 0, "what is not known any more is as old as can be");
}

#[derive(Clone, Debug)]
enum Event {
    /// Somebody invalidates a scope in Redis; where it is this host, whether the answer overtakes the channel.
    Invalidate {
        scope: usize,
        ours: bool,
        overtakes: bool,
    },
    /// Redis is away for this one.
    Local(usize),
    /// The channel brings this many that wait.
    Deliver(usize),
    Begin(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0usize..4, any::<bool>(), any::<bool>()).prop_map(|(scope, ours, overtakes)| Event::Invalidate {
            scope,
            ours,
            overtakes
        }),
        (0usize..4).prop_map(Event::Local),
        (1usize..4).prop_map(Event::Deliver),
        (0usize..4).prop_map(Event::Begin),
    ]
}

/// An entry that was begun.
struct Begun {
    scope: usize,
    seq: u64,
    /// What its host knew by then: numbers of Redis.
    knew: Vec<u64>,
    /// Whether this host was told since that its scope is void.
    told: bool,
}

/// What is on its way to the host and what it knows.
#[derive(Default)]
struct Channel {
    /// Number, scope, and whether it is an echo, which tells nothing new.
    waiting: VecDeque<(u64, usize, bool)>,
    known: Vec<u64>,
}

fn tell(begun: &mut [Begun], scope: usize) {
    begun.iter_mut().filter(|entry| entry.scope == scope).for_each(|entry| entry.told = true);
}

/// The channel brings some of what waits.
fn deliver(table: &Invalidations, channel: &mut Channel, begun: &mut [Begun], some: usize) {
    for (far, scope, echo) in channel.waiting.drain(..some.min(channel.waiting.len())) {
        table.heard(far, &[tag(scope)]);
        channel.known.push(far);
        if !echo {
            tell(begun, scope);
        }
    }
}

proptest! {
    /// Whatever order things come in: what this host was told is void is void in its memory, and no entry in Redis is
    /// taken that was begun before an invalidation that the reader knows.
    #[test]
    fn no_history_makes_an_old_entry_valid(events in prop::collection::vec(event(), 0..60)) {
        let (table, mut begun) = (Invalidations::default(), Vec::<Begun>::new());
        let (mut redis, mut channel, mut log) = (0, Channel::default(), Vec::new());
        for event in events {
            match event {
                Event::Invalidate { scope, ours, overtakes } => {
                    if ours {
                        table.next_local(&[tag(scope)]);
                    }
                    redis = (redis + 1).max(table.known() + 1);
                    log.push((redis, scope));
                    channel.waiting.push_back((redis, scope, ours && overtakes));
                    if ours && !overtakes {
                        deliver(&table, &mut channel, &mut begun, usize::MAX);
                    }
                    if ours {
                        table.confirmed(redis, &[tag(scope)]);
                        channel.known.push(redis);
                        tell(&mut begun, scope);
                    }
                }
                Event::Local(scope) => {
                    table.next_local(&[tag(scope)]);
                    tell(&mut begun, scope);
                }
                Event::Deliver(some) => deliver(&table, &mut channel, &mut begun, some),
                Event::Begin(scope) => {
                    let seq = table.now();
                    begun.push(Begun { scope, seq, knew: channel.known.clone(), told: false });
                }
            }
            for entry in &begun {
                let valid = table.is_valid(entry.seq, &[tag(entry.scope)]);
                prop_assert!(!entry.told || !valid, "told, and valid nevertheless");
                // Put only now, it is taken by a host that knows all only if its own knew all that made its scope void.
                let noted = table.far(entry.seq);
                for (far, _) in log.iter().filter(|(_, scope)| *scope == entry.scope) {
                    prop_assert!(noted < *far || entry.knew.contains(far), "begun without knowing {far}, and taken");
                }
                prop_assert!(noted <= redis);
            }
        }
    }
}
