//! Bounds, shares and expiry of what is in memory.

use bytes::Bytes;

use super::*;

fn key(n: u32) -> Key {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Key::from_bytes(bytes)
}

fn entry(tenant: &str, bytes: usize) -> Entry {
    Entry {
        tenant: tenant.into(),
        created_ms: now_ms(),
        fresh_ms: 60_000,
        stale_while_ms: 0,
        stale_error_ms: 0,
        seq: 0,
        scopes: [].into(),
        saved_us: 0,
        payload: Bytes::from(vec![7; bytes]),
    }
}

#[test]
fn what_is_kept_is_found_until_it_is_forgotten() {
    let memory = Memory::new(1 << 20, 1 << 20);
    assert!(memory.put(key(1), entry("a", 10)) && memory.put(key(2), entry("b", 20)));
    assert_eq!(memory.get(&key(1)).unwrap().payload.len(), 10);
    assert_eq!(memory.held(), (entry("a", 10).weight() + entry("b", 20).weight(), 2));
    memory.forget(&key(1));
    assert!(memory.get(&key(1)).is_none() && memory.bytes_of("a") == 0);
    memory.clear();
    assert!(memory.get(&key(2)).is_none());
    assert_eq!(memory.held(), (0, 0));
    assert!(lock(&memory.tenants).holdings.is_empty(), "a tenant without entries leaves nothing behind");
}

#[test]
fn a_key_put_again_counts_once() {
    let memory = Memory::new(1 << 20, 1 << 20);
    for bytes in [10, 1000, 20] {
        assert!(memory.put(key(1), entry("a", bytes)));
    }
    assert_eq!(memory.get(&key(1)).unwrap().payload.len(), 20);
    assert_eq!(memory.bytes_of("a"), entry("a", 20).weight());
    (0..10_000).for_each(|_| assert!(memory.put(key(1), entry("a", 20))));
    assert!(lock(&memory.tenants).holdings["a"].order.len() <= SLACK + 3, "its list is swept");
}

#[test]
fn what_is_over_is_gone() {
    let memory = Memory::new(1 << 20, 1 << 20);
    memory.put(key(1), Entry { fresh_ms: 30, ..entry("a", 10) });
    memory.put(key(2), Entry { created_ms: now_ms() - 60_000, ..entry("a", 10) });
    assert!(memory.get(&key(2)).is_none());
    memory.put(key(2), entry("a", 10));
    assert!(memory.get(&key(2)).is_some(), "its new time counts");
    let until = Instant::now() + Duration::from_secs(5);
    while memory.get(&key(1)).is_some() {
        assert!(Instant::now() < until, "it is there still");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_too_large_is_not_kept_and_takes_its_predecessor_with_it() {
    let memory = Memory::new(10_000, 5000);
    assert!(memory.put(key(1), entry("a", 10)));
    assert!(!memory.put(key(1), entry("a", 6000)));
    assert!(memory.get(&key(1)).is_none());
    assert_eq!(memory.held(), (0, 0));
}

#[test]
fn memory_is_bounded() {
    let memory = Memory::new(100_000, u64::MAX);
    (0..2000).for_each(|n| assert!(memory.put(key(n), entry(&format!("t{}", n % 7), 100))));
    let (bytes, entries) = memory.held();
    assert!(bytes <= 100_000 && entries > 50, "{bytes} in {entries}");
    let found = (0..2000).filter(|n| memory.get(&key(*n)).is_some()).count() as u64;
    assert_eq!(found, entries, "the lists and the map agree");
}

#[test]
fn a_tenant_above_its_quota_loses_its_own_oldest() {
    let memory = Memory::new(1 << 20, 5 * entry("a", 100).weight());
    memory.put(key(1000), entry("b", 100));
    (0..8).for_each(|n| assert!(memory.put(key(n), entry("a", 100))));
    for n in 0..8 {
        assert_eq!(memory.get(&key(n)).is_some(), n >= 3, "{n}");
    }
    assert!(memory.get(&key(1000)).is_some());
    memory.set_quota("a", Some(2 * entry("a", 100).weight()));
    assert_eq!((memory.get(&key(5)).is_some(), memory.get(&key(6)).is_some()), (false, true));
    memory.set_quota("a", None);
    (10..13).for_each(|n| assert!(memory.put(key(n), entry("a", 100))));
    assert!(memory.get(&key(6)).is_some());
    assert_eq!(memory.bytes_of("a"), 5 * entry("a", 100).weight());
}

#[test]
fn a_flood_does_not_flush_what_others_ask_for() {
    let memory = Memory::new(200 * entry("a", 100).weight(), 100 * entry("a", 100).weight());
    (0..50).for_each(|n| assert!(memory.put(key(n), entry("calm", 100))));
    for _ in 0..20 {
        (0..50).for_each(|n| drop(memory.get(&key(n))));
    }
    for n in 0..20_000 {
        memory.put(key(1000 + n), entry("flood", 100));
    }
    memory.kept.run_pending_tasks();
    let left = (0..50).filter(|n| memory.get(&key(*n)).is_some()).count();
    assert_eq!(left, 50);
    assert!(memory.bytes_of("flood") <= 100 * entry("a", 100).weight());
}

#[test]
fn the_lists_agree_with_the_map_after_a_crowd() {
    let memory = Memory::new(300 * entry("a", 100).weight(), 40 * entry("a", 100).weight());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let memory = &memory;
            scope.spawn(move || {
                for n in 0..4000u32 {
                    let id = (n * 7 + thread * 13) % 97;
                    match n % 5 {
                        0 => memory.forget(&key(id)),
                        _ => drop(memory.put(key(id), entry(["a", "b"][id as usize % 2], 100))),
                    }
                }
            });
        }
    });
    memory.kept.run_pending_tasks();
    let (bytes, entries) = memory.held();
    let found = (0..97).filter(|n| memory.get(&key(*n)).is_some()).count() as u64;
    assert_eq!((found, bytes), (entries, entries * entry("a", 100).weight()));
    assert!(["a", "b"].iter().all(|tenant| memory.bytes_of(tenant) <= 40 * entry("a", 100).weight()));
}

/// As a thread does that is stopped between the list and the map.
#[test]
fn what_is_shed_before_it_is_in_the_map_does_not_stay_there_uncounted() {
    let one = entry("a", 100).weight();
    let memory = Memory::new(100 * one, one);
    let (stamp, shed) = memory.enlist(key(1), &entry("a", 100)).unwrap();
    assert!(shed.is_empty());
    assert!(memory.put(key(2), entry("a", 100)));
    memory.insert(key(1), Kept { entry: entry("a", 100), stamp });
    assert!(memory.get(&key(1)).is_none() && memory.get(&key(2)).is_some());
    let (early, _) = memory.enlist(key(2), &entry("a", 90)).unwrap();
    assert!(memory.put(key(2), entry("a", 80)));
    memory.insert(key(2), Kept { entry: entry("a", 90), stamp: early });
    assert!(memory.get(&key(2)).is_none(), "of two at once none, rather than one that nobody counts");
    assert_eq!(memory.held(), (0, 0));
}
