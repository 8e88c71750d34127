//! API keys: how one is made, recognised and compared.
//!
//! Owns the text of a key and its hash. Refuses to know where hashes are kept and what a key lets its holder do. The
//! secret is in the text alone, which is shown once, to whoever asked for the key; the host keeps the hash.
//!
//! A key reads `tnk_<id>_<secret>`: scanners know the prefix, listings and logs name the key by its id, and finding the
//! hash to compare with takes one look-up by id. The hash is BLAKE3 of the whole text. Slow hashes are for passwords,
//! which can be guessed; of 256 random bits nobody tries a noticeable part, however fast each try is.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[cfg(test)]
mod tests;

/// What a key is recognised by.
const PREFIX: &str = "tnk_";
/// 60 bits: among a million keys two are alike once in two million tries, and who keeps keys refuses the second.
const ID_BYTES: usize = 12;
/// Random bytes in a secret, which is written in hex.
const SECRET_BYTES: usize = 32;
/// All keys are so long, which is the first thing looked at.
const KEY_BYTES: usize = PREFIX.len() + ID_BYTES + 1 + 2 * SECRET_BYTES;
/// 32 letters for five bits each: base32 in lower case, without the digits that look like letters.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Names a key, and is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID_BYTES]);

/// What is kept of a key. Two are compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(blake3::Hash);

/// A key just made.
pub struct NewKey {
    /// Its name.
    pub id: KeyId,
    /// The key itself, for its holder alone.
    pub text: String,
    /// What to keep.
    pub hash: KeyHash,
}

/// A key that came with a request: well-formed, and to be compared with what is kept under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The name that it claims.
    pub id: KeyId,
    /// What to compare.
    pub hash: KeyHash,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum KeyError {
    #[error("no random bytes for a key; try again")]
    Random,
    #[error("not the id of a key, which is {ID_BYTES} letters a to z and digits 2 to 7")]
    Id,
    #[error("not the hash of a key, which is 64 hexadecimal digits")]
    Hash,
}

impl NewKey {
    /// Makes a key.
    pub fn make() -> Result<Self, KeyError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut secret)).map_err(|_| KeyError::Random)?;
        let id = KeyId(id.map(|byte| LETTERS[usize::from(byte) % LETTERS.len()]));
        let mut text = format!("{PREFIX}{id}_");
        for byte in secret {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        let hash = KeyHash::of(&text);
        Ok(Self { id, text, hash })
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Presented {
    /// Reads a bearer token. None where it is no key, which a token of an identity provider is not either. What is of the
    /// wrong length or has wrong letters costs no hash.
    pub fn parse(bearer: &str) -> Option<Self> {
        if bearer.len() != KEY_BYTES {
            return None;
        }
        let (id, secret) = bearer.strip_prefix(PREFIX)?.split_at_checked(ID_BYTES)?;
        let id = id.parse().ok()?;
        let secret = secret.strip_prefix('_')?;
        let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        secret.bytes().all(hex).then(|| Self { id, hash: KeyHash::of(bearer) })
    }

    /// Whether a bearer token wants to be a key, well-formed or not: such a one is not tried as anything else.
    pub fn is_meant(bearer: &str) -> bool {
        bearer.starts_with(PREFIX)
    }
}

impl KeyId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII letters only")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let id: [u8; ID_BYTES] = text.as_bytes().try_into().map_err(|_| KeyError::Id)?;
        if id.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) { Ok(Self(id)) } else { Err(KeyError::Id) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl KeyHash {
    /// The hash of a key's whole text.
    pub fn of(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    /// Its first eight bytes: as even as a hash is, and not enough to look for the rest.
    pub fn number(&self) -> u64 {
        let (number, _) = self.0.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        u64::from_le_bytes(*number)
    }
}

impl From<blake3::Hash> for KeyHash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash)
    }
}

impl FromStr for KeyHash {
    type Err = KeyError;

    fn from_str(hex: &str) -> Result<Self, KeyError> {
        blake3::Hash::from_hex(hex).map(Self).map_err(|_| KeyError::Hash)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}…", &self.0.to_hex()[..8])
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
