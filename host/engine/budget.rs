//! A device's memory across models: what a lane may use, whether a further model fits, when to refuse requests.
//!
//! Owns these sums, over figures that the backend counts. Refuses to know what a batch needs (that is `profile`) and how
//! limits are enforced (the backend's). Where a backend counts nothing, nothing is limited.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::backend::{Backend, DeviceMemory};

/// What models and lanes may use together, of what there is: the rest is for guests, requests and the system.
const MACHINE_PARTS: (u64, u64) = (3, 4);
/// Where nothing tells how much there is.
const UNKNOWN_MACHINE_BYTES: u64 = 8 << 30;
/// Refusing ends when this much of what lanes may use below the mark is free again: not at the first byte.
const FREE_AGAIN: f64 = 0.25;

/// `engine.memory_bytes` unless stated.
pub(super) fn default_bytes() -> u64 {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let machine = read("/proc/meminfo").and_then(|text| total_bytes(&text));
    // Every control group above this process may limit it.
    let own =
        read("/proc/self/cgroup").and_then(|text| Some(text.lines().find_map(|it| it.strip_prefix("0::/"))?.into()));
    let own: String = own.unwrap_or_default();
    let groups = std::path::Path::new(&own).ancestors();
    let limit = |group: &std::path::Path| read(&format!("/sys/fs/cgroup/{}/memory.max", group.display()));
    let limits = groups.filter_map(|group| limit(group)?.trim().parse().ok());
    let there = limits.chain(machine).min().unwrap_or(UNKNOWN_MACHINE_BYTES);
    there / MACHINE_PARTS.1 * MACHINE_PARTS.0
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Why a model does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the weights of all models hold {weight_bytes} of {limit_bytes} bytes, which leaves {lane_bytes} for a lane of \
     `{model}`, and its smallest row needs {row_bytes}: raise engine.memory_bytes, or have fewer models or lanes"
)]
pub(super) struct TooLittle {
    model: String,
    weight_bytes: u64,
    limit_bytes: u64,
    lane_bytes: u64,
    row_bytes: u64,
}

/// The memory of one device.
pub(super) struct Budget {
    backend: Arc<dyn Backend>,
    high_mark: f64,
    parts: Mutex<Vec<Part>>,
    /// Bytes for a lane of no stated budget, as it is enforced, and below the high mark, as batches are planned.
    enforced: AtomicU64,
    planned: AtomicU64,
    /// What batches could not give back when that was worked out.
    fixed: AtomicU64,
    is_short: AtomicBool,
}

/// A model's lanes.
#[derive(Debug)]
struct Part {
    share: u64,
    model: String,
    lanes: u64,
    stated: Option<u64>,
    /// What its smallest row needs.
    row_bytes: u64,
}

impl Budget {
    /// Limits the backend to so many bytes.
    pub(super) fn new(backend: Arc<dyn Backend>, bytes: u64, high_mark: f64) -> Arc<Self> {
        backend.limit_memory(bytes);
        let [enforced, planned, fixed] = [u64::MAX, u64::MAX, 0].map(AtomicU64::new);
        let (parts, is_short) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { backend, high_mark, parts, enforced, planned, fixed, is_short })
    }

    /// What a model that is being loaded may use: for so many lanes, each of the stated size if there is one. Lanes of
    /// no stated size share what weights and stated ones leave, evenly.
    pub(super) fn join(self: &Arc<Self>, model: &str, lanes: usize, stated: Option<u64>) -> Arc<Share> {
        let mut parts = self.parts();
        let share = parts.iter().map(|part| part.share + 1).max().unwrap_or_default();
        parts.push(Part { share, model: model.into(), lanes: lanes as u64, stated, row_bytes: 0 });
        self.share_out(&parts);
        Arc::new(Share { budget: self.clone(), number: share, stated })
    }

    /// Looks at the figures: whether requests should be refused now.
    pub(super) fn is_short(&self) -> bool {
        let Some(memory) = self.backend.memory() else { return false };
        if memory.fixed_bytes() != self.fixed.load(Relaxed) {
            // A model's weights are gone later than its lanes.
            self.share_out(&self.parts());
        }
        let high = memory.limit_bytes as f64 * self.high_mark;
        let fixed = memory.fixed_bytes() as f64;
        let low = fixed + (high - fixed).max(0.0) * (1.0 - FREE_AGAIN);
        let held = memory.held_bytes() as f64;
        let mark = if self.is_short.load(Relaxed) { low } else { high };
        // Lanes may overwrite each other's finding; the next look finds anew.
        self.is_short.store(held > mark, Relaxed);
        held > mark
    }

    fn share_out(&self, parts: &[Part]) {
        let Some(memory) = self.backend.memory() else { return };
        self.fixed.store(memory.fixed_bytes(), Relaxed);
        self.enforced.store(each(parts, &memory, 1.0), Relaxed);
        self.planned.store(each(parts, &memory, self.high_mark), Relaxed);
    }

    fn settle(&self, number: u64, row_bytes: u64) -> Result<(), TooLittle> {
        let mut parts = self.parts();
        parts.iter_mut().filter(|part| part.share == number).for_each(|part| part.row_bytes = row_bytes);
        self.share_out(&parts);
        let Some(memory) = self.backend.memory() else { return Ok(()) };
        // Its own rows, and those of the models that now have less.
        let shared = self.planned.load(Relaxed);
        let mut each = parts.iter().map(|part| (part, part.stated.unwrap_or(shared)));
        match each.find(|(part, bytes)| *bytes < part.row_bytes) {
            None => Ok(()),
            Some((part, lane_bytes)) => Err(TooLittle {
                model: part.model.clone(),
                weight_bytes: memory.weight_bytes,
                limit_bytes: memory.limit_bytes,
                lane_bytes,
                row_bytes: part.row_bytes,
            }),
        }
    }

    fn leave(&self, number: u64) {
        let mut parts = self.parts();
        parts.retain(|part| part.share != number);
        self.share_out(&parts);
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left for each lane of no stated size, below a mark.
fn each(parts: &[Part], memory: &DeviceMemory, mark: f64) -> u64 {
    let stated: u64 = parts.iter().filter_map(|part| Some(part.stated?.saturating_mul(part.lanes))).sum();
    let lanes: u64 = parts.iter().filter(|part| part.stated.is_none()).map(|part| part.lanes).sum();
    let below = if mark < 1.0 { (memory.limit_bytes as f64 * mark) as u64 } else { memory.limit_bytes };
    below.saturating_sub(memory.fixed_bytes()).saturating_sub(stated) / lanes.max(1)
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("parts", &self.parts()).finish_non_exhaustive()
    }
}

/// A model's part of a device; dropping it leaves more to the others.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    number: u64,
    stated: Option<u64>,
}

impl Share {
    /// What a lane may use; a batch that wants more runs out of memory.
    pub(super) fn lane_bytes(&self) -> u64 {
        self.stated.unwrap_or_else(|| self.budget.enforced.load(Relaxed))
    }

    /// What batches are made for: below the high mark, so that what is normal does not end in refusals.
    pub(super) fn planned_bytes(&self) -> u64 {
        self.stated.unwrap_or_else(|| self.budget.planned.load(Relaxed))
    }

    /// Says what the smallest row needs, and asks whether all models still have room for theirs.
    pub(super) fn settle(&self, row_bytes: u64) -> Result<(), TooLittle> {
        self.budget.settle(self.number, row_bytes)
    }

    /// Whether requests should be refused now.
    pub(super) fn is_short(&self) -> bool {
        self.budget.is_short()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{Behaviour, Fake, Memory};

    fn budget(bytes: u64) -> (Fake, Arc<Budget>) {
        let fake = Fake::new(Behaviour { memory: Some(Memory::default()), ..Behaviour::default() });
        (fake.clone(), Budget::new(Arc::new(fake), bytes, 0.9))
    }

    #[test]
    fn lanes_share_what_weights_and_stated_lanes_leave() {
        let (fake, budget) = budget(1000);
        let one = budget.join("one", 2, None);
        assert_eq!((one.lane_bytes(), one.planned_bytes()), (500, 450));
        fake.set_weights(100);
        let stated = budget.join("stated", 2, Some(150));
        assert_eq!((one.lane_bytes(), stated.lane_bytes()), (300, 150));
        assert_eq!(one.planned_bytes(), (900 - 100 - 300) / 2);
        let other = budget.join("other", 1, None);
        assert_eq!((one.lane_bytes(), other.lane_bytes()), (200, 200));
        drop((stated, other));
        assert_eq!(one.lane_bytes(), 450);
        fake.set_weights(0);
        assert_eq!((budget.is_short(), one.lane_bytes()), (false, 500));
        let unlimited = Budget::new(Arc::new(Fake::default()), 1000, 0.9);
        assert_eq!((unlimited.join("x", 1, None).lane_bytes(), unlimited.is_short()), (u64::MAX, false));
    }

    #[test]
    fn a_model_that_leaves_another_no_row_is_refused_with_the_figures() {
        let (fake, budget) = budget(1000);
        let one = budget.join("one", 1, None);
        one.settle(500).unwrap();
        fake.set_weights(100);
        let large = budget.join("large", 1, None);
        let error = large.settle(1).unwrap_err();
        assert_eq!((&error.model[..], error.lane_bytes, error.row_bytes), ("one", 400, 500));
        assert!(error.to_string().starts_with("the weights of all models hold 100 of 1000 bytes, which leaves 400 "));
        drop(large);
        fake.set_weights(500);
        assert_eq!(budget.join("own", 1, None).settle(300).unwrap_err().model, "one");
        assert_eq!(budget.join("stated", 1, Some(10)).settle(20).unwrap_err().model, "one");
    }

    #[test]
    fn refusing_begins_above_the_mark_and_ends_well_below_it() {
        let (fake, budget) = budget(1000);
        fake.set_weights(500);
        // The mark is at 900; a quarter of the 400 below it must be free again.
        let seen = [0, 399, 400, 401, 399, 301, 299, 350, 401].map(|held| {
            fake.set_held(held);
            budget.is_short()
        });
        assert_eq!(seen, [false, false, false, true, true, true, false, false, true]);
    }

    #[test]
    fn the_machines_memory_is_read_off_the_kernels_words() {
        assert_eq!(
            total_bytes("MemFree: 1 kB\n").or(total_bytes("MemTotal:    1024 kB\nMemFree: 1 kB")),
            Some(1 << 20)
        );
        assert!(default_bytes() > 1 << 28);
    }
}
