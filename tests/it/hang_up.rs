//! Callers that leave: wherever their request is at the time, everything it held is free again, and rows that were in no
//! batch yet never run.

use crate::{
    raw::Raw,
    support::{Served, TestHost, eventually},
};

/// One request after the other through the slow model, and time for all of them.
const ONE_AT_A_TIME: [(&str, &str); 2] =
    [("max_batch_size = 8", "max_batch_size = 1"), ("queue_timeout_ms = 2000", "queue_timeout_ms = 60000")];
/// So that nothing but the caller's leaving can end an invocation while the test waits.
const PATIENT: [(&str, &str); 2] = [("timeout_ms = 30000", "timeout_ms = 60000"), ("cpu_ms = 500", "cpu_ms = 60000")];

async fn host() -> Served {
    TestHost::new().probe().changed_model("slow", &ONE_AT_A_TIME).changed_function("probe", &PATIENT).start().await
}

async fn get(host: &Served, path: &str) -> Raw {
    Raw::begin(host, &format!("GET /v1/functions/test/probe/{path} HTTP/1.1"), b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_uploading() {
    let host = host().await;
    let callers = [Raw::upload(&host, "probe/echo").await, Raw::upload(&host, "probe/echo").await];
    host.in_flight(2).await;
    assert!(host.control("/health").await.json()["host_memory_bytes"].as_u64().unwrap() >= 10, "bodies are charged");
    drop(callers);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_guest_loops() {
    let host = host().await;
    for path in ["loop/validate", "loop/preprocess", "loop/postprocess"] {
        let caller = get(&host, path).await;
        host.in_flight(1).await;
        eventually("the guest has memory", async || {
            host.control("/health").await.json()["host_memory_bytes"].as_u64().unwrap() > 1 << 16
        })
        .await;
        drop(caller);
        host.all_back_to_zero().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_rows_wait() {
    const AHEAD: usize = 8;
    const BEHIND: usize = 4;
    let host = host().await;
    let mut ahead = Vec::new();
    for _ in 0..AHEAD {
        ahead.push(get(&host, "slow").await);
    }
    host.in_flight(AHEAD).await;
    eventually("they are in the queue, or through it", async || {
        host.metric("tenon_queue_rows{model=\"slow\"}") + host.batches("slow") >= AHEAD as f64
    })
    .await;
    let mut behind = Vec::new();
    for _ in 0..BEHIND {
        behind.push(get(&host, "slow").await);
    }
    let waiting = || host.metric("tenon_queue_rows{model=\"slow\"}") + host.batches("slow");
    eventually("the others are behind them", async || waiting() >= (AHEAD + BEHIND) as f64).await;
    drop(behind);
    for mut caller in ahead {
        assert_eq!(caller.answer().await.unwrap().status, 200);
    }
    host.all_back_to_zero().await;
    assert_eq!(host.batches("slow"), AHEAD as f64, "rows that nobody waited for ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_rows_are_on_the_device() {
    let host = host().await;
    let caller = get(&host, "slow").await;
    eventually("the batch has begun", async || host.batches("slow") == 1.0).await;
    drop(caller);
    host.all_back_to_zero().await;
    assert_eq!(host.batches("slow"), 1.0);
    assert_eq!(host.call("probe/slow", "").await.status, 200, "the lane is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_neighbour_shares_the_batch() {
    let host = TestHost::new().probe().start().await;
    // The first occupies the lane, so that the next two wait together and share a batch.
    let mut first = get(&host, "slow").await;
    eventually("the batch has begun", async || host.batches("slow") == 1.0).await;
    let (leaver, mut stayer) = (get(&host, "slow").await, get(&host, "slow").await);
    eventually("the next batch has begun", async || host.batches("slow") >= 2.0).await;
    drop(leaver);
    assert_eq!(first.answer().await.unwrap().status, 200);
    let answer = stayer.answer().await.unwrap();
    assert_eq!((answer.status, answer.json()["y"].clone()), (200, serde_json::json!([vec![0.0; 16]])));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_answer_is_written() {
    let host = host().await;
    // Far more than socket buffers hold: the caller reads nothing, so the host keeps it and charges it.
    let caller = get(&host, "respond?bytes=16000000").await;
    eventually("the answer is held", async || {
        let health = host.control("/health").await.json();
        health["invocations_in_flight"] == 0 && health["host_memory_bytes"].as_u64().unwrap() >= 16_000_000
    })
    .await;
    drop(caller);
    host.all_back_to_zero().await;
}
