//! A device's memory across models: what a lane may use, whether a further model fits, when to refuse requests.
//!
//! Owns these sums, over figures that the backend counts. Refuses to know what a batch needs (that is `profile`) and how
//! limits are enforced (the backend's). Where a backend counts nothing, nothing is limited.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::backend::{Backend, Device, DeviceMemory};

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
pub(super) enum TooLittle {
    /// A lane would have too little for a row.
    #[error(
        "the weights of all models hold {weight_bytes} of {limit_bytes} bytes, which leaves {lane_bytes} for a lane of \
         `{model}`, and a row of it needs {row_bytes}: raise engine.memory_bytes, have \
         fewer models or lanes, or share it out by memory.lane_bytes"
    )]
    Lane { model: String, weight_bytes: u64, limit_bytes: u64, lane_bytes: u64, row_bytes: u64 },
    /// What is stated for lanes is more than there is.
    #[error(
        "the weights of all models hold {weight_bytes} bytes and memory.lane_bytes promises {stated_bytes} to lanes, of \
         {below_bytes} below the high mark: raise engine.memory_bytes, or state less"
    )]
    Stated { weight_bytes: u64, stated_bytes: u64, below_bytes: u64 },
}

/// The memory of one device.
pub(super) struct Budget {
    backend: Arc<dyn Backend>,
    device: Device,
    high_mark: f64,
    parts: Mutex<Vec<Part>>,
    /// What was held beside all models when memory was shared out.
    other: AtomicU64,
    is_short: AtomicBool,
}

/// A model's lanes.
#[derive(Debug)]
struct Part {
    share: u64,
    model: String,
    lanes: u64,
    stated: Option<u64>,
    /// What it holds without any lane.
    weight_bytes: u64,
    place: Arc<LaneBytes>,
    row: RowBytes,
    standing: Standing,
}

/// Whether a model counts where memory is shared out.
#[derive(Debug)]
enum Standing {
    /// It is being loaded, in the place of these: nobody has less for its sake until it serves.
    Coming(Vec<u64>),
    Serving,
    /// It only ends what it has begun, with what it had.
    Leaving,
}

/// What each lane of a model may hold, and what its batches are made for, below the high mark.
#[derive(Debug)]
struct LaneBytes {
    enforced: AtomicU64,
    planned: AtomicU64,
}

/// What rows of a model need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowBytes {
    /// The smallest: without it the model is of no use.
    pub(super) smallest: u64,
    /// The largest; while it fits, no other model may come that takes its room.
    pub(super) largest: u64,
}

impl Budget {
    /// Limits the backend to so many bytes.
    pub(super) fn new(backend: Arc<dyn Backend>, device: Device, bytes: u64, high_mark: f64) -> Arc<Self> {
        backend.limit_memory(device, bytes);
        let (parts, other, is_short) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { backend, device, high_mark, parts, other, is_short })
    }

    /// What a model that is being loaded may use: for so many lanes, each of the stated size if there is one. Lanes of
    /// no stated size share what weights and stated ones leave, evenly. It comes in the place of the models `instead_of`.
    pub(super) fn join(
        self: &Arc<Self>,
        model: &str,
        (lanes, stated): (usize, Option<u64>),
        instead_of: Vec<u64>,
    ) -> Arc<Share> {
        let mut parts = self.parts();
        let share = parts.iter().map(|part| part.share + 1).max().unwrap_or_default();
        let [enforced, planned] = [stated.unwrap_or(u64::MAX); 2].map(AtomicU64::new);
        let place = Arc::new(LaneBytes { enforced, planned });
        let (model, lanes, standing) = (model.into(), lanes as u64, Standing::Coming(instead_of));
        let (weight_bytes, row) = (0, RowBytes::default());
        parts.push(Part { share, model, lanes, stated, weight_bytes, place: place.clone(), row, standing });
        self.share_out(&parts);
        Arc::new(Share { budget: self.clone(), number: share, place })
    }

    /// Looks at the figures: whether requests should be refused now.
    pub(super) fn is_short(&self) -> bool {
        let Some(memory) = self.backend.memory(self.device) else { return false };
        if memory.other_bytes != self.other.load(Relaxed) {
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

    /// Works out what each lane may hold: beside those that serve, whoever else is coming or leaving. What it has once the
    /// change is over counts; while models come and go more is promised than there is, and the device's limit stands. So
    /// that this is seldom met, batches are planned for all that are there.
    fn share_out(&self, parts: &[Part]) {
        let Some(memory) = self.backend.memory(self.device) else { return };
        self.other.store(memory.other_bytes, Relaxed);
        for part in parts.iter().filter(|part| part.stated.is_none() && !matches!(part.standing, Standing::Leaving)) {
            let view = || parts.iter().filter(|other| part.counts(other));
            let enforced = each(view(), &memory, 1.0);
            let planned = each(view(), &memory, self.high_mark).min(each(parts.iter(), &memory, self.high_mark));
            part.place.enforced.store(enforced, Relaxed);
            part.place.planned.store(planned, Relaxed);
        }
    }

    fn weighs(&self, number: u64, weight_bytes: u64) {
        let mut parts = self.parts();
        parts.iter_mut().filter(|part| part.share == number).for_each(|part| part.weight_bytes = weight_bytes);
        self.share_out(&parts);
    }

    fn settle(&self, number: u64, row: RowBytes) -> Result<(), TooLittle> {
        let mut parts = self.parts();
        let Some(memory) = self.backend.memory(self.device) else { return Ok(()) };
        parts.iter_mut().filter(|part| part.share == number).for_each(|part| part.row = row);
        self.share_out(&parts);
        let Some(newcomer) = parts.iter().find(|part| part.share == number) else { return Ok(()) };
        let view = || parts.iter().filter(|other| newcomer.counts(other));
        self.is_promised(view(), &memory)?;
        // Its own rows, and those of the models that will have less.
        let (enforced, planned) = (each(view(), &memory, 1.0), each(view(), &memory, self.high_mark));
        for part in view() {
            let wants = [(part.row.smallest, planned), (part.served_bytes(), enforced)];
            for (row_bytes, shared) in wants {
                let lane_bytes = part.stated.unwrap_or(shared);
                if lane_bytes < row_bytes {
                    let (weight_bytes, limit_bytes) = (weights(view()), memory.limit_bytes);
                    let model = part.model.clone();
                    return Err(TooLittle::Lane { model, weight_bytes, limit_bytes, lane_bytes, row_bytes });
                }
            }
        }
        Ok(())
    }

    /// Whether there is as much as lanes are promised, or requests would be refused for ever.
    fn is_promised<'a>(
        &self,
        parts: impl Iterator<Item = &'a Part> + Clone,
        memory: &DeviceMemory,
    ) -> Result<(), TooLittle> {
        let (weight_bytes, stated_bytes) = (weights(parts.clone()), stated(parts));
        let below_bytes = below(memory, self.high_mark);
        if weight_bytes.saturating_add(memory.other_bytes).saturating_add(stated_bytes) <= below_bytes {
            return Ok(());
        }
        Err(TooLittle::Stated { weight_bytes, stated_bytes, below_bytes })
    }

    fn stands(&self, number: u64, standing: Standing) {
        let mut parts = self.parts();
        if let Some(part) = parts.iter_mut().find(|part| part.share == number) {
            part.standing = standing;
        }
        self.share_out(&parts);
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

impl Part {
    /// Whether another model shares the device with this one, as this one has to see it.
    fn counts(&self, other: &Self) -> bool {
        match (&self.standing, &other.standing) {
            (_, Standing::Leaving) | (Standing::Leaving, _) => false,
            (Standing::Coming(_), Standing::Coming(_)) | (Standing::Serving, Standing::Serving) => true,
            (Standing::Coming(instead_of), Standing::Serving) => !instead_of.contains(&other.share),
            (Standing::Serving, Standing::Coming(_)) => false,
        }
    }

    /// What its largest row needs, where it serves such rows today: that is not taken from it.
    fn served_bytes(&self) -> u64 {
        let fits = self.row.largest <= self.place.enforced.load(Relaxed);
        if fits && matches!(self.standing, Standing::Serving) { self.row.largest } else { 0 }
    }
}

/// What is left for each lane of no stated size, below a mark.
fn each<'a>(parts: impl Iterator<Item = &'a Part> + Clone, memory: &DeviceMemory, mark: f64) -> u64 {
    let lanes: u64 = parts.clone().filter(|part| part.stated.is_none()).map(|part| part.lanes).sum();
    let fixed = memory.other_bytes.saturating_add(weights(parts.clone())).saturating_add(stated(parts));
    below(memory, mark).saturating_sub(fixed) / lanes.max(1)
}

fn weights<'a>(parts: impl Iterator<Item = &'a Part>) -> u64 {
    parts.map(|part| part.weight_bytes).fold(0, u64::saturating_add)
}

fn stated<'a>(parts: impl Iterator<Item = &'a Part>) -> u64 {
    parts.filter_map(|part| Some(part.stated?.saturating_mul(part.lanes))).fold(0, u64::saturating_add)
}

fn below(memory: &DeviceMemory, mark: f64) -> u64 {
    if mark < 1.0 { (memory.limit_bytes as f64 * mark) as u64 } else { memory.limit_bytes }
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
    place: Arc<LaneBytes>,
}

impl Share {
    /// Names it among all.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Says what the model holds without any lane.
    pub(super) fn weighs(&self, bytes: u64) {
        self.budget.weighs(self.number, bytes);
    }

    /// What a lane may use; a batch that wants more runs out of memory.
    pub(super) fn lane_bytes(&self) -> u64 {
        self.place.enforced.load(Relaxed)
    }

    /// What batches are made for: below the high mark, so that what is normal does not end in refusals.
    pub(super) fn planned_bytes(&self) -> u64 {
        self.place.planned.load(Relaxed)
    }

    /// Says what rows need, and asks whether all models will still have room for theirs.
    pub(super) fn settle(&self, row: RowBytes) -> Result<(), TooLittle> {
        self.budget.settle(self.number, row)
    }

    /// The model serves: from now on the others have what it leaves.
    pub(super) fn serve(&self) {
        self.budget.stands(self.number, Standing::Serving);
    }

    /// The model serves no more and ends what it has begun.
    pub(super) fn retire(&self) {
        self.budget.stands(self.number, Standing::Leaving);
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
mod tests;
