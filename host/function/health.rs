//! Whether a revision's invocations trap: the latest of them, counted without a lock.
//!
//! Owns the window and the rule. Refuses to know what becomes of a revision that traps too often.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use serde::Deserialize;

/// Invocations that are looked at at most: a bit for each.
const MAX_WINDOW: usize = 1024;
const WORD: usize = 64;

/// When a revision leaves traffic by itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// So many traps among the latest invocations are too many; 0 leaves every revision where it is.
    pub traps: u32,
    /// How many invocations are looked at.
    pub of: u32,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { traps: 20, of: 100 }
    }
}

impl Quarantine {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        if self.of == 0 || self.of as usize > MAX_WINDOW {
            return Err(format!("quarantine.of must be 1 to {MAX_WINDOW}, not {}", self.of));
        }
        if self.traps > self.of {
            return Err(format!("quarantine.traps must be at most quarantine.of, which is {}", self.of));
        }
        Ok(())
    }
}

/// The latest invocations of one revision.
#[derive(Debug, Default)]
pub(super) struct Health {
    window: [AtomicU64; MAX_WINDOW / WORD],
    next: AtomicU64,
    traps: AtomicU64,
    told: AtomicBool,
}

impl Health {
    /// Notes an invocation, and says once when too many have trapped.
    pub(super) fn note(&self, trapped: bool, rule: Quarantine) -> bool {
        if rule.traps == 0 || (!trapped && self.traps.load(Relaxed) == 0) {
            // Nearly always: nothing trapped lately, and nothing has to be counted for it.
            return false;
        }
        let place = (self.next.fetch_add(1, Relaxed) % u64::from(rule.of)) as usize;
        let (word, bit) = (&self.window[place / WORD], 1 << (place % WORD));
        let before = if trapped { word.fetch_or(bit, AcqRel) } else { word.fetch_and(!bit, AcqRel) } & bit != 0;
        let traps = match (before, trapped) {
            (false, true) => self.traps.fetch_add(1, AcqRel) + 1,
            (true, false) => self.traps.fetch_sub(1, AcqRel) - 1,
            _ => self.traps.load(Relaxed),
        };
        trapped && traps >= u64::from(rule.traps) && !self.told.swap(true, AcqRel)
    }

    /// It stays in traffic all the same: too many may be told of again.
    pub(super) fn forget(&self) {
        self.window.iter().for_each(|word| word.store(0, Relaxed));
        self.traps.store(0, Relaxed);
        self.told.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Quarantine = Quarantine { traps: 3, of: 10 };

    #[test]
    fn so_many_of_the_latest_are_too_many_and_told_once() {
        let health = Health::default();
        let note = |trapped| health.note(trapped, RULE);
        assert!((0..1000).all(|_| !note(false)));
        assert!(!note(true) && !note(true));
        // They leave the window.
        assert!((0..20).all(|_| !note(false)));
        assert!(!note(true) && !note(false) && !note(true) && !note(false));
        assert!(note(true), "three of the latest ten");
        assert!(!note(true), "told once");
        health.forget();
        assert!(!note(true) && !note(true) && note(true));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_and_none_tells_nothing() {
        for (traps, of) in [(1, 0), (1, 2000), (11, 10)] {
            assert!(Quarantine { traps, of }.validate().is_err());
        }
        assert_eq!(Quarantine::default().validate(), Ok(()));
        let health = Health::default();
        assert!((0..100).all(|_| !health.note(true, Quarantine { traps: 0, of: 10 })));
    }
}
