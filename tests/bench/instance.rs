//! A fresh instance with one call, in process: what isolation costs each invocation.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_host::{
    account::{Account, Holder},
    invocation::{Invocation, Request},
    sandbox::{Assignment, Config, Plugin, Sandbox},
    tensor::HeapStaging,
};

use crate::{made, quantile};

/// Instances that are made and dropped.
const INSTANCES: usize = 20_000;

/// What an instance may hold.
const MEMORY_BYTES: u64 = 64 << 20;
/// What it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Times of start, one call and drop.
pub(crate) fn measure() {
    let sandbox = Sandbox::new(Config::default(), Arc::new(HeapStaging)).expect("the sandbox starts");
    let component = std::fs::read(made(".tenon/test-functions/test/empty/empty.wasm")).expect("it is laid out");
    let plugin = Arc::new(sandbox.compile(&component).expect("it is a plugin"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let (one, whole) = runtime.block_on(async {
        let one = times(&plugin, false).await;
        (one, times(&plugin, true).await)
    });
    let (p25, p50) = (quantile(&one, 0.25), quantile(&one, 0.5));
    println!("fresh instance with one call (validate), dropped: p25 {p25:.1} us, p50 {p50:.1} us");
    let (p25, p50) = (quantile(&whole, 0.25), quantile(&whole, 0.5));
    println!(
        "fresh instance with two calls (validate, preprocess to a response), dropped: p25 {p25:.1} us, p50 {p50:.1} us"
    );
}

async fn times(plugin: &Arc<Plugin>, respond: bool) -> Vec<Duration> {
    let mut times = Vec::with_capacity(INSTANCES);
    for _ in 0..INSTANCES {
        let assignment = assignment(Request::default());
        let start = Instant::now();
        let mut running = plugin.start(assignment).await.expect("a slot is free");
        running.validate().await.expect("it does not trap").expect("it accepts");
        if respond {
            running.preprocess().await.expect("it does not trap").expect("it accepts");
        }
        drop(running);
        times.push(start.elapsed());
    }
    times.sort();
    times
}

/// Work for an instance, on an account of its own.
pub(crate) fn assignment(request: Request) -> Assignment {
    let deadline = Instant::now() + PATIENCE;
    let account = Account::host(MEMORY_BYTES).child(Holder::Invocation, MEMORY_BYTES);
    let invocation = Invocation::new("1".into(), ("test".into(), "bench".into()), deadline, account);
    Assignment {
        rows: None,
        invocation: Arc::new(invocation),
        request: Arc::new(request),
        models: Arc::new(BTreeMap::new()),
        config: Arc::new(BTreeMap::new()),
        cpu_limit: PATIENCE,
    }
}
