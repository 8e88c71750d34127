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
}

impl KeyRecord {
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
}
