//! Bounds on what somebody who means harm can make the host keep or wait for: connections that say nothing, answers that
//! nobody reads, guests that hoard, callers who outlast a drain.

use crate::{
    raw::Raw,
    support::{TestHost, eventually},
};

/// More than a socket's buffers take on both sides.
const ANSWER_BYTES: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let host = TestHost::new().config(|config| config.http.header_timeout_ms = 200).start().await;
    // Nothing at all, half the preface of HTTP/2, half a head.
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET /v1/models HTTP/1.1\r\nhost:"] {
        let mut raw = Raw::to(&host).await;
        raw.send(said).await;
        assert!(raw.is_closed().await, "{}", String::from_utf8_lossy(said));
    }
    assert_eq!(host.get("/v1/models").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_is_dropped() {
    let slow_to_read = |config: &mut tenon_host::config::Config| config.http.write_timeout_ms = 1000;
    let host = TestHost::new().probe().config(slow_to_read).start().await;
    let head = format!("POST /v1/functions/test/probe/respond?bytes={ANSWER_BYTES} HTTP/1.1\r\ncontent-length: 0");
    let _unread = Raw::begin(&host, &head, b"").await;
    eventually("the answer is there and held", async || {
        host.control("/health").await.json()["host_memory_bytes"].as_u64() >= Some(ANSWER_BYTES as u64)
    })
    .await;
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_make_the_host_hoard() {
    let host = TestHost::new().probe().start().await;
    host.call("probe/hoard?what=name", "").await.is_problem(502, "plugin-contract");
    host.call("probe/hoard?what=refusal", "").await.is_problem(502, "plugin-contract");
    for what in ["ragged", "headers"] {
        let stopped = host.call(&format!("probe/hoard?what={what}"), "").await;
        assert_eq!((stopped.status, stopped.json()["code"].as_str()), (200, Some("memory")), "{}", stopped.text());
        // 64 MiB in all, one MiB or half of one at a time.
        assert!(stopped.json()["kept"].as_u64().unwrap() < 256, "{}", stopped.text());
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_outlast_a_drain_are_answered() {
    let host = TestHost::new().probe().config(|config| config.http.drain_timeout_ms = 50).start().await;
    // An upload that never ends would keep the host for the function's whole timeout.
    let mut upload = Raw::upload(&host, "probe/echo").await;
    host.in_flight(1).await;
    let ending = tokio::spawn(host.host.drain());
    let refused = upload.answer().await.expect("an answer, not a reset");
    refused.is_problem(503, "draining");
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_read_by_who_is_still_sending() {
    // More than both sides' buffers and than the function takes.
    const BODY_BYTES: usize = 16 << 20;
    let host = TestHost::new().probe().start().await;
    let head = format!("POST /v1/functions/test/probe/echo HTTP/1.1\r\ncontent-length: {BODY_BYTES}");
    let body = vec![b'x'; BODY_BYTES];
    for _ in 0..4 {
        let mut raw = Raw::begin(&host, &head, b"").await;
        raw.send_or_closed(&body).await.expect("what is sent is read, and thrown away");
        raw.answer().await.expect("an answer, not a reset").is_problem(413, "body-too-large");
        assert!(raw.is_closed().await);
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_not_said_back_at_length() {
    let host = TestHost::new().start().await;
    let long = "x".repeat(8 << 10);
    for path in [format!("/{long}"), format!("/v1/functions/{long}/{long}")] {
        let answer = host.get(&path).await;
        assert!(answer.status == 404 && answer.body.len() < 6 << 10, "{} bytes", answer.body.len());
    }
}
