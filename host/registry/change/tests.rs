//! Records on paper: forms that stay, and what is refused.

use super::*;

fn key(id: &str) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        tenant: Some("acme".into()),
        name: "ci".into(),
        hash: blake3::hash(id.as_bytes()).into(),
        scopes: crate::access::Scope::Invoke.into(),
        created_ms: 1,
        expires_ms: None,
        replaced: None,
    }
}

fn all_kinds() -> Vec<Change> {
    let (tenant, function) = (|| "acme".to_owned(), || "rank".to_owned());
    let blob = || BlobRef::of(b"x");
    vec![
        Change::TenantSet { tenant: tenant(), settings: TenantSettings::default() },
        Change::TenantRemoved { tenant: tenant() },
        Change::KeyAdded { key: key("a") },
        Change::KeyRevoked { id: "a".into() },
        Change::KeyRotated { old: "a".into(), old_expires_ms: 5, key: key("b") },
        Change::RevisionAdded {
            tenant: tenant(),
            function: function(),
            number: 1,
            manifest: blob(),
            component: blob(),
            digest: "d".into(),
            traffic: Some(Split::all(1)),
        },
        Change::TrafficSet { tenant: tenant(), function: function(), split: Split::all(1), clears_quarantine: true },
        Change::RolledBack { tenant: tenant(), function: function() },
        Change::quarantined("acme", "rank", 1, "traps"),
        Change::FunctionRemoved { tenant: tenant(), function: function() },
    ]
}

#[test]
fn every_kind_is_known_comes_back_and_is_small() {
    let author = Author { by: "b".repeat(bounds::BY_BYTES), why: Some("w".repeat(10_000)) };
    let kinds: Vec<String> = all_kinds()
        .into_iter()
        .map(|change| {
            assert_eq!(change.validate(), Ok(()), "{change:?}");
            let record = Record::new(7, 1, &author, change).unwrap();
            assert_eq!(record.validate(), Ok(()));
            let text = serde_json::to_vec(&record).unwrap();
            assert!(text.len() < 4096, "{}", text.len());
            assert_eq!(Record::read(7, &text).unwrap(), record);
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            value["change"]["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, KINDS);
}

#[test]
fn the_form_in_the_log_stays() {
    let text = r#"{"n":12,"at_ms":1790000000000,"by":"key_ab12","why":"slow","mark":"00","change":{"kind":"rolled-back","tenant":"acme","function":"rank"}}"#;
    let record = Record::read(12, text.as_bytes()).unwrap();
    assert_eq!(record.change, Change::RolledBack { tenant: "acme".into(), function: "rank".into() });
    assert_eq!(serde_json::to_string(&record).unwrap(), text);
}

#[test]
fn what_cannot_be_read_says_why() {
    let cases = [
        (r#"{"n":1,"at_ms":1,"by":"x","mark":"","change":{"kind":"shadowed","x":1}}"#, "newer host"),
        (
            r#"{"n":2,"at_ms":1,"by":"x","mark":"","change":{"kind":"key-revoked","id":"a"}}"#,
            "says that it is record 2",
        ),
        (r#"{"n":1,"at_ms":1,"by":"x","mark":"","change":{"kind":"key-revoked"}}"#, "missing field `id`"),
        ("", "EOF"),
        ("\0\0\0", "expected value"),
    ];
    for (text, expected) in cases {
        let error = Record::read(1, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_a_newer_host_adds_to_a_known_kind_is_passed_over() {
    let text = r#"{"n":1,"at_ms":1,"by":"x","mark":"","hue":1,"change":{"kind":"key-revoked","id":"a","more":2}}"#;
    assert_eq!(Record::read(1, text.as_bytes()).unwrap().change, Change::KeyRevoked { id: "a".into() });
}

#[test]
fn names_that_could_leave_their_place_are_refused() {
    for bad in ["", "../x", "a/b", "A"] {
        let (tenant, function) = (|| "acme".to_owned(), || bad.to_owned());
        assert!(Change::FunctionRemoved { tenant: tenant(), function: function() }.validate().is_err(), "{bad}");
        assert!(Change::TenantRemoved { tenant: function() }.validate().is_err(), "{bad}");
        assert!(Change::KeyRevoked { id: function() }.validate().is_err(), "{bad}");
    }
    assert_eq!(Change::quarantined("a", "b", 1, &"\n".repeat(1000)).validate(), Ok(()));
    let huge = BlobRef { bytes: bounds::BLOB_BYTES + 1, ..BlobRef::of(b"x") };
    assert!(huge.validate().is_err());
    assert!(
        Change::Quarantined { tenant: "a".into(), function: "b".into(), revision: 1, reason: String::new() }
            .validate()
            .is_err()
    );
}
