//! What is remembered: one entry, its age, and its form in Redis. Owns the form and every check on it; refuses to know
//! what the payload means.
//!
//! What Redis holds is not trusted: it may be damaged, half written, of another build or put there by somebody else.
//! Nothing is allocated by a length that it claims, and whatever is not exactly right is no entry. The digest finds
//! damage, not forgery: who may write to Redis may forge what hosts answer, as with any shared cache.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Key, ScopeId};

#[cfg(test)]
mod tests;

/// The form below. Hosts of another one take these for misses.
const FORMAT: u8 = 1;
const DIGEST_BYTES: usize = 32;
/// Format, key, six numbers, the lengths of tenant and scopes.
const HEAD_BYTES: usize = 1 + Key::BYTES + 6 * 8 + 4 + 4;
/// How far ahead another host's clock may be.
const MAX_AHEAD_MS: u64 = 60_000;
/// What an entry takes in memory beyond itself and its contents: the map's own nodes, its line in the tenant's list,
/// and what each allocation costs. Measured as 660 with half a million small ones; too much rather than too little.
const OVERHEAD_BYTES: u64 = 704;
/// More would make each look at an entry long.
pub(super) const MAX_SCOPES: usize = 256;
/// Longer names of tenants there are none.
pub(super) const MAX_TENANT_BYTES: usize = 256;

/// Something remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who pays for it, in memory and in Redis.
    pub tenant: Arc<str>,
    /// When it was made, in Unix time, by the clock of the host that made it.
    pub created_ms: u64,
    /// How long it is good, from then on.
    pub fresh_ms: u64,
    /// How long after that it may be given while it is computed again.
    pub stale_while_ms: u64,
    /// How long after that it may be given where computing fails.
    pub stale_error_ms: u64,
    /// What [`Cache::seq`](super::Cache::seq) said when computing it began.
    pub seq: u64,
    /// What it can be invalidated by, besides everything.
    pub scopes: Arc<[ScopeId]>,
    /// The time on models that a hit saves.
    pub saved_us: u64,
    /// What is remembered. It counts with its own length: let it not be a small part of a large buffer.
    pub payload: Bytes,
}

/// What an entry's age allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// To give it.
    Fresh,
    /// To give it, and to compute it again.
    StaleWhile,
    /// To give it only where computing it again fails.
    StaleError,
    /// Nothing.
    Gone,
}

/// Why bytes from Redis are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Of another build, or no entry at all.
    #[error("its format is not known")]
    Format,
    /// Of another key.
    #[error("it belongs to another key")]
    OtherKey,
    /// Not what was written.
    #[error("its digest is wrong")]
    Digest,
    /// Its lengths do not fit.
    #[error("its fields are wrong")]
    Fields,
    /// A clock is wrong.
    #[error("it was made in the future")]
    Future,
}

/// Unix time.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Entry {
    /// Now, as entries tell it: in Unix time.
    pub fn now_ms() -> u64 {
        now_ms()
    }

    /// What its age allows now, in Unix time.
    pub fn age(&self, now_ms: u64) -> Freshness {
        // The clock of the host that made it may be ahead.
        let age = now_ms.saturating_sub(self.created_ms);
        let fresh = self.fresh_ms;
        let stale_while = fresh.saturating_add(self.stale_while_ms);
        if age < fresh {
            Freshness::Fresh
        } else if age < stale_while {
            Freshness::StaleWhile
        } else if age < stale_while.saturating_add(self.stale_error_ms) {
            Freshness::StaleError
        } else {
            Freshness::Gone
        }
    }

    /// How long it is of any use, from when it was made.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.fresh_ms.saturating_add(self.stale_while_ms).saturating_add(self.stale_error_ms))
    }

    /// How much of that is left.
    pub(super) fn left(&self, now_ms: u64) -> Duration {
        self.ttl().saturating_sub(Duration::from_millis(now_ms.saturating_sub(self.created_ms)))
    }

    /// Bytes that it takes in memory.
    pub fn weight(&self) -> u64 {
        let contents = self.payload.len() + self.tenant.len() + self.scopes.len() * ScopeId::BYTES;
        contents as u64 + size_of::<Self>() as u64 + OVERHEAD_BYTES
    }

    /// The entry with none of its durations beyond `most`, and not made later than now.
    pub(super) fn within(mut self, most: Duration, now_ms: u64) -> Self {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        self.created_ms = self.created_ms.min(now_ms);
        for duration in [&mut self.fresh_ms, &mut self.stale_while_ms, &mut self.stale_error_ms] {
            *duration = (*duration).min(most);
        }
        self
    }

    /// Bytes of its form in Redis.
    pub(super) fn encoded_bytes(&self) -> u64 {
        let contents = self.tenant.len() + self.scopes.len() * ScopeId::BYTES + self.payload.len();
        (HEAD_BYTES + contents + DIGEST_BYTES) as u64
    }

    /// Its form in Redis, under this key.
    pub fn encode(&self, key: &Key) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_bytes() as usize);
        bytes.put_u8(FORMAT);
        bytes.put_slice(key.as_bytes());
        for number in self.numbers() {
            bytes.put_u64_le(number);
        }
        // What does not fit its length is refused by `decode`; `put` lets none of it through.
        bytes.put_u32_le(u32::try_from(self.tenant.len()).unwrap_or(u32::MAX));
        bytes.put_u32_le(u32::try_from(self.scopes.len()).unwrap_or(u32::MAX));
        bytes.put_slice(self.tenant.as_bytes());
        for scope in &*self.scopes {
            bytes.put_slice(scope.as_bytes());
        }
        bytes.put_slice(&self.payload);
        let digest = blake3::hash(&bytes);
        bytes.put_slice(digest.as_bytes());
        bytes.freeze()
    }

    fn numbers(&self) -> [u64; 6] {
        [self.created_ms, self.fresh_ms, self.stale_while_ms, self.stale_error_ms, self.seq, self.saved_us]
    }

    /// The entry that these bytes are, if they are one of this key. The payload is a part of them, not a copy.
    pub fn decode(key: &Key, bytes: Bytes) -> Result<Self, Unreadable> {
        Self::decode_at(key, bytes, now_ms())
    }

    fn decode_at(key: &Key, mut bytes: Bytes, now_ms: u64) -> Result<Self, Unreadable> {
        if bytes.first() != Some(&FORMAT) {
            return Err(Unreadable::Format);
        }
        if bytes.len() < HEAD_BYTES + DIGEST_BYTES {
            return Err(Unreadable::Fields);
        }
        if bytes[1..=Key::BYTES] != key.as_bytes()[..] {
            return Err(Unreadable::OtherKey);
        }
        let digest = bytes.split_off(bytes.len() - DIGEST_BYTES);
        if blake3::hash(&bytes).as_bytes()[..] != digest[..] {
            return Err(Unreadable::Digest);
        }
        let mut head = bytes.split_to(HEAD_BYTES);
        head.advance(1 + Key::BYTES);
        let [created_ms, fresh_ms, stale_while_ms, stale_error_ms, seq, saved_us] = [(); 6].map(|()| head.get_u64_le());
        let (tenant_bytes, scopes) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
        if tenant_bytes > MAX_TENANT_BYTES
            || scopes > MAX_SCOPES
            || bytes.len() < tenant_bytes + scopes * ScopeId::BYTES
        {
            return Err(Unreadable::Fields);
        }
        let tenant = bytes.split_to(tenant_bytes);
        let tenant = std::str::from_utf8(&tenant).map_err(|_| Unreadable::Fields)?.into();
        let scopes = bytes.split_to(scopes * ScopeId::BYTES);
        // Whole ones, as the length above is a multiple.
        let (scopes, _) = scopes.as_chunks::<{ ScopeId::BYTES }>();
        let scopes = scopes.iter().copied().map(ScopeId::from_bytes).collect();
        if created_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(Unreadable::Future);
        }
        let payload = bytes;
        Ok(Self { tenant, created_ms, fresh_ms, stale_while_ms, stale_error_ms, seq, scopes, saved_us, payload })
    }
}
