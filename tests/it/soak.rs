//! Many invocations, one after another and side by side: memory that is held for good would show as a process that grows.
//! 20,000 of them here, as many as `SOAK_INVOCATIONS` says, 1,000,000 in `make soak`.

use futures_util::future::join_all;

use crate::{
    alone::Alone,
    raw::Raw,
    support::{Served, TestHost},
};

const INVOCATIONS: usize = 20_000;
/// Connections, kept open and used again and again.
const CALLERS: usize = 4;
/// Samples of the process's memory, the same number whatever the number of invocations.
const SAMPLES: usize = 100;
/// What the last tenth of the samples may have over the second tenth. The first tenth is not counted: pools and
/// allocators fill. 4 MiB in 20,000 are 230 bytes an invocation, in 1,000,000 less than five.
const FLAT_BYTES: u64 = 4 << 20;

fn mean(samples: &[u64]) -> u64 {
    samples.iter().sum::<u64>() / samples.len() as u64
}

/// So many invocations of the empty function on each connection.
async fn invoke(host: &Served, callers: &mut [Raw], each: usize) {
    let calls = callers.iter_mut().map(async |caller| {
        for _ in 0..each {
            caller.send(b"POST /v1/functions/test/empty HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{}").await;
            assert_eq!(caller.answer().await.unwrap().status, 200);
        }
    });
    join_all(calls).await;
    assert!(host.metric("tenon_invocations_in_flight") <= CALLERS as f64);
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "`make soak` shows how far it is")]
async fn memory_is_flat() {
    let Some(process) = Alone::run("soak::memory_is_flat") else { return };
    let wanted = std::env::var("SOAK_INVOCATIONS").ok().map(|count| count.parse::<usize>().unwrap());
    let invocations = wanted.unwrap_or(INVOCATIONS);
    let host = TestHost::new().functions(&["empty"]).start().await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(Raw::to(&host).await);
    }
    let mut samples = Vec::new();
    for sample in 1..=SAMPLES {
        invoke(&host, &mut callers, invocations / SAMPLES / CALLERS).await;
        samples.push(process.resident_bytes());
        if wanted.is_some() && sample % (SAMPLES / 20) == 0 {
            println!(
                "{:>9} invocations, {:>7} KiB resident",
                invocations / SAMPLES * sample,
                samples[sample - 1] >> 10
            );
        }
    }
    let tenth = SAMPLES / 10;
    let (early, late) = (mean(&samples[tenth..2 * tenth]), mean(&samples[SAMPLES - tenth..]));
    println!("resident: {} KiB in the second tenth, {} KiB in the last", early >> 10, late >> 10);
    assert!(late < early + FLAT_BYTES, "memory grows: {samples:?}");
    host.all_back_to_zero().await;
}
