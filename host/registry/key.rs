//! Keys of callers as they are remembered: by hash, never by text. Owns their form; refuses to know how a key is made,
//! written and compared.

use serde::{Deserialize, Serialize};

use super::bounds;
use crate::access::{Scopes, key::KeyHash};

/// A key, without what is secret about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Names it in public.
    pub id: String,
    /// Whose it is; an operator's if nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// BLAKE3 of the whole key text.
    pub hash: KeyHash,
    /// What it is good for.
    pub scopes: Scopes,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// What it was before another key took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// A key in its grace: another was made in its place, and `expires_ms` is the grace's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// When it would have ended otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl KeyRecord {
    /// For how long it was made, in milliseconds; until it is revoked, if nothing is said. A rotation does not change that,
    /// or who rotates a key twice would get one that lives as long as the first one's grace.
    pub fn made_for_ms(&self) -> Option<u64> {
        let expires_ms = self.replaced.map_or(self.expires_ms, |before| before.expires_ms);
        expires_ms.map(|expires_ms| expires_ms.saturating_sub(self.created_ms))
    }

    /// The same key, which ends at this time for another in its place: never later than it would have.
    pub fn replaced(&self, ends_ms: u64) -> Self {
        let expires_ms = Some(self.expires_ms.map_or(ends_ms, |own| own.min(ends_ms)));
        let replaced = Some(self.replaced.unwrap_or(Replaced { expires_ms: self.expires_ms }));
        Self { expires_ms, replaced, ..self.clone() }
    }

    /// Whether it has ended.
    pub fn expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        bounds::name("key", &self.id)?;
        if let Some(tenant) = &self.tenant {
            bounds::name("tenant", tenant)?;
        }
        bounds::label("the name of a key", &self.name, bounds::LABEL_BYTES)?;
        if self.scopes.is_empty() {
            return Err("a key has at least one scope".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_make_no_sense_are_refused() {
        let text = format!(
            r#"{{"id":"ab12","name":"ci","hash":"{}","scopes":["invoke","deploy"],"created_ms":1}}"#,
            blake3::hash(b"secret").to_hex()
        );
        let good: KeyRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(good.validate(), Ok(()));
        let bad = [
            KeyRecord { id: "../x".into(), ..good.clone() },
            KeyRecord { tenant: Some(String::new()), ..good.clone() },
            KeyRecord { name: String::new(), ..good.clone() },
            KeyRecord { scopes: Scopes::NONE, ..good.clone() },
        ];
        assert!(bad.iter().all(|key| key.validate().is_err()));
        assert!(!good.expired(u64::MAX));
        let ending = KeyRecord { expires_ms: Some(5), ..good };
        assert!(!ending.expired(4) && ending.expired(5));
    }

    #[test]
    fn a_key_that_is_replaced_ends_no_later_and_was_made_for_as_long_as_before() {
        let lasting: KeyRecord = serde_json::from_str(&format!(
            r#"{{"id":"ab12","name":"ci","hash":"{}","scopes":["invoke"],"created_ms":10}}"#,
            blake3::hash(b"secret").to_hex()
        ))
        .unwrap();
        let ending = KeyRecord { expires_ms: Some(100), ..lasting.clone() };
        for (key, made_for_ms) in [(&lasting, None), (&ending, Some(90))] {
            assert_eq!(key.made_for_ms(), made_for_ms);
            let once = key.replaced(70);
            let again = once.replaced(200);
            assert_eq!((once.expires_ms, again.expires_ms), (Some(70), Some(70)));
            assert_eq!((once.made_for_ms(), again.made_for_ms()), (made_for_ms, made_for_ms));
            // As a snapshot of the state keeps it.
            let kept: KeyRecord = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
            assert_eq!(kept, again);
        }
        assert_eq!(ending.replaced(500).expires_ms, Some(100));
    }
}
