//! The log as programs read it: one object on each line, with what is needed to find a request again.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    process::Process,
    support::{TestHost, client},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Serves with these settings, asks each path once, ends, and gives all lines of the log.
async fn log_of(settings: &str, paths: &[&str]) -> String {
    let host = TestHost::new().probe();
    std::fs::write(host.folder().join("tenon.toml"), settings).unwrap();
    let folder = host.into_folder();
    let process = Process::start(&folder, &["--models", "models", "--data", "data", "--dev-functions", "functions"]);
    let client = client().build().unwrap();
    for path in paths {
        let request = client.post(format!("{}/v1/functions/test/probe/{path}", process.data));
        let request =
            request.header("x-request-id", *path).header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-00"));
        request.send().await.unwrap().bytes().await.unwrap();
    }
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_an_object_that_names_its_request() {
    let log = log_of("[telemetry]\nlog_format = \"json\"", &["log?lines=2&bytes=20", "trap"]).await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(
        lines.iter().all(|line| ["timestamp", "level", "target", "message"].iter().all(|key| line[key].is_string()))
    );
    let of = |request: &str| lines.iter().filter(|line| line["invocation"] == request).collect::<Vec<_>>();
    let (guest, trap) = (of("log?lines=2&bytes=20"), of("trap"));
    assert_eq!((guest.len(), &guest[0]["target"]), (2, &"tenon::guest".into()), "{log}");
    assert!(!trap.is_empty(), "{log}");
    for line in guest.iter().chain(&trap) {
        let told = ["tenant", "function", "trace_id"].map(|key| line[key].as_str());
        assert_eq!(told, [Some("test"), Some("probe"), Some(TRACE)], "{line}");
        assert_eq!(line["revision"], 1);
    }
    let error = trap.iter().find(|line| line["level"] == "WARN").unwrap();
    assert!(error["message"].as_str().unwrap().contains("trapped") && error["backtrace"].is_string(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_are_logged_with_their_stages() {
    let settings = "[telemetry]\nlog_format = \"json\"\nslow_request_ms = 20";
    let log = log_of(settings, &["state", "slow", "reject?status=409"]).await;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let slow = lines
        .filter(|line| line["target"] == "tenon::slow")
        .map(|line| (line["invocation"].as_str().unwrap().to_owned(), line));
    let slow: BTreeMap<_, _> = slow.collect();
    let line = slow.get("slow").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&line["level"], &line["status"], &line["trace_id"]), (&"WARN".into(), &200.into(), &TRACE.into()));
    let ms = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
    let stages = ["validate_ms", "preprocess_ms", "queue_ms", "infer_ms", "postprocess_ms"].map(ms);
    assert!(ms("infer_ms") >= 20.0 && stages.iter().sum::<f64>() <= ms("total_ms"), "{line}");
    // A busy machine may make others slow too; the quick ones mostly are not there.
    assert!(line.get("code").is_none() && line.get("cache_ms").is_none(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_for_people_are_the_default() {
    let log = log_of("", &["slow", "log?lines=1&bytes=20"]).await;
    assert!(log.lines().all(|line| !line.starts_with('{')), "{log}");
    assert!(log.contains("tenon::guest") && log.contains(TRACE) && !log.contains("slow request"), "{log}");
}
