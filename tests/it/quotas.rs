//! What a tenant may use: requests, invocations at once, rows, memory, processor time, bodies, models, functions, stored
//! bytes; and how many of a function's invocations run at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    deploying::{plugin, stamped},
    support::{Answer, Served, TestHost, eventually, made},
};

impl Served {
    async fn allow(&self, tenant: &str, settings: Value) {
        let path = format!("/admin/v1/tenants/{tenant}");
        let set = self.asks("PUT", &path, Some(json!({ "settings": settings })), &self.token()).await;
        assert_eq!(set.status, 200, "{}", set.text());
    }

    async fn shop(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.post(&format!("/v1/functions/shop/{path}"), body).await
    }
}

/// A host with the probe as `shop/probe`.
async fn probe() -> Served {
    let host = TestHost::new().models(&["identity", "lookup", "ragged-identity", "slow"]).start().await;
    let mut probe = plugin("probe", "");
    probe.manifest = std::fs::read_to_string(made(".tenon/test-functions/test/probe/function.toml")).unwrap();
    host.deployed("shop/probe", "?promote=true", &probe, 1).await;
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_rate_are_told_when_to_come_again() {
    let host = TestHost::new().start().await;
    host.deployed("shop/stamp", "?promote=true", &stamped(1), 1).await;
    host.allow("shop", json!({ "limits": { "requests_per_second": 0.5, "burst": 3 } })).await;
    let statuses = join_all((0..8).map(|_| host.stamp("shop/stamp"))).await;
    let (well, refused): (Vec<_>, Vec<_>) = statuses.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(well.len(), 3);
    for answer in refused {
        answer.is_problem(429, "rate-limited");
        assert_eq!(answer.header("retry-after"), "2");
    }
    assert!(host.sum("tenon_shed_total{reason=\"rate-limited\"}") >= 5.0);
    // Others are not concerned, and what is allowed changes at once.
    host.deployed("other/stamp", "?promote=true", &stamped(1), 1).await;
    assert_eq!(host.stamp("other/stamp").await.status, 200);
    host.allow("shop", json!({})).await;
    assert_eq!(host.stamp("shop/stamp").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_rows_and_bodies_are_held_to_the_tenants_limits() {
    let host = probe().await;
    host.allow("shop", json!({ "limits": { "concurrency": 2, "rows_in_flight": 4, "body_bytes": 10 } })).await;
    let slow = join_all((0..5).map(|_| host.shop("probe/slow", ""))).await;
    let refused: Vec<_> = slow.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty() && slow.len() - refused.len() >= 2);
    for answer in refused {
        answer.is_problem(429, "concurrency-limit");
    }
    let answer = host.shop("probe/rows?n=5", "").await;
    answer.is_problem(413, "too-many-rows");
    let at_once = join_all((0..2).map(|_| host.shop("probe/rows?n=4", ""))).await;
    for answer in at_once.iter().filter(|answer| answer.status != 200) {
        let problem = answer.is_problem(429, "rate-limited");
        assert!(problem["detail"].as_str().unwrap().contains("rows in flight"), "{problem}");
    }
    assert_eq!(host.shop("probe/rows?n=4", "").await.status, 200);
    host.shop("probe/rows?n=1", "12345678901").await.is_problem(413, "body-too-large");
    host.allow("shop", json!({ "limits": { "memory_bytes": 1000 } })).await;
    host.shop("probe/rows?n=1", "").await.is_problem(429, "tenant-memory");
    host.allow("shop", json!({})).await;
    assert_eq!(host.shop("probe/rows?n=5", "").await.status, 200);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_paid_back_before_more_is_used() {
    let host = TestHost::new().start().await;
    host.deployed("shop/stamp", "?promote=true", &stamped(1), 1).await;
    host.allow("shop", json!({ "limits": { "cpu_seconds_per_second": 0.05 } })).await;
    // Some tens of milliseconds each.
    let work = async || host.post("/v1/functions/shop/stamp/work?turns=20000000", "").await;
    let start = Instant::now();
    let mut refused = None;
    while refused.is_none() && start.elapsed() < Duration::from_secs(20) {
        refused = Some(work().await).filter(|answer| answer.status != 200);
    }
    let refused = refused.unwrap();
    refused.is_problem(429, "rate-limited");
    let wait = refused.header("retry-after").parse::<u64>().unwrap();
    tokio::time::sleep(Duration::from_secs(wait.min(10))).await;
    assert_eq!(host.stamp("shop/stamp").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_granted() {
    let host = probe().await;
    let bound = "[models.identity]\nmodel = \"identity@serving\"\ninputs = { x = \"FP32[rows, 16]\" }\n";
    host.allow("shop", json!({ "models": ["lookup"] })).await;
    let told = host.deploys("shop/other", "", &plugin("identity", bound)).await;
    assert_eq!(told["error"]["code"], "model-not-granted", "{told}");
    assert!(told["error"]["detail"].as_str().unwrap().contains("identity"), "{told}");
    host.allow("shop", json!({ "models": ["identity"] })).await;
    host.deployed("shop/other", "", &plugin("identity", bound), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_stored_bytes_have_quotas() {
    let host = TestHost::new().start().await;
    host.allow("shop", json!({ "limits": { "functions": 1 } })).await;
    host.deployed("shop/one", "", &stamped(1), 1).await;
    let told = host.deploys("shop/two", "", &stamped(1)).await;
    assert_eq!(told["error"]["code"], "quota", "{told}");
    let size = stamped(1).component.len();
    host.allow("shop", json!({ "limits": { "stored_bytes": size + size / 2 } })).await;
    let told = host.deploys("shop/one", "", &stamped(2)).await;
    assert_eq!(told["error"]["code"], "quota", "{told}");
    // The same component again is stored once.
    host.deployed("shop/two", "", &stamped(1), 1).await;
    let tenant = host.control("/admin/v1/tenants/shop").await.json();
    assert_eq!(
        (&tenant["functions"], &tenant["settings"]["limits"]["stored_bytes"]),
        (&json!(2), &json!(size + size / 2))
    );
    host.asks("DELETE", "/admin/v1/tenants/shop", None, &host.token()).await.is_problem(409, "conflict");
    for function in ["one", "two"] {
        let gone = host.asks("DELETE", &format!("/admin/v1/functions/shop/{function}"), None, &host.token()).await;
        assert_eq!(gone.status, 204);
    }
    assert_eq!(host.asks("DELETE", "/admin/v1/tenants/shop", None, &host.token()).await.status, 204);
    host.control("/admin/v1/tenants/shop").await.is_problem(404, "tenant-not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_are_refused() {
    let host = TestHost::new().start().await;
    for (settings, status) in [
        (json!({ "weight": 0 }), 422),
        (json!({ "limits": { "requests_per_second": 0 } }), 422),
        (json!({ "limits": { "concurrency": 0 } }), 422),
        (json!({ "limits": { "burst": -1 } }), 400),
        (json!({ "wieght": 2 }), 400),
    ] {
        let set =
            host.asks("PUT", "/admin/v1/tenants/shop", Some(json!({ "settings": settings })), &host.token()).await;
        assert_eq!(set.status, status, "{settings}: {}", set.text());
    }
    assert_eq!(host.control("/admin/v1/tenants").await.json()["tenants"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_of_a_functions_invocations_run_and_so_many_wait() {
    let host = TestHost::new().start().await;
    let limits = "[limits]\nmax_concurrency = 1\nmax_waiting = 1\nwait_timeout_ms = 10000\n";
    host.deployed("shop/stamp", "?promote=true", &stamped(1).with(limits), 1).await;
    let work = || host.post("/v1/functions/shop/stamp/work?turns=20000000", "");
    let answers = join_all((0..4).map(|_| work())).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert_eq!(refused.len(), 2, "one runs, one waits");
    for answer in refused {
        answer.is_problem(429, "concurrency-limit");
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(host.metric("tenon_shed_total{reason=\"concurrency-limit\"}"), 2.0);
    eventually("the place is free", async || work().await.status == 200).await;
    host.all_back_to_zero().await;
}
