//! Keys, their neighbours, and what is shown of them.

use proptest::prelude::*;

use super::*;

#[test]
fn a_key_is_recognised_and_its_neighbours_are_not() {
    let (key, other) = (NewKey::make().unwrap(), NewKey::make().unwrap());
    assert_eq!(key.text.len(), 81);
    assert_eq!(Presented::parse(&key.text), Some(Presented { id: key.id, hash: key.hash }));
    assert!(other.id != key.id && other.hash != key.hash);
    // Another's id before this secret is another key.
    let swapped = key.text.replace(key.id.as_str(), other.id.as_str());
    assert_ne!(Presented::parse(&swapped).unwrap().hash, key.hash);
}

#[test]
fn what_is_malformed_is_no_key() {
    let text = NewKey::make().unwrap().text;
    let with = |at: usize, byte: &str| format!("{}{byte}{}", &text[..at], &text[at + byte.len()..]);
    let (id, bar, secret) = (4, 16, 17);
    for wrong in [
        String::new(),
        text[1..].into(),
        format!("{text}0"),
        with(0, "T"),
        with(id, "A"),
        with(id, "1"),
        with(id, "_"),
        with(bar - 1, "é"),
        with(bar, "-"),
        with(secret, "A"),
        with(secret, "g"),
        with(80, " "),
        with(79, "é"),
        format!("tnk_{}", "é".repeat(100)),
    ] {
        assert_eq!(Presented::parse(&wrong), None, "{wrong}");
    }
    assert!(Presented::is_meant("tnk_x") && !Presented::is_meant("eyJ"));
}

#[test]
fn what_is_kept_and_printed_has_no_secret() {
    let key = NewKey::make().unwrap();
    let presented = Presented::parse(&key.text).unwrap();
    let secret = &key.text[17..];
    let kept = serde_json::to_string(&(key.id, key.hash)).unwrap();
    assert_eq!(kept, format!(r#"["{}","{}"]"#, key.id, key.hash));
    assert_eq!(serde_json::from_str::<(KeyId, KeyHash)>(&kept).unwrap(), (key.id, key.hash));
    for text in [kept, format!("{key:?}"), format!("{presented:?}")] {
        assert!(text.contains(key.id.as_str()) && !text.contains(&secret[..8]), "{text}");
    }
    for wrong in [r#""""#, r#""0""#, r#"7"#, &format!(r#""{}""#, "g".repeat(64))] {
        assert!(serde_json::from_str::<KeyId>(wrong).is_err() && serde_json::from_str::<KeyHash>(wrong).is_err());
    }
}

proptest! {
    #[test]
    fn any_letter_in_any_place_is_judged_by_its_place(at in 0usize..81, letter in any::<char>(), ascii in 32u8..127) {
        let key = NewKey::make().unwrap();
        for letter in [letter, char::from(ascii)] {
            let text = format!("{}{letter}{}", &key.text[..at], &key.text[at + 1..]);
            let fits = match at {
                4..=15 => matches!(letter, 'a'..='z' | '2'..='7'),
                17.. => matches!(letter, 'a'..='f' | '0'..='9'),
                _ => key.text[at..].starts_with(letter),
            };
            let parsed = Presented::parse(&text);
            prop_assert_eq!(parsed.is_some(), fits);
            prop_assert_eq!(parsed.is_some_and(|parsed| parsed.hash == key.hash), text == key.text);
        }
    }

    #[test]
    fn any_text_is_taken_apart_without_harm(text in "(tnk_)?.{0,90}") {
        prop_assert_eq!(Presented::parse(&text), None);
    }
}
