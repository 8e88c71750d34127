//! Whether a revision's invocations trap: the latest of them.
//!
//! Owns the window and the rule. Refuses to know what becomes of a revision that traps too often. Nothing is counted and no
//! lock is taken before something has trapped.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;

/// Invocations that are looked at at most.
const MAX_WINDOW: u32 = 1024;
/// Where a revision stays in traffic all the same, it is not told of again at once.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

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
        if self.of == 0 || self.of > MAX_WINDOW {
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
    /// Whether the window has a trap in it.
    traps: AtomicBool,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// Whether each of the latest invocations trapped, the newest last.
    latest: VecDeque<bool>,
    traps: u32,
    told: Option<Instant>,
}

impl Health {
    /// Notes an invocation, and says when too many have trapped: once, and again after a while.
    pub(super) fn note(&self, trapped: bool, rule: Quarantine) -> bool {
        if rule.traps == 0 || !(trapped || self.traps.load(Relaxed)) {
            return false;
        }
        let mut window = self.window();
        window.latest.push_back(trapped);
        window.traps += u32::from(trapped);
        while window.latest.len() > rule.of as usize {
            let gone = window.latest.pop_front().unwrap_or_default();
            window.traps -= u32::from(gone);
        }
        self.traps.store(window.traps > 0, Relaxed);
        let told = window.told.is_some_and(|told| told.elapsed() < TOLD_AGAIN);
        let too_many = trapped && window.traps >= rule.traps && !told;
        if too_many {
            window.told = Some(Instant::now());
        }
        too_many
    }

    /// It left traffic: what it did before says nothing of how it does when somebody lets it serve again.
    pub(super) fn forget(&self) {
        *self.window() = Window::default();
        self.traps.store(false, Relaxed);
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!((0..20).all(|_| !note(true)), "told once");
        health.forget();
        assert!(!note(true) && !note(true) && note(true));
    }

    #[test]
    fn threads_do_not_lose_count() {
        let health = Health::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let health = &health;
                scope.spawn(move || {
                    for turn in 0..2000 {
                        health.note(turn % 3 == 0, RULE);
                        if thread == 0 && turn % 50 == 0 {
                            health.forget();
                        }
                    }
                });
            }
        });
        let window = health.window();
        assert_eq!(window.traps as usize, window.latest.iter().filter(|trapped| **trapped).count());
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
