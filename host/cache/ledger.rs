//! What each tenant holds in Redis, as far as this host wrote it. Owns the sums and when they go down; refuses to know
//! Redis, which is not asked: a tenant above its quota has nothing more written until what it holds has expired.
//!
//! An estimate with a bound, not an account: what Redis evicts early counts on, and so does an entry that is written
//! again after its first writing has left the short list of those that are remembered. Both err to the careful side.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Key;

/// Times of expiry that are told apart for each tenant. Beyond that the two nearest are taken for the later one.
const MAX_BUCKETS: usize = 64;
/// Nearer ones are not told apart.
const BUCKET_MS: u64 = 1000;
/// Keys of each generation whose writing is remembered, so that writing them again counts once.
const GENERATION_KEYS: usize = 8192;
/// Tenants with something in Redis; beyond them nothing is written for new ones.
const MAX_TENANTS: usize = 16_384;
/// What a key takes in Redis beyond its value.
const KEY_BYTES: u64 = 160;

/// What was written under a key.
struct Written {
    tenant: Arc<str>,
    bytes: u64,
    expires_ms: u64,
}

/// What a tenant holds, by when it expires.
#[derive(Default)]
struct Holding {
    bytes: u64,
    buckets: BTreeMap<u64, u64>,
}

impl Holding {
    fn expire(&mut self, now_ms: u64) {
        while let Some(bucket) = self.buckets.first_entry()
            && *bucket.key() <= now_ms
        {
            self.bytes -= bucket.remove();
        }
    }

    fn add(&mut self, bytes: u64, expires_ms: u64) {
        *self.buckets.entry(expires_ms).or_default() += bytes;
        self.bytes += bytes;
        if self.buckets.len() > MAX_BUCKETS {
            self.merge_nearest();
        }
    }

    fn merge_nearest(&mut self) {
        let gaps = self.buckets.keys().zip(self.buckets.keys().skip(1));
        let Some((&earlier, &later)) = gaps.min_by_key(|(earlier, later)| *later - *earlier) else { return };
        let bytes = self.buckets.remove(&earlier).unwrap_or_default();
        *self.buckets.entry(later).or_default() += bytes;
    }

    /// Takes back what was added, from the bucket that it is in now.
    fn remove(&mut self, bytes: u64, expires_ms: u64) {
        if let Some((_, bucket)) = self.buckets.range_mut(expires_ms..).next() {
            let bytes = bytes.min(*bucket);
            *bucket -= bytes;
            self.bytes -= bytes;
        }
    }
}

struct Books {
    default_bytes: u64,
    quotas: HashMap<Arc<str>, u64>,
    holdings: HashMap<Arc<str>, Holding>,
    young: HashMap<Key, Written>,
    old: HashMap<Key, Written>,
}

impl Books {
    fn take(&mut self, key: &Key) -> Option<Written> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    fn release(&mut self, key: &Key) -> Option<Written> {
        let written = self.take(key)?;
        if let Some(holding) = self.holdings.get_mut(&written.tenant) {
            holding.remove(written.bytes, written.expires_ms);
        }
        Some(written)
    }

    fn note(&mut self, key: Key, written: Written) {
        if self.young.len() >= GENERATION_KEYS {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, written);
    }

    fn charge(&mut self, tenant: &Arc<str>, bytes: u64, expires_ms: u64, now_ms: u64) -> bool {
        if !self.holdings.contains_key(tenant) && self.holdings.len() >= MAX_TENANTS {
            self.holdings.retain(|_, holding| {
                holding.expire(now_ms);
                holding.bytes > 0
            });
            if self.holdings.len() >= MAX_TENANTS {
                return false;
            }
        }
        let quota = self.quotas.get(tenant).copied().unwrap_or(self.default_bytes);
        let holding = self.holdings.entry(tenant.clone()).or_default();
        holding.expire(now_ms);
        let fits = holding.bytes.saturating_add(bytes) <= quota;
        if fits {
            holding.add(bytes, expires_ms);
        }
        fits
    }
}

/// What tenants hold in Redis.
pub(super) struct Ledger(Mutex<Books>);

impl Ledger {
    /// Each tenant may hold so much if nothing else is said.
    pub(super) fn new(default_bytes: u64) -> Self {
        Self(Mutex::new(Books {
            default_bytes,
            quotas: HashMap::new(),
            holdings: HashMap::new(),
            young: HashMap::new(),
            old: HashMap::new(),
        }))
    }

    /// Whether so much may be written under this key; if so, it counts until it expires.
    pub(super) fn charge(&self, key: Key, tenant: &Arc<str>, bytes: u64, (now_ms, expires_ms): (u64, u64)) -> bool {
        let bytes = bytes.saturating_add(KEY_BYTES);
        let expires_ms = expires_ms.div_ceil(BUCKET_MS).saturating_mul(BUCKET_MS);
        let mut books = self.lock();
        let before = books.release(&key);
        let fits = books.charge(tenant, bytes, expires_ms, now_ms);
        if fits {
            books.note(key, Written { tenant: tenant.clone(), bytes, expires_ms });
        } else if let Some(before) = before {
            // It is in Redis still.
            if let Some(holding) = books.holdings.get_mut(&before.tenant) {
                holding.add(before.bytes, before.expires_ms);
            }
            books.note(key, before);
        }
        fits
    }

    /// It was not written after all, or deleted.
    pub(super) fn release(&self, key: &Key) {
        self.lock().release(key);
    }

    /// What this tenant may hold; the default again if nothing is said.
    pub(super) fn set_quota(&self, tenant: &str, bytes: Option<u64>) {
        let mut books = self.lock();
        match bytes {
            Some(bytes) => drop(books.quotas.insert(tenant.into(), bytes)),
            None => drop(books.quotas.remove(tenant)),
        }
    }

    /// What all tenants hold.
    pub(super) fn bytes(&self, now_ms: u64) -> u64 {
        let mut books = self.lock();
        books.holdings.retain(|_, holding| {
            holding.expire(now_ms);
            holding.bytes > 0
        });
        books.holdings.values().map(|holding| holding.bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // sums that are an estimate anyway
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: u64 = 1000 - KEY_BYTES;

    fn key(n: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Key::from_bytes(bytes)
    }

    #[test]
    fn above_the_quota_nothing_is_written_until_something_expires() {
        let (ledger, tenant) = (Ledger::new(3000), "a".into());
        let charge = |n, now_ms, ttl_ms| ledger.charge(key(n), &tenant, VALUE, (now_ms, now_ms + ttl_ms));
        assert!(charge(1, 0, 5000) && charge(2, 0, 9000) && charge(3, 0, 9000));
        assert!(!charge(4, 0, 9000));
        assert!(ledger.charge(key(9), &"b".into(), VALUE, (0, 1000)), "another tenant's is not its");
        assert!(!charge(4, 4999, 9000) && charge(4, 5000, 9000) && !charge(5, 5000, 9000));
        assert_eq!((ledger.bytes(5000), ledger.bytes(9000), ledger.bytes(14_000)), (3000, 1000, 0));
        assert!(ledger.lock().holdings.is_empty());
    }

    #[test]
    fn a_key_written_again_counts_once() {
        let (ledger, tenant) = (Ledger::new(2000), "a".into());
        for now_ms in 0..1000 {
            assert!(ledger.charge(key(1), &tenant, VALUE, (now_ms * 100, now_ms * 100 + 86_400_000)), "{now_ms}");
        }
        assert_eq!(ledger.bytes(100_000), 1000);
        assert!(!ledger.charge(key(1), &tenant, 5000, (100_000, 200_000)));
        assert_eq!(ledger.bytes(100_000), 1000, "what could not be replaced is there still");
        ledger.release(&key(1));
        ledger.release(&key(2));
        assert_eq!(ledger.bytes(100_000), 0);
    }

    #[test]
    fn quotas_of_single_tenants() {
        let (ledger, tenant) = (Ledger::new(1000), "a".into());
        ledger.set_quota("a", Some(2000));
        assert!(ledger.charge(key(1), &tenant, VALUE, (0, 9000)) && ledger.charge(key(2), &tenant, VALUE, (0, 9000)));
        ledger.set_quota("a", None);
        assert!(!ledger.charge(key(3), &tenant, 1, (0, 9000)));
        ledger.set_quota("a", Some(0));
        assert!(!ledger.charge(key(3), &tenant, 1, (9000, 10_000)));
    }

    #[test]
    fn the_books_are_bounded_and_never_expire_early() {
        let (ledger, tenant) = (Ledger::new(u64::MAX), Arc::<str>::from("a"));
        let expiries: Vec<u64> = (0..3 * GENERATION_KEYS as u64).map(|n| 1000 + (n * 7919) % 86_400_000).collect();
        for (n, expires_ms) in expiries.iter().enumerate() {
            assert!(ledger.charge(key(n), &tenant, VALUE, (0, *expires_ms)));
        }
        {
            let books = ledger.lock();
            assert!(books.holdings["a"].buckets.len() <= MAX_BUCKETS);
            assert!(books.young.len() + books.old.len() <= 2 * GENERATION_KEYS);
        }
        for now_ms in (0..90_000_000).step_by(1_000_000) {
            let alive = expiries.iter().filter(|expires_ms| **expires_ms > now_ms).count() as u64;
            assert!(ledger.bytes(now_ms) >= alive * 1000, "at {now_ms}");
        }
        assert_eq!(ledger.bytes(90_000_000), 0);
    }
}
