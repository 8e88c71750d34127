//! Names of what is remembered. Owns how a key is made of parts, so that different parts never meet in one key; refuses
//! to know what the parts are.
//!
//! A key is all that keeps tenants apart in the cache: so domain and tenant are not parts among others but stand before
//! them always, and whatever follows is framed, so that no choice of parts looks like another one.

use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

/// What the hash is made for; another form of the parts below takes another one.
const CONTEXT: &str = "tenon cache key 1";
/// Frames: a part, and what stands before and after a list of them.
const PART: u8 = 1;
const LIST: u8 = 2;
const END: u8 = 3;

/// The name of one entry, in memory and in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// How long it is.
    pub const BYTES: usize = 32;

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The key that has these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes in 64 lower-case digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Bytes in lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Makes a [`Key`] of parts.
/// Boxed, because a hasher has two kilobytes, and adding a part hands it on.
#[derive(Clone, Debug)]
pub struct KeyBuilder(Box<blake3::Hasher>);

impl KeyBuilder {
    /// Begins a key. The domain says what kind of thing is remembered (a response, a row): one kind never finds another.
    pub fn new(domain: &'static str, tenant: &str) -> Self {
        static BEGUN: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(CONTEXT));
        Self(Box::new(BEGUN.clone())).part(domain.as_bytes()).part(tenant.as_bytes())
    }

    /// Adds a part.
    #[must_use]
    pub fn part(mut self, part: &[u8]) -> Self {
        frame(&mut self.0, part);
        self
    }

    /// Adds a list of parts, which is another thing than each of them added alone.
    #[must_use]
    pub fn parts<P: AsRef<[u8]>>(mut self, parts: impl IntoIterator<Item = P>) -> Self {
        self.0.update(&[LIST]);
        for part in parts {
            frame(&mut self.0, part.as_ref());
        }
        self.0.update(&[END]);
        self
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

/// Its length stands before a part, so that `ab`, `c` differs from `a`, `bc`.
pub(super) fn frame(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&[PART]).update(&(part.len() as u64).to_le_bytes()).update(part);
}

#[cfg(test)]
mod tests;
