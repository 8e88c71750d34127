//! `Runtime::handle` of the empty function without a wire, from one task and from two: whether invocations that have
//! nothing to do with each other wait for each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tenon_host::{
    function::{Body, Call, Runtime},
    invocation::Request,
    telemetry::TraceContext,
};

use crate::{TURNS, median, requests::start};

/// How long a turn is.
const TURN: Duration = Duration::from_secs(1);

/// A body of one piece.
struct Once(Option<Bytes>);

impl Body for Once {
    fn announced(&self) -> Option<u64> {
        self.0.as_ref().map(|piece| piece.len() as u64)
    }

    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        self.0.take().map(Ok)
    }
}

/// Invocations per second of two tasks against one, on the host's own threads.
pub(crate) fn measure() {
    let servers = start();
    let runtime = servers.host.runtime().clone();
    let rate = |tasks: usize| servers.runtime.block_on(rate(&runtime, tasks));
    rate(2);
    let turns: Vec<_> = (0..TURNS).map(|_| (rate(1), rate(2))).collect();
    let ratio = median(turns.iter().map(|(one, two)| two / one));
    let (one, two) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
    println!(
        "Runtime::handle of the empty function, two tasks against one: {ratio:.2}x ({two:.0}/s against {one:.0}/s)"
    );
    servers.end();
}

async fn rate(runtime: &Arc<Runtime>, tasks: usize) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks).map(|_| tokio::spawn(invoke(runtime.clone(), start + TURN))).collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.expect("a task does not panic");
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

async fn invoke(runtime: Arc<Runtime>, until: Instant) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        let outcome = runtime.handle(call(), Once(Some(Bytes::from_static(b"{}")))).await;
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        count += 1;
    }
    count
}

fn call() -> Call {
    Call {
        id: "1".into(),
        tenant: "test".into(),
        function: "empty".into(),
        revision: None,
        timeout: None,
        priority: Default::default(),
        arrived: Instant::now(),
        caller: Default::default(),
        afresh: false,
        trace: TraceContext::begin(),
        request: Request { method: "POST".into(), ..Request::default() },
    }
}
