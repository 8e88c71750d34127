//! The host's allocator: mimalloc, and for each thread how much it holds. Decoders that believe what a file claims can be
//! stopped while they read it. Owns that number; refuses to know what it is for.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};

use mimalloc::MiMalloc;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// What this thread has allocated, less what it has freed, in bytes; less than nothing where it frees what others made.
/// Only the difference of two calls with work of this thread alone between them says something.
pub fn held() -> i64 {
    HELD.get()
}

fn count(bytes: i64) {
    // While a thread ends, nobody asks any more.
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(bytes)));
}

struct Counting;

/// Invocations make and drop pieces of every size on several threads at once, which mimalloc is quick at.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is made of raw memory; all of it is mimalloc's, in the sizes that it is asked for"
)]
// SAFETY: every call goes to mimalloc as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { MiMalloc.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { MiMalloc.realloc(place, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_what_it_holds() {
        let before = held();
        let mut kept = Vec::<u8>::with_capacity(1 << 20);
        assert_eq!(held() - before, 1 << 20);
        kept.reserve_exact(3 << 20);
        assert_eq!(held() - before, 3 << 20);
        std::thread::scope(|scope| scope.spawn(|| assert!(held() < 1 << 20, "another thread's")).join().unwrap());
        drop(kept);
        assert!((held() - before).abs() < 1 << 16);
    }
}
