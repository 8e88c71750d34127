//! Bytes across the boundary, in process: a guest writes 1 MB into a tensor and reads it back, against a memcpy of as many
//! bytes by the host. The guest holds the clock; both sides copy between buffers that were touched before.

use std::{hint::black_box, sync::Arc, time::Instant};

use tenon_host::{
    invocation::{Request, Step},
    sandbox::{Config, Plugin, Sandbox},
    tensor::HeapStaging,
};

use crate::{instance::assignment, made, median};

/// Bytes of a copy.
const BYTES: usize = 1 << 20;
/// Copies between two looks at the clock.
const COPIES: u32 = 64;
/// Turns that each side takes.
const TURNS: usize = 21;

/// Nanoseconds of one copy each: memcpy, then what the guest tells.
pub(crate) fn measure() {
    let sandbox = Sandbox::new(Config::default(), Arc::new(HeapStaging)).expect("the sandbox starts");
    let component = std::fs::read(made(".tenon/test-functions/test/copy/copy.wasm")).expect("it is laid out");
    let plugin = Arc::new(sandbox.compile(&component).expect("it is a plugin"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let (source, mut target) = (vec![0x5a_u8; BYTES], vec![0_u8; BYTES]);
    let turns: Vec<_> = (0..TURNS).map(|_| (memcpy(&source, &mut target), runtime.block_on(guest(&plugin)))).collect();
    let of = |index: usize| median(turns.iter().map(|(_, guest)| guest[index]));
    // One turn's own memcpy is what its guest is held against.
    let both = median(turns.iter().map(|(memcpy, guest)| 2.0 * memcpy / (guest[0] + guest[1])));
    let plain = median(turns.iter().map(|turn| turn.0));
    println!("memcpy of 1 MiB: {:.1} us ({:.0} GB/s)", plain / 1e3, BYTES as f64 / plain);
    println!(
        "1 MiB written into a tensor and read back as an output is: {both:.2}x of memcpy (two copies against two)"
    );
    for (index, what) in
        ["written", "read back, shared", "read back, not yet shared", "tensor made and written"].into_iter().enumerate()
    {
        println!("  {what}: {:.1} us, {:.2}x", of(index) / 1e3, plain / of(index));
    }
}

fn memcpy(source: &[u8], target: &mut [u8]) -> f64 {
    let start = Instant::now();
    for _ in 0..COPIES {
        target.copy_from_slice(black_box(source));
        black_box(&mut *target);
    }
    start.elapsed().as_nanos() as f64 / f64::from(COPIES)
}

async fn guest(plugin: &Arc<Plugin>) -> [f64; 4] {
    let query = [("bytes", BYTES.to_string()), ("turns", COPIES.to_string())];
    let query = query.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let mut running = plugin.start(assignment(Request { query, ..Request::default() })).await.expect("a slot is free");
    let step = running.preprocess().await.expect("it does not trap").expect("it accepts");
    let Step::Respond(response) = step else { panic!("it answers at once") };
    let text = std::str::from_utf8(&response.body).expect("it is text");
    let times: Vec<f64> = text.split(' ').map(|time| time.parse().expect("it is a number")).collect();
    let times: [f64; 4] = times.try_into().expect("there are four times");
    times.map(|nanoseconds| nanoseconds / f64::from(COPIES))
}
