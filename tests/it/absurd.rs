//! Guests that ask for absurd things, hoard handles or never stop writing: each call is answered as `wit/` says, each
//! hoard ends where the handles or the memory end, and nothing is left behind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Served, TestHost};

/// What one call of `text.encode` takes, smaller than by default so that a test reaches it.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// A probe whose model `ragged` has a tokenizer.
fn probe() -> TestHost {
    TestHost::new().probe().functions(&["empty"]).tokenizer("ragged-identity")
}

async fn seen(host: &Served, what: &str, body: &'static str) -> BTreeMap<String, Value> {
    let answer = host.in_time_with(&format!("probe/absurd?what={what}"), body).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn is_seen(seen: &BTreeMap<String, Value>, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(call, code)| ((*call).to_owned(), json!(code))).collect();
    assert_eq!(*seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_tensors_and_steps() {
    let host = probe().start().await;
    let (bounds, shape, datatype) = ("out-of-bounds", "invalid-shape", "unknown-datatype");
    is_seen(
        &seen(&host, "tensors", "").await,
        &[
            ("write-far", bounds),
            ("write-over-the-end", bounds),
            ("write-nothing-far", bounds),
            ("write-much", bounds),
            ("read-far", bounds),
            ("read-all-there-is", bounds),
            ("read-around", bounds),
            ("read-one-more", bounds),
            ("scalar", shape),
            ("huge", shape),
            ("overflow-to-zero", shape),
            ("zero-times-huge", shape),
            ("many-rows-of-nothing", shape),
            ("nine-dimensions", shape),
            ("many-dimensions", shape),
            ("bytes", datatype),
            ("no-datatype", datatype),
            ("long-datatype", datatype),
            ("axis-far", shape),
            ("no-axis", shape),
            ("lengths-overflow", shape),
            ("long-row", shape),
            ("many-lengths", shape),
            ("no-lengths", "ok"),
        ],
    );
    let steps = seen(&host, "steps", "").await;
    is_seen(&steps, &[("twice", "duplicate-input"), ("a-hundred", "duplicate-input"), ("no-name", "ok")]);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_requests_responses_and_the_rest() {
    let host = probe().start().await;
    let body = seen(&host, "body", "0123456789").await;
    let sizes = [("far", json!(0)), ("around", json!(0)), ("all-there-is", json!(10)), ("from-one", json!(9))];
    let sizes = sizes.into_iter().chain([("nothing", json!(0)), ("header", Value::Null)]);
    assert_eq!(body, sizes.map(|(call, size)| (call.to_owned(), size)).collect());
    let refused = "invalid-header";
    let names = ["long-name", "long-value", "nul", "line-feed", "delete", "colon", "not-ascii", "te", "a-hundred"];
    let expected: Vec<_> = names.iter().map(|name| (*name, refused)).chain([("nothing", "ok")]).collect();
    is_seen(&seen(&host, "responses", "").await, &expected);
    assert_eq!(seen(&host, "rest", "").await["config"], Value::Null);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_the_tokenizer() {
    let room = [("memory_bytes = 67108864", "memory_bytes = 402653184"), ("cpu_ms = 500", "cpu_ms = 20000")];
    let limits = |config: &mut tenon_host::config::Config| config.sandbox.max_text_bytes = MAX_TEXT_BYTES;
    let host = probe().changed_function("probe", &room).config(limits).start().await;
    is_seen(
        &seen(&host, "texts", "").await,
        &[
            ("no-model", "unknown-model"),
            ("no-tokenizer", "no-tokenizer"),
            ("no-texts", "ok"),
            ("no-tokens", "too-long"),
            ("longer-than-the-model", "too-long"),
            ("pair", "too-long"),
            ("truncate", "unknown-option"),
            ("truncate-long", "unknown-option"),
            ("one-text-over", "too-large"),
            ("control-characters", "ok"),
            ("right", "ok"),
        ],
    );
    for what in ["huge-text", "many-texts"] {
        is_seen(&seen(&host, what, "").await, &[("encode", "too-large")]);
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hoards_of_handles() {
    let host = probe().changed_function("probe", &[("cpu_ms = 500", "cpu_ms = 20000")]).start().await;
    let kinds =
        ["tensors", "inferences", "responses", "options", "policies", "encodings", "streams", "clocks", "outputs"];
    for (what, code) in kinds.map(|what| (what, "plugin-contract")).into_iter().chain([("inputs", "plugin-memory")]) {
        let answer = host.in_time(&format!("probe/hoard?what={what}")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some(code)), "{what}: {}", answer.text());
        host.all_back_to_zero().await;
        assert_eq!(host.call("empty", "").await.status, 200, "after {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_charged() {
    // Less than the handles' number allows: the account ends the hoard before the table is full. Streams and clocks are
    // not here: they are wasmtime's own, a few bytes each, and only their number is bounded (`hoards_of_handles`).
    let little = [("memory_bytes = 67108864", "memory_bytes = 3000000"), ("cpu_ms = 500", "cpu_ms = 20000")];
    let host = probe().changed_function("probe", &little).start().await;
    for what in ["inferences", "responses", "options", "policies", "outputs"] {
        host.in_time(&format!("probe/hoard?what={what}")).await.is_problem(502, "plugin-memory");
        host.all_back_to_zero().await;
    }
    // These calls can answer a failure.
    for what in ["tensors", "encodings"] {
        assert_eq!(host.in_time(&format!("probe/hoard?what={what}")).await.json()["code"], "memory", "{what}");
        host.all_back_to_zero().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_without_end() {
    let room = [("memory_bytes = 67108864", "memory_bytes = 268435456"), ("cpu_ms = 500", "cpu_ms = 20000")];
    let host = probe().changed_function("probe", &room).start().await;
    for path in ["log?lines=1000000&bytes=1", "endless-line?bytes=50000000", "stdout"] {
        assert_eq!(host.in_time(&format!("probe/{path}")).await.status, 200, "{path}");
    }
    for how in ["write", "zeroes", "blocking", "random"] {
        let answer = host.in_time(&format!("probe/flood?how={how}")).await;
        answer.is_problem(502, "plugin-contract");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_are_never_read() {
    let host = probe().start().await;
    assert_eq!(host.in_time("probe/unread?n=8").await.text(), r#"{"read":0}"#);
    host.in_time("probe/unread?n=9").await.is_problem(502, "plugin-contract");
    host.all_back_to_zero().await;
}
