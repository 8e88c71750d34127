//! Too much at once: whoever cannot be served is told so at the door, with `Retry-After`, and whoever came in is served.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use tenon_host::config::Config;

use crate::{
    raw::Raw,
    support::{Answer, TestHost, eventually, rewrite},
};

fn is_shed(answer: &Answer, status: u16, code: &str) {
    answer.is_problem(status, code);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds), "retry-after: {seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue() {
    let changes = [
        ("max_batch_size = 8", "max_batch_size = 1"),
        ("max_queue_size = 16", "max_queue_size = 1"),
        // However slow the machine: who waits is served.
        ("queue_timeout_ms = 2000", "queue_timeout_ms = 60000"),
    ];
    let host = TestHost::new().probe().changed_model("slow", &changes).start().await;
    let answers = join_all((0..12).map(|_| host.call("probe/slow", ""))).await;
    let (served, shed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!served.is_empty() && !shed.is_empty(), "{} served, {} shed", served.len(), shed.len());
    shed.iter().for_each(|answer| is_shed(answer, 429, "queue-full"));
    host.all_back_to_zero().await;
    assert_eq!(host.batches("slow") as usize, served.len());
    assert_eq!(host.call("probe/slow", "").await.status, 200);
}

/// A row that waits for company keeps the queue full, for as long as the test wants.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_waits_for_no_body_and_runs_no_guest() {
    const REFUSED: usize = 8;
    let changes = [
        ("max_queue_delay_ms = 0", "max_queue_delay_ms = 60000"),
        ("max_queue_size = 256", "max_queue_size = 1"),
        ("queue_timeout_ms = 2000", "queue_timeout_ms = 60000"),
    ];
    let host = TestHost::new().changed_model("identity", &changes).functions(&["identity"]).start().await;
    let row = [0; 64];
    let head = "POST /v1/functions/test/identity HTTP/1.1\r\ncontent-length: 64";
    let holder = Raw::begin(&host, head, &row).await;
    eventually("the queue is full", async || host.metric("tenon_queue_rows{model=\"identity\"}") == 1.0).await;
    let mut times = Vec::new();
    for _ in 0..REFUSED {
        let begun = Instant::now();
        // Half a body: a host that waits for the rest answers never.
        let answer = Raw::begin(&host, head, &row[..32]).await.answer().await.expect("an answer comes");
        times.push(begun.elapsed());
        is_shed(&answer, 429, "queue-full");
        assert!(answer.header("server-timing").starts_with("total;dur="), "a stage ran");
    }
    // How long it takes is what `make bench BENCH=overload` says; here, that it waits for nothing.
    assert!(times.iter().min() < Some(&Duration::from_millis(200)), "{times:?}");
    drop(holder);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_for_an_invocation() {
    let host =
        TestHost::new().probe().functions(&["empty"]).config(|config| config.sandbox.max_instances = 1).start().await;
    let mut holder = Raw::upload(&host, "probe/echo").await;
    host.in_flight(1).await;
    is_shed(&host.call("empty", "").await, 429, "concurrency-limit");
    assert_eq!(host.metric("tenon_shed_total{reason=\"concurrency-limit\"}"), 1.0);
    holder.send(b"56789").await;
    assert_eq!(holder.answer().await.unwrap().status, 200);
    host.all_back_to_zero().await;
    assert_eq!(host.call("empty", "").await.status, 200);
}

/// `tenant` holds nearly all of some three million bytes (what is left is less than a page); then the tenant `test` wants the first page of a guest's memory.
async fn no_memory_left(tenant: &str, host_bytes: u64, refused: (u16, &str)) {
    const BYTES: u64 = 3_010_000;
    const HELD: usize = 999_000;
    let memory = [("memory_bytes = 67108864", "memory_bytes = 3000000")];
    let test = TestHost::new().probe().changed_function("probe", &memory).function_as("rival", "probe", "probe");
    rewrite(&test.folder().join("functions/rival/probe/function.toml"), &memory);
    let limits = |config: &mut Config| {
        (config.limits.tenant_memory_bytes, config.limits.host_memory_bytes) = (BYTES, host_bytes)
    };
    let host = test.config(limits).start().await;
    let head = format!("POST /v1/functions/{tenant}/probe/echo HTTP/1.1\r\ncontent-length: 1000000");
    let mut holders = Vec::new();
    for _ in 0..3 {
        holders.push(Raw::begin(&host, &head, &[b'x'; HELD]).await);
    }
    eventually("the bodies are held", async || {
        host.control("/health").await.json()["host_memory_bytes"].as_u64() >= Some(3 * HELD as u64)
    })
    .await;
    is_shed(&host.call("probe/state", "").await, refused.0, refused.1);
    drop(holders);
    host.all_back_to_zero().await;
    assert_eq!(host.call("probe/state", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_left_for_the_tenant() {
    no_memory_left("test", 1 << 30, (429, "tenant-memory")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_left_on_the_host() {
    no_memory_left("rival", 3_010_000, (503, "host-memory")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_exactly_one_answer() {
    let changes =
        [("max_queue_size = 16", "max_queue_size = 4"), ("queue_timeout_ms = 2000", "queue_timeout_ms = 200")];
    let test =
        TestHost::new().probe().changed_model("slow", &changes).config(|config| config.sandbox.max_instances = 12);
    let host = test.start().await;
    let paths = ["slow", "rows?n=3", "trap", "lookup?values=1,2,3,60", "state", "ids?values=1,2", "slow", "memory"];
    let calls = (0..160).map(async |caller: usize| {
        let answer = host.call(&format!("probe/{}", paths[caller % paths.len()]), "").await;
        let known = [
            "plugin-trap",
            "plugin-memory",
            "model-failed",
            "queue-full",
            "concurrency-limit",
            "queue-timeout",
            "deadline-exceeded",
        ];
        if answer.status != 200 {
            let code = answer.json()["code"].as_str().unwrap().to_owned();
            assert!(known.contains(&&code[..]), "{code}");
            answer.is_problem(answer.status, &code);
        }
        answer.status
    });
    let answers = join_all(calls).await;
    assert!(answers.contains(&200) && answers.contains(&429), "{answers:?}");
    host.all_back_to_zero().await;
    assert_eq!(host.sum("tenon_invocations_total{") as usize, answers.len(), "each is counted once");
}
