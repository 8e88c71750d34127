//! That different parts never meet in one key.

use proptest::prelude::*;

use super::*;

fn key(tenant: &str, parts: &[&str]) -> Key {
    parts.iter().fold(KeyBuilder::new("test", tenant), |key, part| key.part(part.as_bytes())).finish()
}

#[test]
fn where_parts_end_makes_a_difference() {
    let alike = [key("t", &["ab", "c"]), key("t", &["a", "bc"]), key("t", &["abc"]), key("ta", &["bc"])];
    let lists = [
        KeyBuilder::new("test", "t").parts(["ab", "c"]).finish(),
        KeyBuilder::new("test", "t").parts(["ab"]).part(b"c").finish(),
        KeyBuilder::new("test", "t").parts(["ab"]).parts(["c"]).finish(),
        KeyBuilder::new("test", "t").parts(["ab", "c"]).parts([""; 0]).finish(),
        KeyBuilder::new("test2", "t").parts(["ab", "c"]).finish(),
    ];
    let all: std::collections::HashSet<_> = alike.iter().chain(&lists).collect();
    assert_eq!(all.len(), alike.len() + lists.len());
    assert_eq!(key("t", &["a"]), key("t", &["a"]));
}

/// Entries in Redis outlive the host that wrote them: a key must stay what it is.
#[test]
fn a_key_is_the_same_in_every_build() {
    let key = KeyBuilder::new("response", "acme").part(b"one").parts(["two", ""]).finish();
    assert_eq!(key.hex(), "84f8e6edccd84d770a4b63eff3432fecf5ab860b8b26ca37fd6d6812a870682a");
    assert_eq!(Key::from_bytes(*key.as_bytes()), key);
    assert_eq!(format!("{key:?}"), key.hex());
}

/// What a key is made of.
type Parts = Vec<Result<Vec<u8>, Vec<Vec<u8>>>>;

fn parts() -> impl Strategy<Value = Parts> {
    // Few different bytes and short parts, so that what is alike when joined comes up.
    let part = || prop::collection::vec(0u8..4, 0..3);
    let list = prop::collection::vec(part(), 0..3);
    prop::collection::vec(prop_oneof![part().prop_map(Ok), list.prop_map(Err)], 0..4)
}

fn of(tenant: &str, parts: &Parts) -> Key {
    let add = |key: KeyBuilder, part: &Result<Vec<u8>, Vec<Vec<u8>>>| match part {
        Ok(part) => key.part(part),
        Err(list) => key.parts(list),
    };
    parts.iter().fold(KeyBuilder::new("test", tenant), add).finish()
}

proptest! {
    #[test]
    fn different_parts_never_meet(a in parts(), b in parts(), one in "[a-c]{0,2}", other in "[a-c]{0,2}") {
        prop_assert_eq!(of(&one, &a) == of(&other, &b), (&one, &a) == (&other, &b));
    }

    #[test]
    fn two_tenants_with_equal_material_never_meet(a in parts(), one in ".{0,8}", other in ".{0,8}") {
        prop_assert_eq!(of(&one, &a) == of(&other, &a), one == other);
    }
}
