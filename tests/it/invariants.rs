//! The invariants of DESIGN section 3 that can hold already, and where each is tested:
//!
//! 1. Knowledge flows inward: `tests/layers.rs`.
//! 2. Everything has a bound and an account; an accepted invocation gets exactly one answer: `overload`, `deadline`,
//!    `drain`, `hang_up` (all back to zero, wherever the caller left), and here: what is held is what was brought.
//! 3. A guest can hurt only its own invocation: `hostile` (memory, time, rows, headers, what it sees), `folder` (what a
//!    component imports), and here: what one function is told, another is not.
//! 4. Batching is invisible: `batching`, `tokens`; that a cache fault is a miss comes with the cache.
//! 5. Staging goes back when the last owner lets go: `hang_up` (on the device, beside a neighbour), and here: a sealed
//!    tensor goes through model after model. That batch tensors stay on their thread is how `engine` is built.

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    raw::Raw,
    support::{TestHost, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_what_was_brought() {
    let host = TestHost::new().probe().start().await;
    let held = async || host.control("/health").await.json()["host_memory_bytes"].as_u64().unwrap();
    assert_eq!(held().await, 0);
    // An announced length is a claim, not memory: only what came is charged.
    let head = "POST /v1/functions/test/probe/echo HTTP/1.1\r\ncontent-length: 1000000";
    let mut uploading = Raw::begin(&host, head, &[b'x'; 1000]).await;
    // Beside the body its head, and once it comes in pieces some room for more.
    const HEAD: u64 = 500;
    eventually("the first piece is charged", async || (1000..1000 + HEAD).contains(&held().await)).await;
    uploading.send(&[b'x'; 500]).await;
    eventually("and the second", async || (1500..2 * 1500 + HEAD).contains(&held().await)).await;
    assert!(host.control("/metrics").await.text().contains("tenon_host_memory_bytes{kind=\"guest\"} 0"));
    let request = host.metric("tenon_host_memory_bytes{kind=\"request\"}");
    assert!(request >= 1500.0, "{request}");
    drop(uploading);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_function_is_told_another_is_not() {
    let other = [("colour = \"green\"", "colour = \"red\"")];
    let test = TestHost::new().probe().function_as("test", "twin", "probe").changed_function("twin", &other);
    let host = test.function_as("rival", "probe", "probe").start().await;
    let colour = async |path: &str| {
        let answer = host.post(&format!("/v1/functions/{path}/config"), "").await;
        answer.json()["colour"].as_str().unwrap().to_owned()
    };
    let tenant = async |path: &str| host.post(&format!("/v1/functions/{path}/echo"), "").await.json()["tenant"].clone();
    for _ in 0..10 {
        let colours = join_all(["test/probe", "test/twin", "rival/probe"].map(&colour)).await;
        assert_eq!(colours, ["green", "red", "green"]);
        assert_eq!(join_all(["test/probe", "rival/probe"].map(&tenant)).await, [json!("test"), json!("rival")]);
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_different_tenants_and_plugins_share_batches() {
    let test = TestHost::new().probe().functions(&["identity"]).function_as("rival", "identity", "identity");
    let host = test.start().await;
    let row: Vec<u8> = (1..=64).collect();
    for _ in 0..50 {
        let calls = (0..30).map(async |caller: usize| match caller % 3 {
            0 => assert_eq!(host.call("identity", row.clone()).await.body, row),
            1 => assert_eq!(host.post("/v1/functions/rival/identity", row.clone()).await.body, row),
            _ => assert_eq!(host.call("probe/rows?n=1", "").await.json()["equal"], true),
        });
        join_all(calls).await;
        if host.batches_over("identity", 1) > 0.0 {
            break;
        }
    }
    assert!(host.batches_over("identity", 1) > 0.0, "no batch was shared");
    // Each pays for its own rows.
    for (tenant, function) in [("test", "identity"), ("rival", "identity"), ("test", "probe")] {
        let line =
            format!("tenon_device_seconds_total{{function=\"{function}\",model=\"identity\",tenant=\"{tenant}\"}}");
        assert!(host.metric(&line) > 0.0, "{line}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_go_on_as_inputs() {
    let host = TestHost::new().probe().start().await;
    let calls = (1..=8).map(async |rounds: usize| {
        let answer = host.call(&format!("probe/chain?n={rounds}"), "").await;
        assert_eq!((answer.status, &answer.json()["rounds"]), (200, &json!(rounds)), "{}", answer.text());
        assert_eq!(answer.json()["equal"], true);
    });
    join_all(calls).await;
    let parallel = host.call("probe/parallel", "").await.json();
    assert_eq!((&parallel["same"], &parallel["total"]), (&json!([[1, 2, 3], [4]]), &json!([6, 4])));
    host.all_back_to_zero().await;
}
