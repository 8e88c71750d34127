//! Single flight: equal things in progress are computed once. Owns who computes (the lead) and who waits (followers);
//! refuses to know what is computed, and how.
//!
//! A key is in the map exactly as long as somebody leads. A lead is a value: landing it tells all followers, dropping it,
//! for whatever reason, makes the first follower that is still there the lead, and takes the key away where there is none.
//! So nothing has to be cleaned up, and a wait takes no task. What must not happen under the lock is that a lead is
//! dropped: to be handed over, one goes through the follower's channel, whose end may be gone.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::Key;

#[cfg(test)]
mod tests;

/// Followers that left are swept when there are this many more waiting than after the last sweep.
const SWEEP_EVERY: usize = 64;

/// Those who wait for one key.
struct Waiting<V> {
    line: VecDeque<oneshot::Sender<Landed<V>>>,
    sweep_at: usize,
}

impl<V> Waiting<V> {
    fn new() -> Self {
        Self { line: VecDeque::new(), sweep_at: SWEEP_EVERY }
    }

    fn add(&mut self) -> oneshot::Receiver<Landed<V>> {
        if self.line.len() >= self.sweep_at {
            self.line.retain(|follower| !follower.is_closed());
            self.sweep_at = 2 * self.line.len() + SWEEP_EVERY;
        }
        let (follower, landed) = oneshot::channel();
        self.line.push_back(follower);
        landed
    }
}

/// What is in progress.
pub struct Flights<V>(Mutex<HashMap<Key, Waiting<V>>>);

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

/// What somebody gets who joins.
#[derive(Debug)]
pub enum Seat<V> {
    /// Nobody computes it: it is yours to do.
    Lead(Lead<V>),
    /// Somebody does: wait.
    Follow(Follow<V>),
}

/// What a follower gets in the end.
#[derive(Debug)]
pub enum Landed<V> {
    /// What was computed.
    Value(V),
    /// The one who computed it left: now it is yours to do.
    Lead(Lead<V>),
}

impl<V> Flights<V> {
    /// None in progress.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes the lead for a key, or a place behind who has it.
    pub fn join(self: &Arc<Self>, key: Key) -> Seat<V> {
        let mut flights = self.lock();
        if let Some(waiting) = flights.get_mut(&key) {
            let landed = waiting.add();
            return Seat::Follow(Follow { flights: self.clone(), key, landed });
        }
        flights.insert(key, Waiting::new());
        Seat::Lead(Lead::new(self, key))
    }

    /// Takes the lead for a key if nobody has it, and no place otherwise.
    pub fn lead_if_free(self: &Arc<Self>, key: Key) -> Option<Lead<V>> {
        let mut flights = self.lock();
        if flights.contains_key(&key) {
            return None;
        }
        flights.insert(key, Waiting::new());
        Some(Lead::new(self, key))
    }

    /// Keys that somebody leads.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is in progress.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiting<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // whatever is in the map has a lead that takes it out
    }

    /// The next follower of a key; the key goes if there is none.
    fn next(&self, key: &Key) -> Option<oneshot::Sender<Landed<V>>> {
        let mut flights = self.lock();
        let follower = flights.get_mut(key)?.line.pop_front();
        if follower.is_none() {
            flights.remove(key);
        }
        follower
    }
}

/// The duty to compute what a key names. One at a time for each.
#[must_use = "a lead that is dropped goes to the next follower"]
pub struct Lead<V> {
    flights: Arc<Flights<V>>,
    key: Key,
    /// Landed, or passed on: nothing is left to do when it is dropped.
    done: bool,
}

impl<V> fmt::Debug for Lead<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lead").field(&self.key).finish()
    }
}

impl<V> Lead<V> {
    fn new(flights: &Arc<Flights<V>>, key: Key) -> Self {
        Self { flights: flights.clone(), key, done: false }
    }

    /// What is led.
    pub fn key(&self) -> Key {
        self.key
    }
}

impl<V: Clone> Lead<V> {
    /// Gives the value to all who joined until now. Who joins later begins afresh.
    pub fn land(mut self, value: V) {
        let waiting = self.flights.lock().remove(&self.key);
        self.done = true;
        for follower in waiting.into_iter().flat_map(|waiting| waiting.line) {
            if !follower.is_closed() {
                // Whoever left in between needs no value.
                let _ = follower.send(Landed::Value(value.clone()));
            }
        }
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        while let Some(follower) = self.flights.next(&self.key) {
            match follower.send(Landed::Lead(Self::new(&self.flights, self.key))) {
                Ok(()) => return,
                // It left; the lead that comes back is this one, and must not be passed on twice.
                Err(Landed::Lead(mut lead)) => lead.done = true,
                Err(Landed::Value(_)) => {}
            }
        }
    }
}

/// A place behind who leads. To drop it is to leave.
#[must_use = "a follower that does not wait has left"]
pub struct Follow<V> {
    flights: Arc<Flights<V>>,
    key: Key,
    landed: oneshot::Receiver<Landed<V>>,
}

impl<V> fmt::Debug for Follow<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Follow").field(&self.key).finish()
    }
}

impl<V> Follow<V> {
    /// Waits for the value, or for the lead. May be dropped at any time: a lead that was on its way goes to the next.
    pub async fn wait(mut self) -> Landed<V> {
        loop {
            if let Ok(landed) = (&mut self.landed).await {
                return landed;
            }
            // Only a value whose clone panicked tells nobody: whoever waited for it begins afresh.
            match self.flights.join(self.key) {
                Seat::Lead(lead) => return Landed::Lead(lead),
                Seat::Follow(again) => self = again,
            }
        }
    }
}
