//! Which scopes were invalidated when. Owns the table and the numbers that stand for time; refuses to know who
//! invalidates and how hosts hear of it.
//!
//! Numbers instead of clocks, because hosts' clocks differ: an entry notes the number that its host knew when the
//! computing of it *began*, and is valid if none of its scopes has a higher one. There are two kinds.
//!
//! The host's own number goes up by one with everything that the host learns. It orders what the host's memory holds,
//! and holds without Redis, while Redis is away and after Redis lost its contents.
//!
//! Redis' number (`far`) is the same for all hosts and orders what they share. An entry that goes to Redis notes the
//! highest one up to which its host had heard *all*: the answer to the host's own invalidation may overtake another
//! host's earlier one, and an entry begun between the two must not seem to know both. A number that is too low only makes
//! an entry void too early.
//!
//! The table is bounded. When it is full, the older half goes and the floor is raised over it: entries may be void that
//! need not be, never the other way round.

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use super::ScopeId;

#[cfg(test)]
mod tests;

/// Scopes that the table keeps.
const MAX_SCOPES: usize = 16_384;
/// Changes of Redis' number that are kept; an entry that took longer than these may not go to Redis as anything but old.
const MAX_STEPS: usize = 1024;
/// Invalidations that are recognised when they come a second time: as the answer to our own, and from the channel.
const MAX_ECHOES: usize = 256;

/// A moment in both kinds of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moment {
    here: u64,
    far: u64,
}

impl Moment {
    fn raise(&mut self, to: Self) {
        (self.here, self.far) = (self.here.max(to.here), self.far.max(to.far));
    }
}

#[derive(Debug, Default)]
struct Table {
    /// The host's number, and the one of Redis up to which all was heard.
    now: Moment,
    /// The highest number of Redis that was seen.
    known: u64,
    /// The highest number of Redis at any scope or at the floor.
    highest_far: u64,
    /// What was begun before is void, whatever its scopes.
    floor: Moment,
    scopes: HashMap<ScopeId, Moment>,
    /// From which number of the host on which number of Redis held.
    steps: VecDeque<Moment>,
    /// What came once and may come again: number and hash of the scopes.
    echoes: VecDeque<(u64, u64)>,
}

impl Table {
    /// The host learns that these are void: its number goes up.
    fn mark(&mut self, far: u64, scopes: &[ScopeId]) {
        self.now.here += 1;
        self.highest_far = self.highest_far.max(far);
        let moment = Moment { here: self.now.here, far };
        if scopes.contains(&ScopeId::everything()) {
            self.raise_floor(moment);
            return;
        }
        for scope in scopes {
            if self.scopes.len() >= MAX_SCOPES && !self.scopes.contains_key(scope) {
                self.make_room();
            }
            self.scopes.entry(*scope).or_default().raise(moment);
        }
    }

    fn raise_floor(&mut self, to: Moment) {
        self.floor.raise(to);
        let floor = self.floor;
        self.scopes.retain(|_, number| number.here > floor.here || number.far > floor.far);
    }

    /// Forgets the older half: all of it is below the floor from now on.
    fn make_room(&mut self) {
        let mut numbers: Vec<u64> = self.scopes.values().map(|number| number.here).collect();
        let middle = numbers.len() / 2;
        let (_, &mut last, _) = numbers.select_nth_unstable(middle);
        let mut floor = self.floor;
        self.scopes.retain(|_, number| {
            let stays = number.here > last;
            if !stays {
                floor.raise(*number);
            }
            stays
        });
        self.raise_floor(floor);
    }

    /// From now on this number of Redis holds.
    fn step(&mut self, far: u64) {
        self.now.far = far;
        match self.steps.back_mut() {
            Some(last) if last.here == self.now.here => last.far = far,
            _ => self.steps.push_back(self.now),
        }
        if self.steps.len() > MAX_STEPS {
            self.steps.pop_front();
        }
    }

    /// Whether this came before; if not, it is kept until it comes again.
    fn is_echo(&mut self, came: (u64, u64)) -> bool {
        if let Some(at) = self.echoes.iter().position(|echo| *echo == came) {
            self.echoes.remove(at);
            return true;
        }
        if self.echoes.len() == MAX_ECHOES {
            self.echoes.pop_front();
        }
        self.echoes.push_back(came);
        false
    }

    fn numbers(&self, scopes: &[ScopeId]) -> impl Iterator<Item = Moment> {
        scopes.iter().filter_map(|scope| self.scopes.get(scope).copied())
    }
}

/// The table of what was invalidated.
#[derive(Debug, Default)]
pub(super) struct Invalidations {
    table: RwLock<Table>,
    /// The table's `now.here`, and the highest number of Redis in it: whoever is not below needs no look.
    here: AtomicU64,
    far: AtomicU64,
    hashes: RandomState,
}

impl Invalidations {
    /// The host's number: what an entry that is begun now notes.
    pub(super) fn now(&self) -> u64 {
        self.here.load(Acquire)
    }

    /// The highest number of Redis that was seen: the next must be above it.
    pub(super) fn known(&self) -> u64 {
        self.read().known
    }

    /// Invalidates on this host alone, and says at which of its numbers. What Redis holds of these scopes is not taken
    /// any more, either, until a higher number is heard.
    pub(super) fn next_local(&self, scopes: &[ScopeId]) -> u64 {
        let mut table = self.write();
        let far = table.known + 1;
        table.mark(far, scopes);
        self.publish(&table)
    }

    /// Redis gave this number to an invalidation of this host, which may have come by the channel already.
    pub(super) fn confirmed(&self, far: u64, scopes: &[ScopeId]) {
        let echo = (far, self.hash(scopes));
        let mut table = self.write();
        if table.is_echo(echo) {
            return;
        }
        table.known = table.known.max(far);
        table.mark(far, scopes);
        self.publish(&table);
    }

    /// An invalidation came by the channel, where they come in the order of their numbers. Whether it is news.
    pub(super) fn heard(&self, far: u64, scopes: &[ScopeId]) -> bool {
        let echo = (far, self.hash(scopes));
        let mut table = self.write();
        if table.is_echo(echo) {
            let heard = table.now.far.max(far);
            table.step(heard);
            return false;
        }
        if far > table.now.far {
            table.known = table.known.max(far);
            table.mark(far, scopes);
            table.step(far);
        } else {
            // Redis lost its contents and counts anew. What was begun before carries numbers that now are too high.
            let above_all = table.known + 1;
            table.mark(above_all, scopes);
            table.steps.clear();
            table.step(far);
        }
        self.publish(&table);
        true
    }

    /// Invalidations up to this number of Redis were missed: whatever was begun before is void.
    pub(super) fn raise_floor(&self, far: u64) {
        let mut table = self.write();
        table.known = table.known.max(far);
        table.mark(far, &[ScopeId::everything()]);
        let heard = table.now.far.max(far);
        table.step(heard);
        self.publish(&table);
    }

    /// Whether an entry of this host's memory holds, begun at this number of the host.
    pub(super) fn is_valid(&self, seq: u64, scopes: &[ScopeId]) -> bool {
        seq >= self.here.load(Acquire) || {
            let table = self.read();
            seq >= table.floor.here && table.numbers(scopes).all(|number| seq >= number.here)
        }
    }

    /// Whether an entry of Redis holds, begun at this number of Redis.
    pub(super) fn is_valid_far(&self, far: u64, scopes: &[ScopeId]) -> bool {
        far >= self.far.load(Acquire) || {
            let table = self.read();
            far >= table.floor.far && table.numbers(scopes).all(|number| far >= number.far)
        }
    }

    /// What an entry notes in Redis that was begun at this number of the host.
    pub(super) fn far(&self, seq: u64) -> u64 {
        let table = self.read();
        let after = table.steps.partition_point(|step| step.here <= seq);
        after.checked_sub(1).and_then(|at| table.steps.get(at)).map_or(0, |step| step.far)
    }

    fn hash(&self, scopes: &[ScopeId]) -> u64 {
        let mut sorted = scopes.to_vec();
        sorted.sort_unstable();
        self.hashes.hash_one(sorted)
    }

    /// After the table has changed, still under its lock.
    fn publish(&self, table: &Table) -> u64 {
        self.far.store(table.highest_far, Release);
        self.here.store(table.now.here, Release);
        table.now.here
    }

    // No step of a change panics half-way in a way that would leave an entry valid that is not.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
