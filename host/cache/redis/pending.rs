//! Invalidations that Redis has no number for yet. Owns how many are kept; refuses to know how they are told.
//!
//! Each is noted before it is sent and crossed out when Redis has it: if whoever sends it leaves halfway it still is
//! there, to be sent by the bus. Beyond a bound all are one: everything is void.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::ScopeId;

/// Scopes that are kept each.
const MAX_SCOPES: usize = 1024;

struct Debt {
    scopes: Vec<ScopeId>,
    /// Somebody is sending it.
    sending: bool,
}

#[derive(Default)]
struct Debts {
    by_number: BTreeMap<u64, Debt>,
    scopes: usize,
    next: u64,
}

impl Debts {
    fn add(&mut self, scopes: Vec<ScopeId>, sending: bool) -> u64 {
        self.next += 1;
        self.scopes += scopes.len();
        self.by_number.insert(self.next, Debt { scopes, sending });
        self.next
    }

    fn remove(&mut self, number: u64) {
        if let Some(debt) = self.by_number.remove(&number) {
            self.scopes -= debt.scopes.len();
        }
    }
}

#[derive(Default)]
pub(super) struct Pending(Mutex<Debts>);

/// The sending of one: unless it is done, others may try when it is dropped.
pub(super) struct Sending<'a> {
    of: &'a Pending,
    number: u64,
    pub(super) scopes: Vec<ScopeId>,
}

impl Pending {
    /// Notes it, to be sent by whoever notes it.
    pub(super) fn add(&self, scopes: &[ScopeId]) -> Sending<'_> {
        let mut debts = self.debts();
        if debts.scopes + scopes.len() > MAX_SCOPES {
            // Also those that are being sent: should that fail they are in here.
            *debts = Debts { next: debts.next, ..Debts::default() };
            if scopes.len() > MAX_SCOPES || !scopes.contains(&ScopeId::everything()) {
                debts.add(vec![ScopeId::everything()], false);
            }
        }
        let scopes = if scopes.len() > MAX_SCOPES { vec![ScopeId::everything()] } else { scopes.to_vec() };
        let number = debts.add(scopes.clone(), true);
        Sending { of: self, number, scopes }
    }

    /// The oldest that nobody is sending.
    pub(super) fn next(&self) -> Option<Sending<'_>> {
        let mut debts = self.debts();
        let (number, debt) = debts.by_number.iter_mut().find(|(_, debt)| !debt.sending)?;
        debt.sending = true;
        Some(Sending { of: self, number: *number, scopes: debt.scopes.clone() })
    }

    /// Scopes that are noted.
    pub(super) fn len(&self) -> usize {
        self.debts().scopes
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // nothing within can panic halfway
    }
}

impl Sending<'_> {
    /// Redis has it.
    pub(super) fn done(self) {
        self.of.debts().remove(self.number);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(debt) = self.of.debts().by_number.get_mut(&self.number) {
            debt.sending = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(ids: std::ops::Range<u16>) -> Vec<ScopeId> {
        ids.map(|id| ScopeId::from_bytes([id.to_le_bytes(); 8].concat().try_into().unwrap())).collect()
    }

    #[test]
    fn what_is_not_done_stays_and_is_sent_by_one_at_a_time() {
        let pending = Pending::default();
        let sending = pending.add(&scopes(0..2));
        assert!(pending.next().is_none(), "it is being sent");
        drop(sending);
        let again = pending.next().unwrap();
        assert_eq!(again.scopes, scopes(0..2));
        assert!(pending.next().is_none());
        again.done();
        assert_eq!((pending.len(), pending.next().is_none()), (0, true));
    }

    #[test]
    fn too_many_are_everything() {
        let pending = Pending::default();
        let first = pending.add(&scopes(0..1000));
        assert_eq!(pending.len(), 1000);
        let second = pending.add(&scopes(1000..1100));
        assert_eq!(pending.next().unwrap().scopes, [ScopeId::everything()]);
        drop(first);
        assert_eq!(pending.len(), 101, "the one that was being sent is in everything");
        second.done();
        pending.next().unwrap().done();
        assert_eq!(pending.len(), 0);
        let huge = pending.add(&scopes(0..2000));
        assert_eq!(huge.scopes, [ScopeId::everything()]);
        drop(huge);
        assert!(pending.len() <= 2);
    }
}
