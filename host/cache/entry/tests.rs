//! Entries in whole and damaged forms, and their ages.

use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;

fn entry(payload: &'static [u8]) -> Entry {
    Entry {
        tenant: "acme".into(),
        created_ms: NOW_MS,
        fresh_ms: 10,
        stale_while_ms: 20,
        stale_error_ms: 30,
        seq: 7,
        scopes: [ScopeId::everything(), ScopeId::from_bytes([3; 16])].into(),
        saved_us: 1234,
        payload: Bytes::from_static(payload),
    }
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

/// Bytes with a right digest, whatever else is wrong with them.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes.into()
}

#[test]
fn ages_one_after_another() {
    let entry = entry(b"x");
    for (age, freshness) in [
        (0, Freshness::Fresh),
        (9, Freshness::Fresh),
        (10, Freshness::StaleWhile),
        (29, Freshness::StaleWhile),
        (30, Freshness::StaleError),
        (59, Freshness::StaleError),
        (60, Freshness::Gone),
    ] {
        assert_eq!(entry.age(NOW_MS + age), freshness, "{age}");
        assert_eq!(entry.left(NOW_MS + age), Duration::from_millis(60 - age));
    }
    assert_eq!(entry.age(NOW_MS - 5), Freshness::Fresh, "a clock that is behind");
    let forever = Entry { fresh_ms: u64::MAX, stale_while_ms: u64::MAX, ..entry };
    assert_eq!((forever.age(u64::MAX - 1), forever.ttl()), (Freshness::Fresh, Duration::from_millis(u64::MAX)));
    assert_eq!(forever.within(Duration::from_secs(1), NOW_MS - 1).ttl(), Duration::from_millis(2030));
}

#[test]
fn an_entry_weighs_more_than_its_contents() {
    assert!(entry(b"12345678").weight() > 8 + 4 + 2 * 16 + OVERHEAD_BYTES);
}

#[test]
fn the_payload_is_not_copied() {
    let bytes = entry(b"payload").encode(&key(1));
    let range = bytes.as_ptr_range();
    let read = Entry::decode_at(&key(1), bytes, NOW_MS).unwrap();
    assert!(range.contains(&read.payload.as_ptr()));
}

#[test]
fn what_is_not_right_is_no_entry() {
    let bytes = entry(b"payload").encode(&key(1));
    let decode = |bytes: Bytes, now_ms| Entry::decode_at(&key(1), bytes, now_ms);
    assert_eq!(decode(bytes.clone(), NOW_MS), Ok(entry(b"payload")));
    assert_eq!(Entry::decode_at(&key(2), bytes.clone(), NOW_MS), Err(Unreadable::OtherKey));
    assert_eq!(decode(Bytes::new(), NOW_MS), Err(Unreadable::Format));
    assert_eq!(decode(Bytes::from_static(&[1]), NOW_MS), Err(Unreadable::Fields));
    assert_eq!(decode(bytes.clone(), NOW_MS - 60_000), Ok(entry(b"payload")));
    assert_eq!(decode(bytes.clone(), NOW_MS - 60_001), Err(Unreadable::Future));
}

/// Whoever puts a value there can make its digest right, too.
#[test]
fn claimed_lengths_are_not_believed() {
    let bytes = entry(b"payload").encode(&key(1));
    let body = &bytes[..bytes.len() - DIGEST_BYTES];
    for at in [HEAD_BYTES - 8, HEAD_BYTES - 4] {
        for claimed in [3u32, 100, 255, 256, 257, u32::MAX] {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&claimed.to_le_bytes());
            let read = Entry::decode_at(&key(1), sealed(body), NOW_MS);
            if claimed > 3 {
                assert_eq!(read, Err(Unreadable::Fields), "{claimed} at {at}");
            }
        }
    }
    let mut body = body.to_vec();
    body[HEAD_BYTES] = 0xff;
    assert_eq!(Entry::decode_at(&key(1), sealed(body), NOW_MS), Err(Unreadable::Fields), "no UTF-8");
}

fn entries() -> impl Strategy<Value = Entry> {
    let numbers = prop::array::uniform5(any::<u64>());
    let scopes = prop::collection::vec(any::<[u8; 16]>(), 0..5);
    (".{0,40}", numbers, 0..=NOW_MS, scopes, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(tenant, [fresh_ms, stale_while_ms, stale_error_ms, seq, saved_us], created_ms, scopes, payload)| Entry {
            tenant: tenant.into(),
            created_ms,
            fresh_ms,
            stale_while_ms,
            stale_error_ms,
            seq,
            scopes: scopes.into_iter().map(ScopeId::from_bytes).collect(),
            saved_us,
            payload: payload.into(),
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read(entry in entries(), name in any::<[u8; 32]>()) {
        let name = Key::from_bytes(name);
        prop_assert_eq!(Entry::decode_at(&name, entry.encode(&name), NOW_MS), Ok(entry));
    }

    #[test]
    fn any_damage_is_found(entry in entries(), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let bytes = entry.encode(&key(1));
        let mut flipped = bytes.to_vec();
        flipped[at.index(bytes.len())] ^= flip;
        prop_assert!(Entry::decode_at(&key(1), flipped.into(), NOW_MS).is_err());
        let short = bytes.slice(..at.index(bytes.len()));
        prop_assert!(Entry::decode_at(&key(1), short, NOW_MS).is_err());
        prop_assert!(Entry::decode_at(&key(2), bytes, NOW_MS).is_err());
    }

    #[test]
    fn random_bytes_are_no_entry(mut bytes in prop::collection::vec(any::<u8>(), 0..300), entry: bool, seal: bool) {
        if entry && bytes.len() > Key::BYTES {
            bytes[0] = FORMAT;
            bytes[1..=Key::BYTES].fill(1);
        }
        let bytes = if seal { sealed(bytes) } else { bytes.into() };
        let read = Entry::decode_at(&key(1), bytes, NOW_MS);
        prop_assert!(read.is_err() || (entry && seal));
    }
}
