//! The control plane: who may come in, and what it tells.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

use crate::support::{Answer, Served, TestHost};

/// The metrics of DESIGN section 11 that exist so far.
const METRICS: [&str; 18] = [
    "tenon_batch_rows",
    "tenon_batches_total",
    "tenon_cpu_seconds_total",
    "tenon_device_memory_bytes",
    "tenon_device_memory_limit_bytes",
    "tenon_device_seconds_total",
    "tenon_host_memory_bytes",
    "tenon_invocation_duration_seconds",
    "tenon_invocations_in_flight",
    "tenon_invocations_total",
    "tenon_lane_restarts_total",
    "tenon_padding_ratio",
    "tenon_queue_duration_seconds",
    "tenon_queue_limit_rows",
    "tenon_queue_rows",
    "tenon_shed_total",
    "tenon_stage_duration_seconds",
    "tenon_batch_rows_bucket",
];

async fn ask(host: &Served, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = host.client.get(format!("{}{path}", host.control));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_comes_in() {
    let host = TestHost::new().start().await;
    let file = host.folder.path().join("data/admin-token");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let good = format!("Bearer {}", host.token());
    let short = &good[..good.len() - 1];
    let basic = format!("Basic {}", host.token());
    // Even whether a path exists is told only to those who may come in.
    for path in ["/health", "/metrics", "/nothing", "/v1/functions", "/admin/v1/drain"] {
        ask(&host, path, &[]).await.is_problem(401, "unauthenticated");
        for wrong in ["Bearer", "Bearer x", short, &basic, &host.token()] {
            let answer = ask(&host, path, &[("authorization", wrong)]).await;
            answer.is_problem(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        let from_a_page = [("authorization", &good[..]), ("origin", "http://evil.example")];
        ask(&host, path, &from_a_page).await.is_problem(403, "forbidden");
        let rebound = [("authorization", &good[..]), ("host", "evil.example")];
        ask(&host, path, &rebound).await.is_problem(403, "forbidden");
    }
    assert_eq!(ask(&host, "/health", &[("authorization", &good), ("host", "localhost")]).await.status, 200);
    ask(&host, "/nothing", &[("authorization", &good)]).await.is_problem(404, "not-found");
    ask(&host, "/admin/v1/drain", &[("authorization", &good)]).await.is_problem(405, "method-not-allowed");
    assert_eq!(host.get("/health/ready").await.status, 200, "nothing of this drained the host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_others_can_read_is_refused() {
    let test = TestHost::new();
    let file = test.folder().join("data/admin-token");
    std::fs::write(&file, format!("tenon_admin_{}\n", "a".repeat(64))).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = test.try_start().await.err().expect("the host must not start");
    assert!(format!("{refused:#}").contains("chmod 600"), "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_figures() {
    let host = TestHost::new().probe().start().await;
    let health = host.control("/health").await.json();
    assert_eq!((&health["ready"], &health["reason"], &health["draining"]), (&true.into(), &().into(), &false.into()));
    assert_eq!((&health["invocations_in_flight"], &health["host_memory_bytes"]), (&0.into(), &0.into()));
    let names: Vec<_> =
        health["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["identity", "lookup", "ragged-identity", "slow"]);
    let device = &health["devices"][0];
    assert_eq!((&device["device"], device["limit_bytes"].as_u64() > Some(1 << 28)), (&"cpu".into(), true));
    let weights = health["models"].as_array().unwrap().iter().map(|model| model["weight_bytes"].as_u64().unwrap());
    assert_eq!(device["weight_bytes"], weights.sum::<u64>());
    assert_eq!(health["models"][2]["inputs"][0]["shape"], serde_json::json!(["rows", "seq"]));
    assert_eq!(host.get("/v1/models").await.json()["models"], health["models"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let host = TestHost::new().probe().config(|config| config.sandbox.max_instances = 1).start().await;
    let mut holder = crate::raw::Raw::upload(&host, "probe/echo").await;
    host.in_flight(1).await;
    host.call("probe/state", "").await.is_problem(429, "concurrency-limit");
    holder.send(b"56789").await;
    assert_eq!(holder.answer().await.unwrap().status, 200);
    host.all_back_to_zero().await;
    for path in ["probe/parallel", "probe/loop/preprocess", "probe/trap"] {
        host.call(path, "").await;
    }
    host.all_back_to_zero().await;
    let answer = host.control("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.starts_with("tenon_"), "{line}");
        let name = series.split('{').next().unwrap();
        names.insert(name.trim_end_matches("_sum").trim_end_matches("_count").to_owned());
    }
    for name in METRICS {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    for line in [
        "tenon_invocations_in_flight 0",
        "tenon_queue_limit_rows{model=\"slow\"} 16",
        "tenon_shed_total{reason=\"concurrency-limit\"} 1",
        "tenon_invocations_total{function=\"probe\",outcome=\"function\",tenant=\"test\"} 2",
        "tenon_invocations_total{function=\"probe\",outcome=\"ok\",tenant=\"test\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Half a second of looping is charged to its tenant and function.
    let guest = host.metric("tenon_cpu_seconds_total{function=\"probe\",kind=\"guest\",tenant=\"test\"}");
    assert!(guest >= 0.4, "{guest} s of guest code");
    assert!(host.sum("tenon_device_seconds_total{function=\"probe\",model=\"identity\"") > 0.0);
}
