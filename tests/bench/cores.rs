//! Which core a thread runs on, where a figure needs lanes and everything else apart. Threads keep to the core of the
//! thread that starts them, programs likewise, so whole hosts and loads are put somewhere by where they are started.

use std::{
    fs,
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
};

/// The core of lanes, and of the loop that is compared with one.
pub(crate) const LANE: usize = 0;
/// The core of everything else: reactor, guests, load.
pub(crate) const REST: usize = 1;

/// Runs on a thread of its own that keeps to one core.
pub(crate) fn on<T: Send>(core: usize, run: impl FnOnce() -> T + Send) -> T {
    let there = || {
        keep_to(core);
        run()
    };
    thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Puts the calling thread on one core.
pub(crate) fn keep_to(core: usize) {
    let thread = fs::read_link("/proc/thread-self").expect("Linux tells a thread its number");
    let number = thread.file_name().expect("it ends in the number");
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "--pid", &core.to_string()]).arg(number).stdout(Stdio::null());
    let moved = taskset.status().expect("`taskset` (util-linux) is there");
    assert!(moved.success(), "core {core} cannot be used: two cores are needed");
}
