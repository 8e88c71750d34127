//! Which revisions are in traffic.

use super::*;
use crate::registry::{BlobRef, Record};

#[test]
fn a_revision_is_in_traffic_by_number_and_content() {
    let (tenant, function) = (|| "shop".to_owned(), || "stamp".to_owned());
    let added = |number: u64, traffic| Change::RevisionAdded {
        tenant: tenant(),
        function: function(),
        number,
        manifest: BlobRef::of(b"manifest"),
        component: BlobRef::of(b"component"),
        digest: format!("digest-{number}"),
        traffic,
    };
    let changes = [added(1, Some(Split::all(1))), added(2, Some(Split::all(2))), added(3, None)];
    let state = (1..).zip(changes).fold(State::default(), |state, (n, change)| {
        let (by, mark) = ("operator".to_owned(), n.to_string());
        state.apply(&Record { n, at_ms: n, by, why: None, mark, change }).unwrap()
    });
    let is = |function, number, digest| is_in_traffic(&state, ("shop", function), (number, digest));
    assert!(is("stamp", 2, "digest-2"));
    // Out of traffic, of another content, of another function, not there.
    assert!(!is("stamp", 1, "digest-1") && !is("stamp", 3, "digest-3"));
    assert!(!is("stamp", 2, "digest-1") && !is("other", 2, "digest-2") && !is("stamp", 9, "digest-9"));
}
