//! The issuer's public keys, from a file that somebody else keeps fresh.
//!
//! Owns which keys are usable and when the file is read again. Refuses to know what tokens say. A host runs for months
//! and issuers change keys: the file is looked at once a second at most, whoever asks, and a new one that is broken
//! changes nothing, for half-written files are more common than bad issuers.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm as Wire, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};

use super::Algorithm;

#[cfg(test)]
mod tests;

/// Issuers publish 2 to 10 keys, with certificates 2 KiB each.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// More keys than any issuer has at once.
const MAX_KEYS: usize = 64;
/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Letters of an unknown `kid` in the log.
pub(super) const MAX_KID_SHOWN: usize = 64;

/// Why there are no keys. The messages name no path: the log line does.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum KeysError {
    #[error("the key file cannot be read: {0}")]
    File(io::Error),
    #[error("the key file is no regular file")]
    NoFile,
    #[error("the key file has more than {MAX_FILE_BYTES} bytes")]
    Long,
    #[error("the key file is no JWK set: {0}")]
    Malformed(serde_json::Error),
    #[error("the key file has {0} keys, more than the {MAX_KEYS} that are looked through")]
    Many(usize),
    #[error(
        "the key file has no key for the algorithms that are allowed (RSA for RS256, P-256 for ES256, Ed25519 for EdDSA)"
    )]
    NoneUsable,
}

/// A key and the one algorithm that it is used with.
pub(super) struct Key {
    kid: Option<String>,
    pub(super) algorithm: Wire,
    pub(super) key: DecodingKey,
}

/// The usable keys of one state of the file.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// The key for a token. One without `kid` is checked where there is no choice.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Wire) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
        if kid.is_some() {
            return fitting.find(|key| key.kid.as_deref() == kid);
        }
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }

    fn parse(text: &[u8], allowed: &[Algorithm]) -> Result<Self, KeysError> {
        let set: JwkSet = serde_json::from_slice(text).map_err(KeysError::Malformed)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeysError::Many(set.keys.len()));
        }
        // Unusable keys are passed over (RFC 7517, 5): an issuer may have others for others.
        let keys: Vec<Key> = set.keys.iter().filter_map(|jwk| usable(jwk, allowed)).collect();
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(Self(keys)) }
    }
}

/// A key fits one algorithm by its kind, whatever tokens claim.
fn usable(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::Es256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDsa,
        _ => return None,
    };
    let for_this = jwk.common.key_algorithm.is_none_or(|own| own == algorithm.wire().into());
    let to_sign = jwk.common.public_key_use.as_ref().is_none_or(|own| *own == PublicKeyUse::Signature);
    if !for_this || !to_sign || !allowed.contains(&algorithm) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { kid: jwk.common.key_id.clone(), algorithm: algorithm.wire(), key })
}

/// By what a changed file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// A file put in another's place can have its time and length.
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, KeysError> {
        let metadata = std::fs::metadata(path).map_err(KeysError::File)?;
        if !metadata.is_file() {
            return Err(KeysError::NoFile); // reading a pipe could wait for ever
        }
        Ok(Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() })
    }
}

/// The file and what was last in it.
pub(super) struct KeyFile {
    path: PathBuf,
    keys: ArcSwap<Keys>,
    /// When it was last looked at, in milliseconds since 1970.
    looked_ms: AtomicU64,
    /// What was last seen there, usable or not; none where there was nothing.
    seen: Mutex<Option<Stamp>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("KeyFile")
            .field("path", &self.path)
            .field("keys", &self.current().0.len())
            .finish_non_exhaustive()
    }
}

impl KeyFile {
    pub(super) fn load(path: &Path, allowed: &[Algorithm], now: SystemTime) -> Result<Self, KeysError> {
        // The stamp before the content: what changes in between is seen at the next look.
        let stamp = Stamp::of(path)?;
        let keys = ArcSwap::from_pointee(read(path, allowed)?);
        Ok(Self { path: path.into(), keys, looked_ms: AtomicU64::new(millis(now)), seen: Mutex::new(Some(stamp)) })
    }

    pub(super) fn current(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Reads the file again if it is time to look and it has changed. Of many callers one looks; the others go on with
    /// the keys that are there.
    pub(super) fn look(&self, allowed: &[Algorithm], now: SystemTime) {
        let (now, looked) = (millis(now), self.looked_ms.load(Relaxed));
        // A clock that was set back must not put off the next look.
        if u128::from(now.abs_diff(looked)) < LOOK_EVERY.as_millis()
            || self.looked_ms.compare_exchange(looked, now, Relaxed, Relaxed).is_err()
        {
            return;
        }
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let stamp = Stamp::of(&self.path);
        let now_there = stamp.as_ref().ok().copied();
        if *seen == now_there {
            return;
        }
        // Taken note of whether or not it is usable, so that a broken file is read once and warned of once.
        *seen = now_there;
        match stamp.and_then(|_| read(&self.path, allowed)) {
            Ok(keys) => {
                tracing::info!(path = %self.path.display(), keys = keys.0.len(), "the issuer's keys were read again");
                self.keys.store(Arc::new(keys));
            }
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the issuer's keys stay as they were"),
        }
    }
}

fn read(path: &Path, allowed: &[Algorithm]) -> Result<Keys, KeysError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(KeysError::File)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(KeysError::File)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(KeysError::Long);
    }
    Keys::parse(&text, allowed)
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
