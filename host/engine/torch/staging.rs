//! Pinned memory that guests write their tensors into, so that a GPU copies rows from where they were written.
//!
//! Owns one stretch of it, taken once, and who has which part; a part is zeroed when it is given. Refuses to grow: what finds
//! no room lies in plain memory and is gathered into a lane's own pinned memory, as small rows are anyhow. Whether a row lies
//! here is told by its address.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use offset_allocator::{Allocation, Allocator};
use tch::Tensor;

use crate::tensor::{Buffer, HeapStaging, Staging};

/// Parts are so many bytes, or a multiple: the allocator counts in these.
const UNIT_BYTES: usize = 4096;
/// A tensor with less is gathered in any case, and so is a row: to hand over a copy of its own takes longer than to gather it.
pub(super) const LEAST_BYTES: usize = 128 << 10;

/// The stretch. Lives as long as the process: to free pinned memory asks a device, and one that is lost ends the process then.
pub(super) struct Region {
    start: Address,
    bytes: usize,
    parts: Mutex<Allocator<u32>>,
    /// Whether it was told that there was no room.
    told: AtomicBool,
}

/// A part of the stretch, which goes back to it when it is dropped.
struct Part {
    region: Arc<Region>,
    allocation: Allocation<u32>,
    start: Address,
    bytes: usize,
}

/// Where bytes lie. Known to any thread; who reads or writes there says why they may.
struct Address(*mut u8);

#[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
// SAFETY: by itself it reaches nothing.
unsafe impl Send for Address {}
#[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Region {
    /// Over bytes on the processor; as many of them as make whole units.
    pub(super) fn new(memory: Tensor) -> Self {
        let units = memory.size().first().map_or(0, |bytes| *bytes as usize / UNIT_BYTES);
        let (start, parts) = (Address(memory.data_ptr().cast()), Mutex::new(Allocator::new(units as u32)));
        let told = AtomicBool::new(false);
        std::mem::forget(memory);
        Self { start, bytes: units * UNIT_BYTES, parts, told }
    }

    /// Whether these bytes lie in it.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        let (first, own) = (bytes.as_ptr() as usize, self.start.0 as usize);
        first >= own && first + bytes.len() <= own + self.bytes
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Part> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        let allocation = self.parts.lock().unwrap_or_else(PoisonError::into_inner).allocate(units)?;
        #[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
        // SAFETY: the allocator counts the region's units, so the part lies within it.
        let start = unsafe { self.start.0.add(allocation.offset as usize * UNIT_BYTES) };
        Some(Part { region: self.clone(), allocation, start: Address(start), bytes })
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({} bytes)", self.bytes)
    }
}

impl AsRef<[u8]> for Part {
    #[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes of the region are this part's alone while it lives, and `PinnedStaging` has written them.
        unsafe { std::slice::from_raw_parts(self.start.0, self.bytes) }
    }
}

impl AsMut<[u8]> for Part {
    #[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and it is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.0, self.bytes) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.region.parts.lock().unwrap_or_else(PoisonError::into_inner).free(self.allocation);
    }
}

/// Gives parts of the stretch while there is room, to tensors that are worth it.
pub(super) struct PinnedStaging(pub(super) Arc<Region>);

impl Staging for PinnedStaging {
    fn zeroed(&self, bytes: usize) -> Buffer {
        if bytes < LEAST_BYTES {
            return HeapStaging.zeroed(bytes);
        }
        let Some(part) = self.0.take(bytes) else {
            if !self.0.told.swap(true, Relaxed) {
                let region = self.0.bytes;
                tracing::warn!(
                    region,
                    "pinned memory is full: tensors are gathered until there is room; raise engine.pinned_bytes"
                );
            }
            return HeapStaging.zeroed(bytes);
        };
        // Before anybody sees it: it was another tenant's.
        #[expect(unsafe_code, reason = "memory of a tensor's is reached by a pointer")]
        // SAFETY: so many bytes of the region are this part's alone.
        unsafe {
            part.start.0.write_bytes(0, part.bytes);
        }
        Buffer::new(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Kind;

    use super::*;

    fn region(units: usize) -> Arc<Region> {
        let bytes = (units * UNIT_BYTES) as i64;
        // Not of zeros.
        Arc::new(Region::new(Tensor::full([bytes], 7, (Kind::Uint8, tch::Device::Cpu))))
    }

    #[test]
    fn large_tensors_lie_in_it_zeroed_while_there_is_room_and_others_elsewhere() {
        let region = region(80);
        let staging = PinnedStaging(region.clone());
        assert!(!region.holds(&staging.zeroed(LEAST_BYTES - 1)));
        let mut first = staging.zeroed(LEAST_BYTES);
        let second = staging.zeroed(33 * UNIT_BYTES + 1);
        assert!(region.holds(&first) && region.holds(&second));
        assert!(first.iter().chain(second.iter()).all(|byte| *byte == 0));
        let third = staging.zeroed(LEAST_BYTES);
        assert!(!region.holds(&third) && third.iter().all(|byte| *byte == 0), "there is no room");
        first.fill(9);
        let shared = first.freeze();
        drop((second, third));
        let again = shared.clone();
        drop(shared);
        let larger = staging.zeroed(48 * UNIT_BYTES);
        assert!(region.holds(&larger) && again.iter().all(|byte| *byte == 9), "it is kept while somebody has it");
        drop(again);
        let whole = staging.zeroed(32 * UNIT_BYTES);
        assert!(region.holds(&whole) && whole.iter().all(|byte| *byte == 0), "it is zeroed for the next");
    }

    #[test]
    fn a_stretch_without_room_for_anything_gives_nothing() {
        let region = region(0);
        assert!(!region.holds(&PinnedStaging(region.clone()).zeroed(1 << 20)));
    }

    proptest! {
        #[test]
        fn parts_never_overlap_and_all_comes_back(sizes in proptest::collection::vec((1..40_usize, any::<bool>()), 1..60)) {
            let region = region(128);
            let staging = PinnedStaging(region.clone());
            let mut held: Vec<(Buffer, u8)> = Vec::new();
            for (number, (units, lets_go)) in sizes.into_iter().enumerate() {
                let mark = (number % 251) as u8;
                let mut buffer = staging.zeroed(LEAST_BYTES + units * UNIT_BYTES - 1);
                buffer.fill(mark);
                held.push((buffer, mark));
                if lets_go {
                    held.swap_remove(number * 7 % held.len());
                }
                prop_assert!(held.iter().all(|(buffer, mark)| buffer.iter().all(|byte| byte == mark)));
            }
            held.clear();
            prop_assert!(region.holds(&staging.zeroed(128 * UNIT_BYTES)));
        }
    }
}
