//! What a collector gets: spans that hang together as the work did, and the figures of `/metrics`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use futures_util::future::join_all;
use opentelemetry_proto::tonic::{
    metrics::v1::{metric::Data, number_data_point::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tenon_host::telemetry::Protocol;

use crate::{
    collector::{Collector, attribute},
    programs::{Running, python},
    support::{Answer, Served, TestHost, eventually},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn ask(host: &Served, path: &str, flags: &str) -> Answer {
    let request = host.client.post(format!("{}/v1/functions/test/{path}", host.base));
    let request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"));
    Answer::of(request.header("x-request-id", "mine").body("12345").send().await.unwrap()).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of the host below one span, by name, in their order.
fn children<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id).collect()
}

async fn a_trace_goes_on(protocol: Protocol) {
    let collector = Collector::start(protocol).await;
    let host = TestHost::new().probe().config(|config| {
        collector.configure(config);
        config.telemetry.service_name = Some("somebody".into());
        config.telemetry.otlp_headers.0.push(("authorization".into(), "Bearer secret".into()));
    });
    let host = host.start().await;
    let answer = ask(&host, "probe/chain?n=3", "01").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("the spans are there", async || {
        collector.spans("batch").len() == 3 && !collector.spans("invoke").is_empty()
    })
    .await;
    let received = collector.received();
    assert_eq!(received.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(attribute(&received.resource, "service.name"), "somebody");
    let [server] = &collector.spans("invoke")[..] else { panic!("one invocation") };
    // The caller's trace and span, and the span that the answer tells of.
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(answer.header("traceparent"), format!("00-{TRACE}-{}-01", hex(&server.span_id)));
    assert_eq!(server.kind, SpanKind::Server as i32);
    for (name, value) in [
        ("tenon.tenant", "test"),
        ("tenon.function", "probe"),
        ("tenon.revision", "1"),
        ("tenon.outcome", "ok"),
        ("tenon.request_id", "mine"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(&server.attributes, name), value, "{name}");
    }
    let stages = children(&received.spans, server);
    let names: Vec<_> = stages.iter().map(|span| &span.name[..]).collect();
    let round = ["queue", "infer", "postprocess"];
    assert_eq!(names, [&["read body", "validate", "preprocess"][..], &round, &round, &round].concat());
    // One after the other, within the whole; clocks that are read twice may differ by their grain.
    const GRAIN_NS: u64 = 50_000;
    // The spans of an invocation and those of a batch are turned into the calendar's times by two readings of two clocks,
    // between which a thread may have to wait for its core.
    const READING_NS: u64 = 50_000_000;
    let mut last = server.start_time_unix_nano;
    for stage in &stages {
        assert!(
            last <= stage.start_time_unix_nano + GRAIN_NS && stage.start_time_unix_nano <= stage.end_time_unix_nano
        );
        last = stage.end_time_unix_nano;
    }
    assert!(last <= server.end_time_unix_nano, "{last} {server:?}");
    // Each inference names its batch, and that names the invocation; both in traces of their own.
    for infer in stages.iter().filter(|span| span.name == "infer") {
        assert_eq!(attribute(&infer.attributes, "tenon.model"), "identity");
        let [link] = &infer.links[..] else { panic!("one batch: {infer:?}") };
        let batch = received.spans.iter().find(|span| span.span_id == link.span_id).unwrap();
        assert!(batch.name == "batch" && batch.trace_id == link.trace_id && batch.trace_id != server.trace_id);
        assert!(batch.parent_span_id.is_empty());
        let [back] = &batch.links[..] else { panic!("one invocation: {batch:?}") };
        assert_eq!((&back.trace_id, &back.span_id), (&server.trace_id, &server.span_id));
        assert!(batch.start_time_unix_nano + READING_NS >= infer.start_time_unix_nano);
        let told = ["tenon.model", "tenon.batch.rows", "tenon.batch.reason", "tenon.batch.padding_ratio"];
        assert_eq!(told.map(|name| attribute(&batch.attributes, name)), ["identity", "1", "idle", "0"]);
    }
    host.host.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_over_grpc() {
    a_trace_goes_on(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_over_http() {
    a_trace_goes_on(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_sampled_decides_where_the_trace_begins() {
    let collector = Collector::start(Protocol::Http).await;
    let host = TestHost::new().functions(&["empty"]).config(|config| collector.configure(config)).start().await;
    // A caller that does not keep its trace is followed in that.
    assert!(ask(&host, "empty", "00").await.header("traceparent").ends_with("-00"));
    // A trace that begins here is ours to keep.
    let begun = host.call("empty", "").await.header("traceparent").to_owned();
    assert!(begun.ends_with("-01"), "{begun}");
    host.host.drain().await;
    let servers = collector.spans("invoke");
    assert_eq!(servers.iter().map(|span| hex(&span.span_id)).collect::<Vec<_>>(), [&begun[36..52]]);
    assert!(servers[0].parent_span_id.is_empty());
    let none = TestHost::new().functions(&["empty"]).config(|config| {
        collector.configure(config);
        config.telemetry.sample_ratio = Some(0.0);
    });
    let host = none.start().await;
    assert!(host.call("empty", "").await.header("traceparent").ends_with("-00"));
    assert!(ask(&host, "empty", "01").await.header("traceparent").ends_with("-01"));
    host.host.drain().await;
    assert_eq!(collector.spans("invoke").len(), 2, "the caller's decision stands");
    // With nobody to send to, no trace is said to be kept.
    let host = TestHost::new().functions(&["empty"]).start().await;
    assert!(host.call("empty", "").await.header("traceparent").ends_with("-00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_that_shared_a_batch_link_to_it() {
    let collector = Collector::start(Protocol::Grpc).await;
    let host = TestHost::new().probe().config(|config| collector.configure(config)).start().await;
    // One is on the only lane for a while; those that come meanwhile leave together.
    let calls = (0..4).map(|_| host.call("probe/slow", ""));
    assert!(join_all(calls).await.iter().all(|answer| answer.status == 200));
    host.host.drain().await;
    let received = collector.received();
    let batches = collector.spans("batch");
    let shared = batches.iter().find(|batch| batch.links.len() > 1).expect("a batch is shared");
    assert_eq!(attribute(&shared.attributes, "tenon.batch.rows"), shared.links.len().to_string());
    for link in &shared.links {
        let server = received.spans.iter().find(|span| span.span_id == link.span_id).unwrap();
        assert_eq!(server.trace_id, link.trace_id);
        let infer = children(&received.spans, server).into_iter().find(|span| span.name == "infer").unwrap();
        assert!(infer.links.iter().any(|link| link.span_id == shared.span_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_callers_that_leave_have_spans_too() {
    let collector = Collector::start(Protocol::Http).await;
    let host = TestHost::new().probe().config(|config| collector.configure(config)).start().await;
    ask(&host, "probe/reject?status=422&code=no-good", "01").await;
    ask(&host, "probe/trap", "01").await;
    let url = format!("{}/v1/functions/test/probe/slow", host.base);
    let slow =
        |timeout: &'static str| tokio::spawn(host.client.post(&url).header("x-tenon-timeout-ms", timeout).send());
    // The only lane is taken, so that the next has to wait for two batches, which is longer than it may.
    let ahead = slow("20000");
    eventually("a batch is on the lane", async || host.batches("slow") == 1.0).await;
    assert_eq!(slow("200").await.unwrap().unwrap().status(), 504);
    assert_eq!(ahead.await.unwrap().unwrap().status(), 200);
    host.all_back_to_zero().await;
    let leaves = slow("20000");
    host.in_flight(1).await;
    leaves.abort();
    eventually("all have ended", async || collector.spans("invoke").len() == 5).await;
    host.host.drain().await;
    let spans = collector.received().spans;
    let server = |code: &str| {
        let coded = |span: &&Span| span.name == "invoke" && attribute(&span.attributes, "error.type") == code;
        spans.iter().find(coded).unwrap_or_else(|| panic!("no span with {code}")).clone()
    };
    let told = |span: &Span| {
        let text = |name| attribute(&span.attributes, name);
        (text("tenon.outcome"), text("http.response.status_code"), span.status.as_ref().map(|status| status.code))
    };
    assert_eq!(told(&server("no-good")), ("caller".into(), "422".into(), None));
    let error = Some(StatusCode::Error as i32);
    assert_eq!(told(&server("plugin-trap")), ("function".into(), "502".into(), error));
    let late = server("deadline-exceeded");
    assert_eq!(told(&late), ("capacity".into(), "504".into(), error));
    assert_eq!(told(&server("detached")), ("detached".into(), "None".into(), None));
    // Where the time went is told although nothing came of it.
    let stages: Vec<_> = children(&spans, &late).iter().map(|span| span.name.clone()).collect();
    assert!(stages.contains(&"queue".into()), "{stages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_page() {
    let collector = Collector::start(Protocol::Grpc).await;
    let host = TestHost::new().probe().config(|config| collector.configure(config)).start().await;
    for path in ["probe/rows?n=3", "probe/rows?n=20", "probe/reject?status=400", "probe/trap"] {
        host.call(path, "").await;
    }
    host.all_back_to_zero().await;
    let page = host.host.telemetry().clone();
    host.host.drain().await;
    let mut told = BTreeMap::new();
    for metric in collector.received().metrics {
        let labels = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
            let mut labels: Vec<_> =
                attributes.iter().map(|it| format!("{}=\"{}\"", it.key, attribute(attributes, &it.key))).collect();
            labels.sort();
            labels
        };
        let line = |suffix: &str, labels: Vec<String>| match labels.is_empty() {
            true => format!("{}{suffix}", metric.name),
            false => format!("{}{suffix}{{{}}}", metric.name, labels.join(",")),
        };
        let points = match metric.data.clone().unwrap() {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{}", metric.name);
                sum.data_points
            }
            Data::Gauge(gauge) => gauge.data_points,
            Data::Histogram(histogram) => {
                for point in histogram.data_points {
                    told.insert(line("_count", labels(&point.attributes)), point.count as f64);
                    told.insert(line("_sum", labels(&point.attributes)), point.sum.unwrap());
                    let mut up_to = 0;
                    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
                        up_to += count;
                        let mut labels = labels(&point.attributes);
                        labels.push(format!("le=\"{bound}\""));
                        told.insert(line("_bucket", labels), up_to as f64);
                    }
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            let Some(Value::AsDouble(value)) = point.value else { panic!("{point:?}") };
            assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano <= point.time_unix_nano);
            told.insert(line("", labels(&point.attributes)), value);
        }
    }
    let text = page.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("le=\"+Inf\""));
    // The exporter counts its own spans while it ends, and models leave when the host does.
    let leaving = ["tenon_otlp", "tenon_device_memory_bytes", "tenon_queue_limit_rows"];
    let changes = |line: &str| leaving.iter().any(|name| line.starts_with(name));
    let mut compared = 0;
    for (line, value) in lines.filter_map(|line| line.rsplit_once(' ')).filter(|(line, _)| !changes(line)) {
        assert_eq!(told.get(line).copied(), value.parse().ok(), "{line}");
        compared += 1;
    }
    assert!(compared > 100, "{compared} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_shares_nothing_with_us_understands_it() {
    let Some(mut python) = python("opentelemetry", "opentelemetry-proto==1.45.2") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/otlp_receiver.py");
    let mut receiver = Running(python.arg(script).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(receiver.0.stdout.take().unwrap()).lines();
    let port = said.next().unwrap().unwrap();
    let host = TestHost::new().probe().config(|config| {
        config.telemetry.otlp_endpoint = Some(format!("http://127.0.0.1:{port}"));
        config.telemetry.otlp_interval_ms = 600_000;
    });
    let host = host.start().await;
    assert_eq!(ask(&host, "probe/rows", "01").await.status, 200);
    host.host.drain().await;
    drop(receiver);
    let lines: Vec<serde_json::Value> = said.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let span = |name: &str| lines.iter().find(|line| line["kind"] == "span" && line["name"] == name).unwrap();
    let (server, infer, batch) = (span("invoke"), span("infer"), span("batch"));
    assert_eq!(
        (&server["service"], &server["trace"], &server["parent"]),
        (&"tenon".into(), &TRACE.into(), &PARENT.into())
    );
    assert_eq!(
        (&infer["trace"], &infer["parent"], &infer["links"][0]),
        (&server["trace"], &server["span"], &batch["span"])
    );
    assert_eq!((&batch["links"][0], &batch["parent"]), (&server["span"], &"".into()));
    assert!(
        0 < infer["nanoseconds"].as_u64().unwrap() && infer["nanoseconds"].as_u64() < server["nanoseconds"].as_u64()
    );
    let metric = |name: &str| lines.iter().find(|line| line["kind"] == "metric" && line["name"] == name).unwrap();
    let told = |name: &str| (metric(name)["type"].as_str().unwrap(), metric(name)["unit"].as_str().unwrap());
    assert_eq!(told("tenon_invocations_total"), ("sum", "1"));
    assert_eq!(told("tenon_queue_duration_seconds"), ("histogram", "s"));
    assert_eq!(told("tenon_host_memory_bytes"), ("gauge", "By"));
}
