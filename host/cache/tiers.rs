//! How the two tiers are asked and filled. Owns their order, and what is deleted on the way; refuses to know how either
//! keeps what it keeps.
//!
//! An entry changes its number on its way: what goes to Redis notes Redis' number, what comes from there the host's own,
//! as it was before Redis was asked (see `invalidations`).

use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;

use super::{
    Cache, Entry, Found, Freshness, Key, Tier,
    entry::{MAX_SCOPES, MAX_TENANT_BYTES, now_ms},
    redis::Remote,
    stats::{Dropped, Outcome, Tally},
};

/// An entry that may be given, with what its age allows.
type Good = (Entry, Freshness);

impl Cache {
    /// What is remembered under this key: from memory, or else from Redis. A stale entry in memory is no reason not to
    /// look in Redis, where another host may have put a newer one.
    pub async fn get(&self, key: &Key) -> Found {
        let near = self.look_in_memory(key);
        if let Some((_, Freshness::Fresh)) = &near {
            return Found { entry: near, tier: Some(Tier::Memory) };
        }
        let Some(far) = self.look_in_redis(&[*key]).await.pop().flatten() else {
            let tier = near.as_ref().map(|_| Tier::Memory);
            return Found { entry: near, tier };
        };
        if near.as_ref().is_some_and(|(near, _)| near.created_ms >= far.0.created_ms) {
            return Found { entry: near, tier: Some(Tier::Memory) };
        }
        self.keep_in_memory(*key, &far.0);
        Found { entry: Some(far), tier: Some(Tier::Redis) }
    }

    /// What is remembered under each of these keys and fresh, in their order: from memory, and all that is not there
    /// with one question from Redis.
    pub async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        let fresh = |good: Option<Good>| good.filter(|(_, age)| *age == Freshness::Fresh).map(|(entry, _)| entry);
        let mut found: Vec<_> = keys.iter().map(|key| fresh(self.look_in_memory(key))).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|at| found[*at].is_none()).collect();
        if missing.is_empty() {
            return found;
        }
        let asked: Vec<Key> = missing.iter().map(|at| keys[*at]).collect();
        let far = self.look_in_redis(&asked).await;
        for (at, good) in missing.into_iter().zip(far) {
            found[at] = fresh(good);
            if let Some(entry) = &found[at] {
                self.keep_in_memory(keys[at], entry);
            }
        }
        found
    }

    /// What this host's memory has under this key. Counts nothing: for whoever looks a second time.
    pub fn peek(&self, key: &Key) -> Option<(Entry, Freshness)> {
        self.good_in_memory(key)
    }

    /// Keeps entries: in memory at once, so that who asks next finds them; in Redis by a task of its own, as that takes
    /// copies and digests. What comes of each is counted for the function, too. The task holds `meanwhile`: what bounds how
    /// many of them there are.
    pub fn keep(self: &Arc<Self>, entries: Vec<(Key, Entry)>, tally: &Arc<Tally>, meanwhile: impl Send + 'static) {
        let now_ms = now_ms();
        let mut near = Vec::with_capacity(entries.len());
        for (key, entry) in entries {
            match self.sound(entry, now_ms) {
                Some(entry) => near.push((self.keep_in_memory(key, &entry), key, entry)),
                None => tally.stored(false),
            }
        }
        let Some(remote) = self.remote.clone().filter(|_| !near.is_empty()) else {
            return near.iter().for_each(|(kept, ..)| self.count(tally, *kept));
        };
        let (cache, tally) = (self.clone(), tally.clone());
        tokio::spawn(async move {
            for (near, key, entry) in near {
                let far = cache.keep_in_redis(&remote, key, (entry, now_ms));
                cache.count(&tally, near || far);
                // Digests of one are short, those of a thousand rows are not.
                tokio::task::yield_now().await;
            }
            drop(meanwhile);
        });
    }

    fn count(&self, tally: &Tally, kept: bool) {
        self.counters.stored(u64::from(kept));
        tally.stored(kept);
    }

    /// The entry as it may be kept, if it may.
    fn sound(&self, entry: Entry, now_ms: u64) -> Option<Entry> {
        let mut entry = entry.within(self.config.max_ttl(), now_ms);
        entry.seq = entry.seq.min(self.seq());
        let sound = entry.scopes.len() <= MAX_SCOPES && entry.tenant.len() <= MAX_TENANT_BYTES;
        if !sound || entry.payload.len() as u64 > self.config.max_entry_bytes {
            self.counters.dropped(Dropped::TooLarge);
            return None;
        }
        if entry.age(now_ms) == Freshness::Gone || !self.invalidations.is_valid(entry.seq, &entry.scopes) {
            self.counters.dropped(Dropped::Void);
            return None;
        }
        Some(entry)
    }

    /// Keeps one entry in both tiers before it returns, and says whether one of them has it: for tests, which look at once.
    #[cfg(test)]
    pub(super) fn put(&self, key: Key, entry: Entry) -> bool {
        let now_ms = now_ms();
        let Some(entry) = self.sound(entry, now_ms) else { return false };
        let near = self.keep_in_memory(key, &entry);
        let far = self.remote.as_ref().is_some_and(|remote| self.keep_in_redis(remote, key, (entry, now_ms)));
        self.counters.stored(u64::from(near || far));
        near || far
    }

    /// Forgets what is under this key, on this host and in Redis; what other hosts have in memory stays there. Redis is
    /// told in its turn: a lookup before that finds the entry again, and keeps it here. What must not be given any more
    /// is invalidated.
    pub fn forget(&self, key: &Key) {
        if let Some(memory) = &self.memory {
            memory.forget(key);
        }
        if let Some(remote) = &self.remote {
            self.delete_in_redis(remote, key);
        }
    }

    fn look_in_memory(&self, key: &Key) -> Option<Good> {
        let good = self.good_in_memory(key);
        if self.memory.is_some() {
            self.counters.looked(Tier::Memory, outcome(good.as_ref()));
        }
        good
    }

    fn good_in_memory(&self, key: &Key) -> Option<Good> {
        let memory = self.memory.as_ref()?;
        let entry = memory.get(key)?;
        let age = entry.age(now_ms());
        let good = age != Freshness::Gone && self.invalidations.is_valid(entry.seq, &entry.scopes);
        if !good {
            memory.forget(key);
        }
        good.then_some((entry, age))
    }

    async fn look_in_redis(&self, keys: &[Key]) -> Vec<Option<Good>> {
        let Some(remote) = &self.remote else { return vec![None; keys.len()] };
        let begun = self.seq();
        let found = remote.get_many(keys).await;
        keys.iter().zip(found).map(|(key, bytes)| self.read(remote, key, (bytes, begun))).collect()
    }

    /// What came from Redis, if it is an entry that may be given. What cannot be read is deleted there. What is void or too
    /// old is not: another host may just have written a newer one, which the deletion would hit; it is overwritten by
    /// whoever computes it again, or expires.
    fn read(&self, remote: &Remote, key: &Key, (bytes, begun): (Option<Bytes>, u64)) -> Option<Good> {
        let Some(bytes) = bytes else {
            self.counters.looked(Tier::Redis, Outcome::Miss);
            return None;
        };
        let mut entry = match Entry::decode(key, bytes) {
            Ok(entry) => entry,
            Err(unreadable) => {
                debug!(?key, %unreadable, "a value in Redis is not what was written there");
                self.counters.looked(Tier::Redis, Outcome::Error);
                self.delete_in_redis(remote, key);
                return None;
            }
        };
        let now_ms = now_ms();
        let valid = self.invalidations.is_valid_far(entry.seq, &entry.scopes);
        entry.seq = begun;
        let entry = entry.within(self.config.max_ttl(), now_ms);
        let age = entry.age(now_ms);
        let good = (valid && age != Freshness::Gone).then_some((entry, age));
        self.counters.looked(Tier::Redis, outcome(good.as_ref()));
        good
    }

    fn keep_in_memory(&self, key: Key, entry: &Entry) -> bool {
        let Some(memory) = &self.memory else { return false };
        let kept = memory.put(key, entry.clone());
        if !kept {
            self.counters.dropped(Dropped::Quota);
        }
        kept
    }

    fn keep_in_redis(&self, remote: &Remote, key: Key, (mut entry, now_ms): (Entry, u64)) -> bool {
        entry.seq = self.invalidations.far(entry.seq);
        let left = entry.left(now_ms);
        let expires_ms = now_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let tenant = entry.tenant.clone();
        if !self.ledger.charge(key, &tenant, entry.encoded_bytes(), (now_ms, expires_ms)) {
            self.counters.dropped(Dropped::Quota);
            return false;
        }
        let queued = remote.put(key, entry.encode(&key), left);
        if !queued {
            self.ledger.release(&key);
            self.counters.dropped(Dropped::Queue);
        }
        queued
    }

    fn delete_in_redis(&self, remote: &Remote, key: &Key) {
        remote.forget(*key);
        self.ledger.release(key);
    }
}

fn outcome(good: Option<&Good>) -> Outcome {
    match good {
        None => Outcome::Miss,
        Some((_, Freshness::Fresh)) => Outcome::Hit,
        Some(_) => Outcome::Stale,
    }
}
