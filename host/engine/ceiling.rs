//! How large a batch may be for its memory: a ceiling that comes down at once when memory runs out and rises slowly.
//!
//! Pure, and without a lock: the queue asks it for every row that it adds, lanes tell it how batches went. Owns the
//! rule; refuses to know who runs batches. Sizes are bytes as the profile predicts them; where nobody counts bytes they
//! are rows x padded elements, which is as good for saying "half of that".

use std::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
};

use super::{budget::Share, profile::Profile};

/// So many batches as large as the ceiling allows must pass before it rises.
const GOOD_BATCHES: u32 = 16;
/// It rises by this part of the batch that did not fit, or by that of the largest batch there is, whichever is more: so
/// it comes back in a bounded number of batches, however far down it went.
const STEP_PARTS: u64 = 8;
const WHOLE_PARTS: u64 = 64;

/// The ceiling of one model, shared by its queue and its lanes.
#[derive(Debug)]
pub(super) struct Ceiling {
    profile: Option<Arc<Profile>>,
    /// What a lane may use on each device.
    shares: Vec<Arc<Share>>,
    /// The size of the largest batch that the configuration allows: from there on there is no ceiling.
    largest: u64,
    /// `u64::MAX` where there is none.
    size: AtomicU64,
    step: AtomicU64,
    good: AtomicU32,
}

impl Ceiling {
    /// None so far. `rows` of `elements` padded elements each are the largest batch that is configured.
    pub(super) fn new(
        profile: Option<Arc<Profile>>,
        shares: Vec<Arc<Share>>,
        (rows, elements): (usize, u64),
    ) -> Arc<Self> {
        let (size, step, good) = (AtomicU64::new(u64::MAX), AtomicU64::new(1), AtomicU32::new(0));
        let mut ceiling = Self { profile, shares, largest: u64::MAX, size, step, good };
        ceiling.largest = ceiling.size_of(rows, elements);
        Arc::new(ceiling)
    }

    fn size_of(&self, rows: usize, elements: u64) -> u64 {
        let bytes = self.profile.as_ref().and_then(|profile| profile.predict_bytes(rows, elements));
        bytes.unwrap_or_else(|| elements.saturating_mul(rows as u64))
    }

    /// What a lane may use of what the profile predicts; no limit where it predicts no bytes.
    fn planned(&self) -> u64 {
        let counts = self.profile.as_ref().is_some_and(|profile| profile.counts_bytes());
        let planned = self.shares.iter().filter(|_| counts).map(|share| share.planned_bytes());
        planned.min().unwrap_or(u64::MAX)
    }

    /// Whether so many rows, each padded to so many elements, may share a batch. (One row always runs: if it does not fit,
    /// it is alone in that.)
    pub(super) fn allows(&self, rows: usize, elements: u64) -> bool {
        rows <= 1 || self.size_of(rows, elements) <= self.size.load(Relaxed).min(self.planned())
    }

    /// The most rows of so many elements that may share a batch, up to `most`.
    pub(super) fn safe_rows(&self, elements: u64, most: usize) -> usize {
        // Sizes rise with the rows: the first that does not fit is looked for in halves.
        let (mut fits, mut not) = (1, most.saturating_add(1));
        while not - fits > 1 {
            let middle = fits + (not - fits) / 2;
            if self.allows(middle, elements) { fits = middle } else { not = middle }
        }
        fits
    }

    /// A batch did not fit. (One row that does not fit says nothing about others.)
    pub(super) fn hit(&self, rows: usize, elements: u64) {
        if rows > 1 {
            let size = self.size_of(rows, elements);
            self.size.fetch_min((size / 2).max(1), AcqRel);
            self.step.store((size / STEP_PARTS).max(self.largest / WHOLE_PARTS).max(1), Relaxed);
            self.good.store(0, Relaxed);
        }
    }

    /// A batch passed. Enough of those that the ceiling kept from being larger lift it.
    pub(super) fn passed(&self, rows: usize, elements: u64) {
        let size = self.size.load(Relaxed);
        if size == u64::MAX || self.size_of(rows + 1, elements) <= size {
            return;
        }
        if self.good.fetch_add(1, AcqRel) + 1 < GOOD_BATCHES {
            return;
        }
        self.good.store(0, Relaxed);
        let risen = size.saturating_add(self.step.load(Relaxed));
        let risen = if risen >= self.largest { u64::MAX } else { risen };
        // If it came down meanwhile, it stays down.
        let _ = self.size.compare_exchange(size, risen, AcqRel, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_elements(rows: usize) -> Arc<Ceiling> {
        Ceiling::new(None, Vec::new(), (rows, 10))
    }

    #[test]
    fn it_halves_at_once_and_rises_by_an_eighth_after_sixteen_good_batches() {
        let ceiling = of_elements(32);
        assert_eq!(ceiling.safe_rows(10, 32), 32);
        ceiling.hit(32, 10);
        assert_eq!((ceiling.safe_rows(10, 32), ceiling.allows(16, 10), ceiling.allows(17, 10)), (16, true, false));
        assert_eq!(ceiling.safe_rows(20, 32), 8, "of rows twice as long half as many");
        for _ in 1..GOOD_BATCHES {
            ceiling.passed(16, 10);
        }
        ceiling.passed(8, 10);
        assert_eq!(ceiling.safe_rows(10, 32), 16, "smaller batches prove nothing");
        ceiling.passed(16, 10);
        assert_eq!(ceiling.safe_rows(10, 32), 20);
        // Good ones before a hit do not count after it.
        for _ in 1..GOOD_BATCHES {
            ceiling.passed(20, 10);
        }
        ceiling.hit(20, 10);
        ceiling.passed(10, 10);
        assert_eq!(ceiling.safe_rows(10, 32), 10);
    }

    #[test]
    fn one_row_always_runs_and_lowers_nothing() {
        let ceiling = of_elements(4);
        ceiling.hit(1, 10);
        assert_eq!(ceiling.safe_rows(10, 4), 4);
        ceiling.hit(2, 10);
        ceiling.hit(2, 1);
        assert_eq!((ceiling.allows(1, 1000), ceiling.allows(2, 1)), (true, false));
    }

    proptest! {
        // Batches as large as allowed, on a device whose room changes: what is allowed falls below what did not fit, and
        // with steady room the ceiling finds it again from below, and goes when all fits.
        #[test]
        fn it_follows_the_room(rooms in prop::collection::vec(1_usize..40, 1..12)) {
            let ceiling = of_elements(32);
            let round = |room: usize| {
                let rows = ceiling.safe_rows(10, 32);
                if rows > room { ceiling.hit(rows, 10) } else { ceiling.passed(rows, 10) }
                rows
            };
            for room in rooms {
                let most = room.min(32);
                for _ in 0..6 {
                    let before = ceiling.safe_rows(10, 32);
                    let tried = round(room);
                    prop_assert!(tried <= room || tried == 1 || ceiling.safe_rows(10, 32) <= tried / 2, "{before}");
                }
                let mut best = 0;
                for _ in 0..2000 {
                    let tried = round(room);
                    best = best.max(if tried <= room { tried } else { 0 });
                }
                prop_assert!(best * 4 >= most * 3, "of {most} rows never more than {best} ran again");
            }
            (0..2000).for_each(|_| { round(32); });
            prop_assert_eq!(ceiling.size.load(Relaxed), u64::MAX);
        }
    }
}
