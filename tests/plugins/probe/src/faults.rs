//! What a guest can do wrong with the machine itself: time, memory, stack, ending.

use std::hint::black_box;

const CHUNK_BYTES: usize = 1 << 20;
const EXIT_STATUS: i32 = 3;

/// Never ends, without a host call on the way.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Does what the path orders; comes back for paths that order nothing of the kind.
#[allow(clippy::disallowed_methods, reason = "a guest that exits is what is tried here")]
pub(crate) fn strike(path: &str) {
    match path {
        "/loop/preprocess" => spin(),
        "/trap" => std::process::abort(),
        "/panic" => panic!("the probe was told to panic"),
        "/exit" => std::process::exit(EXIT_STATUS),
        "/memory" => hoard(),
        "/recursion" => {
            black_box(descend(black_box(1)));
        }
        _ => {}
    }
}

/// Takes memory and writes to it until somebody says stop.
fn hoard() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; CHUNK_BYTES]));
    }
}

#[allow(unconditional_recursion, reason = "that is what is tried here")]
fn descend(depth: u64) -> u64 {
    // Used after the call, so that it is no loop in disguise.
    black_box(depth) + descend(black_box(depth + 1))
}
