//! How much of the processor time of a busy host is not the model's: the demo's reranker, eight callers in a process of
//! their own, the host in this one. A clock of the lane's thread stands around each batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cpu_time::{ProcessTime, ThreadTime};
use tenon_host::{
    boot,
    engine::{BackendError, Batch, Instance, Read},
};

use crate::{
    around::{self, Around},
    made,
    place::{Place, reactor},
    process::{Cell, Load, Pace},
};

/// Callers in a closed loop.
const CLIENTS: usize = 8;
/// How long is measured.
const DURATION: Duration = Duration::from_secs(10);

/// A clock around each batch. What it counts is rows stacked, `forward` and outputs found; taking each row's outputs from
/// there is the host's and does not count. Stacking is some microseconds of a batch's tens of milliseconds.
#[derive(Default)]
pub(crate) struct Timed {
    /// Nanoseconds of lanes' threads in batches.
    spent: AtomicU64,
}

impl Timed {
    /// Time of lanes' threads in batches up to now.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }
}

impl Around for Timed {
    fn run(&self, instance: &mut dyn Instance, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        let clock = ThreadTime::now();
        let mut reading = Duration::ZERO;
        let ran = instance.run(batch, &mut |outputs| {
            let before = clock.elapsed();
            let taken = read(outputs);
            reading += clock.elapsed() - before;
            taken
        });
        let time = clock.elapsed().saturating_sub(reading);
        self.spent.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        ran
    }
}

/// 1 − (lanes' time in batches / process time), while the load runs.
pub(crate) fn measure() {
    let place = Place::empty().with_demo(&[]);
    let config = place.config();
    let runtime = reactor(&config);
    let timed = Arc::new(Timed::default());
    let clock = timed.clone();
    let backend = move || around::torch(&clock);
    let host = runtime.block_on(boot::start_with(config, backend)).expect("the host starts");
    let body = made("tests/bench/bodies/question.json");
    let load = Load {
        url: format!("http://{}/v1/functions/demo/reranker", host.data_address()),
        pace: Pace::Clients(CLIENTS),
        duration: DURATION,
        body: &body,
        content_type: "application/json",
        pinned: false,
    };
    let (process, before) = (ProcessTime::now(), timed.spent());
    let Cell { requests_per_second, p50_ms, errors, .. } = load.drive();
    let (process, forward) = (process.elapsed(), timed.spent() - before);
    let share = 1.0 - forward.as_secs_f64() / process.as_secs_f64();
    println!(
        "processor time outside `forward`, reranker, {CLIENTS} clients: {:.2} % ({:.1} s of {:.1} s in forward; \
         {requests_per_second:.1}/s, p50 {p50_ms:.0} ms, {errors:.0} errors)",
        share * 100.0,
        forward.as_secs_f64(),
        process.as_secs_f64()
    );
    runtime.block_on(host.drain());
}
