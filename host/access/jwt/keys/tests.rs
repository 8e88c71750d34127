//! Key files that change, break and vanish.

use std::{fs, sync::atomic::AtomicUsize};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ALL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

fn ed(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn set(kids: &[&str]) -> String {
    json!({"keys": kids.iter().map(|kid| ed(kid)).collect::<Vec<_>>()}).to_string()
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(ms)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put(text);
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("jwks.json")
    }

    fn put(&self, text: &str) {
        let partial = self.0.path().join("partial");
        fs::write(&partial, text).unwrap();
        fs::rename(partial, self.path()).unwrap();
    }
}

fn has(file: &KeyFile, kid: &str) -> bool {
    file.current().find(Some(kid), Wire::EdDSA).is_some()
}

#[test]
fn a_changed_file_is_read_within_a_second_and_not_before() {
    let folder = Folder::with(&set(&["a"]));
    let file = KeyFile::load(&folder.path(), &ALL, at(0)).unwrap();
    folder.put(&set(&["b"])); // the same length: told apart by time or inode
    file.look(&ALL, at(999));
    assert!(has(&file, "a") && !has(&file, "b"));
    file.look(&ALL, at(1000));
    assert!(!has(&file, "a") && has(&file, "b"));
    folder.put(&set(&["c"]));
    file.look(&ALL, at(1999));
    assert!(has(&file, "b"));
    // A clock that was set back by an hour puts off nothing.
    file.look(&ALL, at(0).checked_sub(Duration::from_secs(3600)).unwrap());
    assert!(has(&file, "c"));
}

#[test]
fn a_broken_file_changes_nothing_and_is_warned_of_once() {
    let folder = Folder::with(&set(&["a"]));
    let file = KeyFile::load(&folder.path(), &ALL, at(0)).unwrap();
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let mut seconds = 0;
        let mut look = |file: &KeyFile| {
            for _ in 0..3 {
                seconds += 1;
                file.look(&ALL, at(seconds * 1000));
            }
        };
        look(&file);
        assert_eq!(warnings.count(), 0);
        folder.put("{");
        look(&file);
        assert_eq!((warnings.count(), has(&file, "a")), (1, true));
        fs::remove_file(folder.path()).unwrap();
        look(&file);
        assert_eq!((warnings.count(), has(&file, "a")), (2, true));
        folder.put(&set(&["b"]));
        look(&file);
        assert_eq!((warnings.count(), has(&file, "a"), has(&file, "b")), (2, false, true));
        folder.put(r#"{"keys": []}"#);
        look(&file);
        assert_eq!((warnings.count(), has(&file, "b")), (3, true));
    });
}

#[test]
fn a_file_without_usable_keys_is_refused_at_the_start() {
    let load = |text: &str, allowed: &[Algorithm]| {
        let folder = Folder::with(text);
        KeyFile::load(&folder.path(), allowed, at(0)).map(|_| ()).unwrap_err()
    };
    assert!(matches!(load("", &ALL), KeysError::Malformed(_)));
    assert!(matches!(load("[]", &ALL), KeysError::Malformed(_)));
    assert!(matches!(load(r#"{"keys": []}"#, &ALL), KeysError::NoneUsable));
    assert!(matches!(load(&set(&["a"]), &[Algorithm::Rs256]), KeysError::NoneUsable));
    assert!(matches!(load(&set(&["a"; 65]), &ALL), KeysError::Many(65)));
    assert!(matches!(load(&format!("{}{}", set(&["a"]), " ".repeat(1 << 20)), &ALL), KeysError::Long));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(KeyFile::load(folder.path(), &ALL, at(0)), Err(KeysError::NoFile)));
    assert!(matches!(KeyFile::load(&folder.path().join("none"), &ALL, at(0)), Err(KeysError::File(_))));
}

#[test]
fn keys_for_others_are_passed_over() {
    let mut keys = vec![
        json!({"kty": "oct", "kid": "secret", "k": "AAAA"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "p384", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "k1", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "kid": "no-n", "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "bad-n", "n": "!", "e": "AQAB"}),
        json!({"kty": "new", "kid": "new"}),
    ];
    for (kid, key, value) in
        [("enc", "use", "enc"), ("odd", "use", "odd"), ("other", "alg", "RS256"), ("new", "alg", "X")]
    {
        keys.push(ed(kid));
        keys.last_mut().unwrap()[key] = value.into();
    }
    for (kid, key, value) in [("sig", "use", "sig"), ("named", "alg", "EdDSA")] {
        keys.push(ed(kid));
        keys.last_mut().unwrap()[key] = value.into();
    }
    let parsed = Keys::parse(json!({ "keys": keys }).to_string().as_bytes(), &ALL).unwrap();
    let kids: Vec<_> = parsed.0.iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!(kids, ["sig", "named"]);
    // Without a `kid` there is no choosing between two.
    assert!(parsed.find(None, Wire::EdDSA).is_none() && parsed.find(Some("sig"), Wire::EdDSA).is_some());
}

proptest! {
    #[test]
    fn no_file_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        prop_assert!(Keys::parse(&bytes, &ALL).is_err());
        let text = set(&["a", "b"]);
        let cut = cut.min(text.len() - 1);
        prop_assert!(Keys::parse(&text.as_bytes()[..cut], &ALL).is_err());
    }
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
