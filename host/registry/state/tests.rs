//! The fold, rule by rule, and against random histories.

use proptest::prelude::*;

use super::super::{
    change::Author,
    error::{CONFLICT, INVALID, NOT_FOUND, QUOTA},
    settings::TenantLimits,
    split::{Share, Split, Sticky},
};
use super::*;

/// A state and the clock of its records.
#[derive(Default)]
struct Story {
    state: State,
    at_ms: u64,
}

impl Story {
    fn try_to(&mut self, change: Change) -> Result<(), Refused> {
        let author = Author { by: "operator".into(), why: None };
        let record = Record::new(self.state.n + 1, self.at_ms, &author, change).unwrap();
        let before = self.state.clone();
        let after = self.state.apply(&record);
        assert_eq!(self.state, before, "a state never changes under its holder");
        self.state = after?;
        Ok(())
    }

    fn to(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        for change in changes {
            let told = format!("{change:?}");
            self.try_to(change).unwrap_or_else(|refused| panic!("{told}: {refused}"));
        }
        self
    }

    fn refused(&mut self, change: Change) -> &'static str {
        self.try_to(change).unwrap_err().code
    }

    fn rank(&self) -> &FunctionState {
        self.state.function("acme", "rank").unwrap()
    }

    fn serving(&self) -> Vec<u64> {
        self.rank().traffic.iter().flat_map(Split::revisions).collect()
    }
}

fn added(function: &str, number: u64, traffic: Option<Split>) -> Change {
    let content = format!("{function} {number}");
    Change::RevisionAdded {
        tenant: "acme".into(),
        function: function.into(),
        number,
        manifest: BlobRef::of(b"manifest"),
        component: BlobRef::of(content.as_bytes()),
        digest: content.replace(' ', "-"),
        traffic,
    }
}

fn promoted(number: u64) -> Change {
    added("rank", number, Some(Split::all(number)))
}

fn split(numbers: &[u64]) -> Split {
    Split { shares: numbers.iter().map(|&revision| Share { revision, weight: 1 }).collect(), sticky: Sticky::None }
}

fn traffic(numbers: &[u64], clears_quarantine: bool) -> Change {
    Change::TrafficSet { tenant: "acme".into(), function: "rank".into(), split: split(numbers), clears_quarantine }
}

fn back() -> Change {
    Change::RolledBack { tenant: "acme".into(), function: "rank".into() }
}

fn removed() -> Change {
    Change::FunctionRemoved { tenant: "acme".into(), function: "rank".into() }
}

fn bad(number: u64) -> Change {
    Change::quarantined("acme", "rank", number, "traps")
}

fn key(id: &str, tenant: Option<&str>, expires_ms: Option<u64>) -> KeyRecord {
    let hash = blake3::hash(id.as_bytes()).into();
    let tenant = tenant.map(str::to_owned);
    KeyRecord {
        id: id.into(),
        tenant,
        name: id.into(),
        hash,
        scopes: crate::access::Scope::Invoke.into(),
        created_ms: 0,
        expires_ms,
        replaced: None,
    }
}

fn keyed(id: &str, expires_ms: Option<u64>) -> Change {
    Change::KeyAdded { key: key(id, Some("acme"), expires_ms) }
}

fn limited(limits: TenantLimits) -> Change {
    Change::TenantSet { tenant: "acme".into(), settings: TenantSettings { limits, ..TenantSettings::default() } }
}

#[test]
fn a_revision_serves_when_it_is_promoted() {
    let story = Story::default().to([added("rank", 1, None)]);
    assert!(story.serving().is_empty());
    let story = story.to([promoted(2), traffic(&[1, 2], false)]);
    assert_eq!(story.serving(), [1, 2]);
    assert_eq!(story.rank().previous, [Split::all(2)]);
    let what: Vec<_> = story.rank().history.iter().map(|event| &event.what[..]).collect();
    assert_eq!(what, ["revision 1 added", "revision 2 added, traffic to 2", "traffic to 1 by 1, 2 by 1"]);
}

#[test]
fn numbers_follow_each_other_and_never_come_back() {
    let mut story = Story::default().to([promoted(1)]);
    for number in [0, 1, 3, u64::MAX] {
        assert_eq!(story.refused(promoted(number)), CONFLICT, "{number}");
    }
    let mut story = story.to([promoted(2), removed()]);
    assert_eq!(story.state.last_number("acme", "rank"), 2);
    assert_eq!(story.refused(traffic(&[1], false)), NOT_FOUND);
    assert_eq!(story.refused(removed()), NOT_FOUND);
    assert_eq!(story.refused(promoted(1)), CONFLICT);
    let story = story.to([promoted(3)]);
    assert_eq!(story.rank().revisions.keys().collect::<Vec<_>>(), [&3]);
    assert!(story.rank().previous.is_empty() && story.state.functions["acme"].retired.is_empty());
}

#[test]
fn the_same_revision_is_not_kept_twice() {
    let mut story = Story::default().to([promoted(1)]);
    let Change::RevisionAdded { tenant, function, manifest, component, digest, traffic, .. } = promoted(1) else {
        unreachable!()
    };
    let again = Change::RevisionAdded { tenant, function, number: 2, manifest, component, digest, traffic };
    assert_eq!(story.refused(again), CONFLICT);
    assert_eq!(story.rank().with_digest("rank-1").unwrap().number, 1);
}

#[test]
fn going_back_goes_further_each_time_and_past_what_cannot_serve() {
    let mut story = Story::default().to([promoted(1), promoted(2), promoted(3), promoted(4), back()]);
    assert_eq!(story.serving(), [3]);
    story = story.to([bad(2), back()]);
    assert_eq!(story.serving(), [1]);
    assert_eq!(story.refused(back()), CONFLICT);
}

#[test]
fn quarantine_takes_a_revision_out() {
    let mut story = Story::default().to([promoted(1), promoted(2), traffic(&[1, 2], false), bad(2)]);
    assert_eq!(story.serving(), [1]);
    assert_eq!(story.refused(bad(2)), CONFLICT);
    assert_eq!(story.refused(bad(9)), NOT_FOUND);
    assert_eq!(story.refused(traffic(&[2], false)), CONFLICT);
    // The only one left, and what was before it is in quarantine or is itself.
    story = story.to([added("rank", 3, None), traffic(&[3], false), bad(3)]);
    assert_eq!(story.serving(), [1]);
    assert_eq!(story.refused(bad(1)), CONFLICT);
    assert_eq!(story.rank().revisions[&1].quarantined, None, "refused is refused altogether");
    story = story.to([traffic(&[2], true)]);
    assert_eq!(story.serving(), [2]);
    assert_eq!(story.rank().revisions[&2].quarantined, None);
}

#[test]
fn what_traffic_names_is_kept_and_the_newest() {
    let mut story = Story::default().to((1..=3).map(promoted));
    story = story.to((4..=40).map(|number| added("rank", number, None)));
    let kept: Vec<u64> = story.rank().revisions.keys().copied().collect();
    assert_eq!(kept, [1, 2, 3].into_iter().chain(25..=40).collect::<Vec<_>>());
    assert_eq!(story.refused(traffic(&[20], false)), NOT_FOUND);
    // Eight steps later nothing names the first ones.
    let story = story.to((41..=49).map(promoted));
    assert_eq!(story.rank().previous.len(), 8);
    assert_eq!(*story.rank().revisions.keys().next().unwrap(), 34);
    assert_eq!(story.rank().history.len(), 49);
    let story = story.to((50..=200).map(promoted));
    assert_eq!(story.rank().history.len(), 100);
}

#[test]
fn quotas_hold() {
    let two = TenantLimits { functions: Some(2), ..TenantLimits::default() };
    let mut story = Story::default().to([limited(two), added("rank", 1, None), added("tag", 1, None)]);
    assert_eq!(story.refused(added("more", 1, None)), QUOTA);
    story = story.to([added("tag", 2, None), removed(), added("more", 1, None)]);
    // "manifest" is counted once: 8 bytes, and "tag 1", "tag 2", "more 1".
    assert_eq!(story.state.stored_bytes("acme"), 8 + 5 + 5 + 6);
    let full = TenantLimits { stored_bytes: Some(24), ..TenantLimits::default() };
    story = story.to([limited(full)]);
    assert_eq!(story.refused(added("tag", 3, None)), QUOTA);
    let room = TenantLimits { stored_bytes: Some(29), ..TenantLimits::default() };
    story.to([limited(room), added("tag", 3, None)]);
}

#[test]
fn keys_end() {
    let mut story = Story::default().to([keyed("a", None), keyed("b", Some(10)), keyed("c", Some(50))]);
    assert_eq!(story.refused(keyed("a", None)), CONFLICT);
    assert_eq!(story.refused(Change::KeyRevoked { id: "z".into() }), NOT_FOUND);
    story = story.to([Change::KeyRevoked { id: "a".into() }]);
    assert_eq!(story.state.keys.keys().collect::<Vec<_>>(), ["b", "c"]);
    story.at_ms = 10;
    let operators = Change::KeyAdded { key: key("o", None, None) };
    story = story.to([operators]);
    assert!(story.state.keys.contains_key("b"), "another owner's change does not concern it");
    story = story.to([keyed("f", None)]);
    assert_eq!(story.state.keys.keys().collect::<Vec<_>>(), ["c", "f", "o"]);
    // A rotation does not lengthen the old one's life.
    let rotated = |old: &str, id: &str, tenant| Change::KeyRotated {
        old: old.into(),
        old_expires_ms: 90,
        key: key(id, tenant, None),
    };
    assert_eq!(story.refused(rotated("c", "d", None)), INVALID);
    assert_eq!(story.refused(rotated("x", "d", Some("acme"))), NOT_FOUND);
    assert_eq!(story.refused(rotated("c", "c", Some("acme"))), CONFLICT);
    story = story.to([rotated("c", "d", Some("acme"))]);
    assert_eq!(story.state.keys["c"].expires_ms, Some(50));
    // Nor does another one, and it leaves the key alone that was made in the first one's place.
    let lasting = story.state.keys["d"].clone();
    story = story.to([rotated("c", "g", Some("acme")), Change::KeyRevoked { id: "g".into() }]);
    assert_eq!((story.state.keys["c"].expires_ms, &story.state.keys["d"]), (Some(50), &lasting));
    assert_eq!(story.state.keys["c"].made_for_ms(), Some(50));
    story.at_ms = 100;
    story = story.to([rotated("d", "e", Some("acme"))]);
    assert_eq!(story.state.keys.keys().collect::<Vec<_>>(), ["e", "f", "o"], "the old one's time was over at once");
}

#[test]
fn a_tenant_has_so_many_keys() {
    let mut story = Story::default();
    for i in 0..bounds::KEYS_PER_TENANT {
        let record_key = key(&format!("k{i}"), Some("acme"), (i == 0).then_some(5));
        story.state.keys.insert(record_key.id.clone(), Arc::new(record_key));
    }
    assert_eq!(story.refused(keyed("more", None)), QUOTA);
    story = story.to([Change::KeyAdded { key: key("other", Some("beta"), None) }]);
    story.at_ms = 5;
    story.to([keyed("more", None)]);
}

#[test]
fn a_tenant_goes_with_its_keys_and_without_its_functions() {
    let gone = || Change::TenantRemoved { tenant: "acme".into() };
    let mut story = Story::default();
    assert_eq!(story.refused(gone()), NOT_FOUND);
    story = story.to([keyed("a", None), Change::KeyAdded { key: key("o", None, None) }, promoted(1)]);
    assert_eq!(story.refused(gone()), CONFLICT);
    story = story.to([removed(), gone(), promoted(2)]);
    assert_eq!(story.state.keys.keys().collect::<Vec<_>>(), ["o"]);
}

#[test]
fn a_record_out_of_its_place_is_refused_and_replay_goes_on() {
    let author = Author { by: "host".into(), why: None };
    let record = |n, change| Record::new(n, 0, &author, change).unwrap();
    let mut state = State::default();
    assert_eq!(state.apply(&record(2, promoted(1))).unwrap_err().code, CONFLICT);
    let nameless = Record { by: String::new(), ..record(1, promoted(1)) };
    assert_eq!(state.apply(&nameless).unwrap_err().code, INVALID);
    state.replay(&record(1, bad(1)));
    assert_eq!(state, State { n: 1, ..State::default() });
    state.replay(&record(2, promoted(1)));
    assert!(state.function("acme", "rank").is_some());
}

fn any_change() -> impl Strategy<Value = Change> {
    let ids = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        4 => (1..12_u64, any::<bool>()).prop_map(|(n, all)| added("rank", n, all.then(|| Split::all(n)))),
        3 => (prop::collection::vec(1..12_u64, 1..3), any::<bool>()).prop_map(|(n, clear)| traffic(&n, clear)),
        2 => Just(back()),
        2 => (1..12_u64).prop_map(bad),
        1 => Just(removed()),
        2 => (ids(), prop::option::of(0..200_u64)).prop_map(|(id, ends)| keyed(id, ends)),
        1 => ids().prop_map(|id| Change::KeyRevoked { id: id.into() }),
        1 => prop::option::of(0..4_u32).prop_map(|functions| limited(TenantLimits { functions, ..Default::default() })),
        1 => Just(Change::TenantRemoved { tenant: "acme".into() }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_traffic_can_be_served_and_a_snapshot_is_as_good(
        changes in prop::collection::vec(any_change(), 0..80)
    ) {
        let mut story = Story::default();
        let mut numbers = 0;
        for change in changes {
            story.at_ms += 1;
            // Half of what is tried makes no sense, and then nothing happens.
            let _ = story.try_to(change);
            let last = story.state.last_number("acme", "rank");
            prop_assert!(last >= numbers);
            numbers = last;
            let Some(rank) = story.state.function("acme", "rank") else { continue };
            for number in rank.traffic.iter().flat_map(Split::revisions) {
                prop_assert!(rank.revisions[&number].quarantined.is_none());
            }
            for number in rank.previous.iter().flat_map(Split::revisions) {
                prop_assert!(rank.revisions.contains_key(&number));
            }
        }
        let text = serde_json::to_string(&story.state).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), story.state);
    }
}
