//! What operators read: `/health`, and metrics as Prometheus' own checker sees them.

use std::{cell::Cell, io::Write as _, process::Stdio};

use futures_util::future::join_all;
use tenon_host::telemetry::Protocol;

use crate::{
    collector::Collector,
    programs::program,
    support::{Answer, TestHost, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_how_requests_lately_went() {
    let host = TestHost::new().probe().functions(&["empty"]).start().await;
    let before = host.control("/health").await.json();
    assert_eq!((&before["latest"]["p50_ms"], &before["latest"]["requests_per_s"]), (&().into(), &0.0.into()));
    for path in ["empty", "empty", "probe/slow", "probe/reject?status=400", "probe/trap"] {
        host.call(path, "{}").await;
    }
    let health = host.control("/health").await.json();
    let latest = &health["latest"];
    // One of five asked the slow model (a third of a second here, and nobody knows elsewhere), so the median is not slow.
    let percentile = |name: &str| latest[name].as_f64().unwrap();
    assert!(percentile("p99_ms") >= 50.0 && percentile("p50_ms") < percentile("p99_ms"), "{latest}");
    assert!(percentile("p95_ms") <= percentile("p99_ms") && percentile("p95_ms") >= percentile("p50_ms"));
    assert_eq!((&latest["errors"]["caller"], &latest["errors"]["function"]), (&0.2.into(), &0.2.into()));
    assert_eq!((&latest["errors"]["capacity"], &latest["errors"]["host"]), (&0.0.into(), &0.0.into()));
    let requests = percentile("requests_per_s") * percentile("window_s");
    assert!((3.0..=7.0).contains(&requests), "{latest}");
    let functions = latest["functions"].as_array().unwrap();
    let names: Vec<_> = functions.iter().map(|it| (it["tenant"].as_str(), it["function"].as_str())).collect();
    assert_eq!(names, [(Some("test"), Some("empty")), (Some("test"), Some("probe"))]);
    assert!(functions[0]["p99_ms"].as_f64() < functions[1]["p99_ms"].as_f64());
    assert_eq!((&health["ready"], &health["draining"], &health["reason"]), (&true.into(), &false.into(), &().into()));
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{health}");
    assert_eq!(
        health["memory"]["tenants"]["test"]["limit_bytes"],
        health["memory"]["limit_bytes"].as_u64().unwrap() / 2
    );
    let slow = health["models"].as_array().unwrap().iter().find(|model| model["name"] == "slow").unwrap();
    assert_eq!((&slow["queue_rows"], &slow["queue_limit_rows"]), (&0.into(), &16.into()));
    // What waits is seen while it waits, and callers come until it has been: one's row is on the lane, the others' are not.
    let seen = Cell::new(false);
    let calls = (0..4).map(async |_| {
        while !seen.get() {
            assert_eq!(host.call("probe/slow", "").await.status, 200);
        }
    });
    let waiting = async {
        eventually("rows wait, bytes are held", async || {
            let health = host.control("/health").await.json();
            let models = health["models"].as_array().unwrap();
            let rows = models.iter().find(|model| model["name"] == "slow").unwrap()["queue_rows"].as_u64().unwrap();
            rows > 0 && health["memory"]["tenants"]["test"]["held_bytes"].as_u64().unwrap() > 0
        })
        .await;
        seen.set(true);
    };
    tokio::join!(join_all(calls), waiting);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_where_its_time_went() {
    let host = TestHost::new().probe().start().await;
    let always = |answer: &Answer, what: &str| {
        assert!(answer.header("x-process-time").parse::<f64>().is_ok_and(|time| time >= 0.0), "{what}");
        assert!(!answer.header("x-request-id").is_empty() && answer.header("traceparent").len() == 55, "{what}");
    };
    let nowhere =
        ["/", "/v1/functions/test/nobody", "/v1/functions/test", "/v1/functions/test/probe@9", "/health/live"];
    for path in nowhere {
        let answer = host.get(path).await;
        always(&answer, path);
        assert_eq!(answer.header("server-timing"), "", "{path}");
    }
    always(&Answer::of(host.client.get(format!("{}/health", host.control)).send().await.unwrap()).await, "no token");
    let found = async |path: &str, stage: &str| {
        let answer = host.call(path, "").await;
        always(&answer, path);
        let timing = answer.header("server-timing");
        assert!(timing.contains(&format!("{stage};dur=")), "{path}: {timing}");
        assert_eq!((answer.header("x-tenon-revision"), answer.header("x-tenon-cache")), ("1", "bypass"), "{path}");
        answer.status
    };
    assert_eq!(found("probe/rows", "infer").await, 200);
    assert_eq!(found("probe/reject?status=409&body=x", "validate").await, 409);
    assert_eq!(found("probe/trap", "preprocess").await, 502);
    let drain = host.client.post(format!("{}/admin/v1/drain", host.control)).bearer_auth(host.token());
    assert_eq!(drain.send().await.unwrap().status(), 202);
    assert_eq!(found("probe/rows", "total").await, 503, "refused before any stage");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let Some(mut promtool) = program("promtool", "prometheus") else { return };
    let collector = Collector::start(Protocol::Http).await;
    let host = TestHost::new().probe().config(|config| collector.configure(config)).start().await;
    for path in ["probe/rows?n=3", "probe/reject?status=400", "probe/trap"] {
        host.call(path, "").await;
    }
    let drain = host.client.post(format!("{}/admin/v1/drain", host.control)).bearer_auth(host.token());
    assert_eq!(drain.send().await.unwrap().status(), 202);
    host.call("probe/state", "").await.is_problem(503, "draining");
    eventually("spans are sent", async || host.sum("tenon_otlp_messages_total") > 0.0).await;
    let answer = host.control("/metrics").await;
    // A metric without a sample is not on the page, and would not be checked.
    assert!(answer.text().lines().filter(|line| line.starts_with("# TYPE")).count() >= 16, "{}", answer.text());
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = promtool.spawn().unwrap();
    check.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.trim().is_empty(), "{said}\n{}", answer.text());
}
