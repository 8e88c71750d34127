//! Entries in memory. Owns their bound in bytes and each tenant's share of it; refuses to know what makes an entry void.
//!
//! What stays is decided by how often it is asked for (TinyLFU), so that a flood of things asked for once flushes
//! nothing. That alone would let a tenant with many hot entries push out everybody else's: so each tenant has a quota, and
//! what is above it goes oldest first, of that tenant's entries alone.
//!
//! The lists of tenants are changed before an entry goes in, and by the listener when one goes, whatever the reason;
//! nothing is asked of the map while their lock is held, as its listener takes it, too. A read needs no lock of this file
//! unless its turn comes to do the map's housekeeping.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};

use super::{
    Key,
    entry::{Entry, now_ms},
};

#[cfg(test)]
mod tests;

/// A list of keys may hold this many more dead ones than live ones before it is swept.
const SLACK: usize = 64;

/// An entry, and which putting of its key it came by.
#[derive(Clone)]
struct Kept {
    entry: Entry,
    stamp: u64,
}

/// An entry as its tenant's list sees it.
struct Line {
    stamp: u64,
    bytes: u64,
}

/// What a tenant holds.
#[derive(Default)]
struct Holding {
    bytes: u64,
    live: HashMap<Key, Line>,
    /// In the order of putting; those that are not in `live` with the same stamp are gone.
    order: VecDeque<(Key, u64)>,
}

impl Holding {
    fn add(&mut self, key: Key, line: Line) {
        self.bytes += line.bytes;
        self.order.push_back((key, line.stamp));
        if let Some(before) = self.live.insert(key, line) {
            self.bytes -= before.bytes;
        }
        if self.order.len() > 2 * self.live.len() + SLACK {
            let live = &self.live;
            self.order.retain(|(key, stamp)| live.get(key).is_some_and(|line| line.stamp == *stamp));
        }
    }

    fn remove(&mut self, key: &Key, stamp: u64) {
        if self.live.get(key).is_some_and(|line| line.stamp == stamp)
            && let Some(line) = self.live.remove(key)
        {
            self.bytes -= line.bytes;
        }
    }

    /// Takes out the oldest until no more than this is left.
    fn shed(&mut self, most_bytes: u64) -> Vec<Key> {
        let mut shed = Vec::new();
        while self.bytes > most_bytes
            && let Some((key, stamp)) = self.order.pop_front()
        {
            let before = self.live.len();
            self.remove(&key, stamp);
            if self.live.len() < before {
                shed.push(key);
            }
        }
        shed
    }
}

/// What tenants hold and may hold.
struct Tenants {
    default_bytes: u64,
    quotas: HashMap<Arc<str>, u64>,
    holdings: HashMap<Arc<str>, Holding>,
}

impl Tenants {
    fn quota(&self, tenant: &str) -> u64 {
        self.quotas.get(tenant).copied().unwrap_or(self.default_bytes)
    }
}

fn lock(tenants: &Mutex<Tenants>) -> MutexGuard<'_, Tenants> {
    // A panic half-way leaves a sum wrong at worst: some tenant gets a little more or less.
    tenants.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each entry goes when its own time is over.
struct OwnTime;

impl Expiry<Key, Kept> for OwnTime {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.entry.left(now_ms()))
    }

    fn expire_after_update(&self, _: &Key, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.entry.left(now_ms()))
    }
}

/// Entries in memory, bounded in bytes.
pub(super) struct Memory {
    kept: Cache<Key, Kept>,
    tenants: Arc<Mutex<Tenants>>,
    stamps: AtomicU64,
    most_bytes: u64,
}

impl Memory {
    /// So many bytes, of which each tenant gets at most `tenant_bytes` if nothing else is said.
    pub(super) fn new(bytes: u64, tenant_bytes: u64) -> Self {
        let tenants = Tenants { default_bytes: tenant_bytes, quotas: HashMap::new(), holdings: HashMap::new() };
        let tenants = Arc::new(Mutex::new(tenants));
        let lists = tenants.clone();
        let kept = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_: &Key, kept: &Kept| u32::try_from(kept.entry.weight()).unwrap_or(u32::MAX))
            .expire_after(OwnTime)
            .eviction_listener(move |key, kept: Kept, _| {
                let mut tenants = lock(&lists);
                if let Some(holding) = tenants.holdings.get_mut(&kept.entry.tenant) {
                    holding.remove(&key, kept.stamp);
                    if holding.live.is_empty() {
                        tenants.holdings.remove(&kept.entry.tenant);
                    }
                }
            })
            .build();
        Self { kept, tenants, stamps: AtomicU64::new(0), most_bytes: bytes }
    }

    /// The entry of this key, whatever its age.
    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        self.kept.get(key).map(|kept| kept.entry)
    }

    /// Keeps an entry, and says whether it is one that can be kept; how long, the map decides.
    pub(super) fn put(&self, key: Key, entry: Entry) -> bool {
        let Some((stamp, shed)) = self.enlist(key, &entry) else {
            // What was there before is older than what cannot be kept.
            self.forget(&key);
            return false;
        };
        self.insert(key, Kept { entry, stamp });
        self.forget_all(&shed);
        true
    }

    /// Puts an entry into its tenant's list, if it may be kept: its stamp, and what has to go for it.
    fn enlist(&self, key: Key, entry: &Entry) -> Option<(u64, Vec<Key>)> {
        let bytes = entry.weight();
        let stamp = self.stamps.fetch_add(1, Relaxed);
        let mut tenants = lock(&self.tenants);
        let quota = tenants.quota(&entry.tenant);
        if bytes > quota.min(self.most_bytes) {
            return None;
        }
        let holding = tenants.holdings.entry(entry.tenant.clone()).or_default();
        holding.add(key, Line { stamp, bytes });
        Some((stamp, holding.shed(quota)))
    }

    /// Puts an entry that is in its list into the map.
    fn insert(&self, key: Key, kept: Kept) {
        let (tenant, stamp) = (kept.entry.tenant.clone(), kept.stamp);
        self.kept.insert(key, kept);
        // Another thread may have put the same key or shed this one in between: then what is in the map may be in no
        // list, and nobody would ever count it.
        if !self.is_listed(&tenant, &key, stamp) {
            self.forget(&key);
        }
    }

    fn is_listed(&self, tenant: &str, key: &Key, stamp: u64) -> bool {
        let tenants = lock(&self.tenants);
        let line = tenants.holdings.get(tenant).and_then(|holding| holding.live.get(key));
        line.is_some_and(|line| line.stamp == stamp)
    }

    pub(super) fn forget(&self, key: &Key) {
        self.kept.invalidate(key);
    }

    fn forget_all(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.forget(key));
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.kept.invalidate_all();
    }

    /// What this tenant may hold; the default again if nothing is said.
    pub(super) fn set_quota(&self, tenant: &str, bytes: Option<u64>) {
        let shed = {
            let mut tenants = lock(&self.tenants);
            match bytes {
                Some(bytes) => drop(tenants.quotas.insert(tenant.into(), bytes)),
                None => drop(tenants.quotas.remove(tenant)),
            }
            let quota = tenants.quota(tenant);
            tenants.holdings.get_mut(tenant).map_or_else(Vec::new, |holding| holding.shed(quota))
        };
        self.forget_all(&shed);
    }

    /// Bytes and entries held, those among them whose time is over but that nobody has swept yet.
    pub(super) fn held(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        let tenants = lock(&self.tenants);
        let count = |(bytes, entries), holding: &Holding| (bytes + holding.bytes, entries + holding.live.len() as u64);
        tenants.holdings.values().fold((0, 0), count)
    }

    /// Bytes that a tenant holds.
    #[cfg(test)]
    pub(super) fn bytes_of(&self, tenant: &str) -> u64 {
        self.kept.run_pending_tasks();
        lock(&self.tenants).holdings.get(tenant).map_or(0, |holding| holding.bytes)
    }
}
