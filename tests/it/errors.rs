//! Bad requests over the wire: each is answered in the documented shape, before its body where that is possible, on
//! HTTP/1.1 and on HTTP/2 without TLS.

use crate::{
    raw::Raw,
    support::{Answer, Served, TestHost, client},
};

/// One byte more than the probe takes.
const OVER_LIMIT: usize = (1 << 20) + 1;

async fn host() -> Served {
    TestHost::new().probe().start().await
}

async fn ask(host: &Served, head: &str) -> Answer {
    Raw::begin(host, head, b"").await.answer().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_lead_nowhere() {
    let host = host().await;
    for (line, status, code) in [
        ("GET / HTTP/1.1", 404, "not-found"),
        ("GET /v1/nothing HTTP/1.1", 404, "not-found"),
        ("GET /v1/functions/ HTTP/1.1", 404, "not-found"),
        ("POST /v1/functions/test HTTP/1.1", 404, "not-found"),
        ("POST /v1/functions/test/ HTTP/1.1", 404, "not-found"),
        ("POST /v1/functions/test/nobody HTTP/1.1", 404, "function-not-found"),
        ("POST /v1/functions/nobody/probe HTTP/1.1", 404, "function-not-found"),
        ("POST /v1/functions/test/PROBE HTTP/1.1", 404, "function-not-found"),
        ("POST /v1/functions/test/..%2fprobe HTTP/1.1", 404, "function-not-found"),
        ("POST /v1/functions/test/probe@7/echo HTTP/1.1", 404, "revision-not-found"),
        ("POST /v1/functions/test/probe@/echo HTTP/1.1", 404, "revision-not-found"),
        ("POST /v1/functions/test/probe@x/echo HTTP/1.1", 404, "revision-not-found"),
        ("POST /v1/functions/test/probe@01/echo HTTP/1.1", 404, "revision-not-found"),
        ("POST /v1/functions/test/probe/%ff HTTP/1.1", 400, "bad-request"),
        ("DELETE /v1/functions/test/probe/echo HTTP/1.1", 405, "method-not-allowed"),
        ("OPTIONS /v1/functions/test/probe HTTP/1.1", 405, "method-not-allowed"),
        ("POST /v1/models HTTP/1.1", 405, "method-not-allowed"),
        ("PUT /health/ready HTTP/1.1", 405, "method-not-allowed"),
        // The control plane is on another port.
        ("GET /metrics HTTP/1.1", 404, "not-found"),
        ("POST /admin/v1/drain HTTP/1.1", 404, "not-found"),
    ] {
        let answer = ask(&host, line).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{line}: {}", answer.text());
        answer.is_problem(status, code);
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{line}");
        assert!(answer.header("x-process-time").parse::<f64>().is_ok() && answer.header("traceparent").len() == 55);
    }
    let allow = ask(&host, "DELETE /v1/functions/test/probe/echo HTTP/1.1").await;
    assert_eq!(allow.header("allow"), "GET, POST");
    for good in ["GET /v1/functions/test/probe@1/echo HTTP/1.1", "GET /v1/functions/test/probe/echo HTTP/1.1"] {
        assert_eq!(ask(&host, good).await.status, 200, "{good}");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit() {
    let host = host().await;
    let post = |rest: String| format!("POST /v1/functions/test/probe/echo HTTP/1.1\r\n{rest}");
    // Nothing but the head is sent: the answer comes before the body, and no "go on" before the answer.
    for rest in
        [format!("content-length: {OVER_LIMIT}"), format!("expect: 100-continue\r\ncontent-length: {OVER_LIMIT}")]
    {
        let answer = ask(&host, &post(rest)).await;
        let problem = answer.is_problem(413, "body-too-large");
        // What was announced cannot be told from a further request: callers are told that there is no room for one.
        assert_eq!(answer.header("connection"), "close");
        assert!(problem["detail"].as_str().unwrap().contains("1048576"), "{problem}");
    }
    // In chunks nothing is announced: the answer comes while the body is read.
    let mut chunks = format!("{OVER_LIMIT:x}\r\n").into_bytes();
    chunks.resize(chunks.len() + OVER_LIMIT, b'x');
    let mut raw = Raw::begin(&host, &post("transfer-encoding: chunked".into()), &chunks).await;
    raw.answer().await.unwrap().is_problem(413, "body-too-large");
    // Exactly the limit is fine.
    let answer = host.call("probe/echo", vec![b'x'; OVER_LIMIT - 1]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["body_size"], OVER_LIMIT - 1);
    assert_eq!(answer.header("connection"), "", "all of it was read");
    // What is left of a small body is read; not where the caller waits to be asked for it.
    let refused = "POST /v1/functions/test/nobody HTTP/1.1\r\ncontent-length: 40000";
    for (more, closes) in [("", ""), ("\r\nexpect: 100-continue", "close")] {
        let sent: &[u8] = if closes.is_empty() { &[b'x'; 40_000] } else { b"" };
        let answer = Raw::begin(&host, &format!("{refused}{more}"), sent).await.answer().await.expect("an answer");
        answer.is_problem(404, "function-not-found");
        assert_eq!(answer.header("connection"), closes);
    }
    // One connection after the other is given up, and no request with them.
    for _ in 0..20 {
        host.call("probe/echo", vec![b'x'; OVER_LIMIT]).await.is_problem(413, "body-too-large");
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_break_off() {
    let host = host().await;
    let post = |rest: &str| format!("POST /v1/functions/test/probe/echo HTTP/1.1\r\n{rest}");
    let mut broken = Raw::begin(&host, &post("transfer-encoding: chunked"), b"zz\r\nno length\r\n").await;
    broken.answer().await.unwrap().is_problem(400, "bad-request");
    for (length, body) in [("content-length: 10", &b"01234"[..]), ("transfer-encoding: chunked", b"5\r\n012")] {
        let mut truncated = Raw::begin(&host, &post(length), body).await;
        truncated.end().await;
        // Who only says that no more will come is still there for the answer.
        truncated.answer().await.expect("an answer").is_problem(400, "bad-request");
    }
    host.all_back_to_zero().await;
    assert_eq!(host.sum("tenon_invocations_total{function=\"probe\",outcome=\"ok\""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_malformed() {
    let host = host().await;
    let echo = "POST /v1/functions/test/probe/echo HTTP/1.1";
    for timeout in ["0", "-1", "1.5", "soon", "99999999999999999999", "\u{e9}"] {
        let answer = ask(&host, &format!("{echo}\r\nx-tenon-timeout-ms: {timeout}")).await;
        let problem = answer.is_problem(400, "bad-request");
        assert!(problem["detail"].as_str().unwrap().contains("x-tenon-timeout-ms"), "{problem}");
    }
    // These never become a request: hyper refuses them by itself.
    let large = format!("{echo}\r\nx-large: {}", "x".repeat(70_000));
    let many = format!("{echo}{}", "\r\nx-one: more".repeat(200));
    for (head, status) in [(&large[..], 431), (&many, 431), ("NOT HTTP", 400), (&format!("{echo}\r\na b: c"), 400)] {
        assert_eq!(ask(&host, head).await.status, status, "{}", &head[..head.len().min(80)]);
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends() {
    let host = TestHost::new().config(|config| config.http.header_timeout_ms = 100).start().await;
    let mut raw = Raw::to(&host).await;
    raw.send(b"POST /v1/functions/test/probe HTTP/1.1\r\nhost: ").await;
    assert!(raw.is_closed().await, "a connection may not be held by half a head");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_answer_carries() {
    let host = host().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let own = format!("x-request-id: mine-1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01");
    for line in
        ["GET /v1/functions/test/probe/state", "GET /v1/functions/test/nobody", "GET /v1/models", "DELETE /v1/models"]
    {
        let answer = ask(&host, &format!("{line} HTTP/1.1\r\n{own}")).await;
        assert_eq!(answer.header("x-request-id"), "mine-1", "{line}");
        let traceparent = answer.header("traceparent");
        assert!(
            traceparent.starts_with(&format!("00-{trace}-")) && traceparent.ends_with("-01"),
            "{line}: {traceparent}"
        );
        assert!(!traceparent.contains("00f067aa0ba902b7"), "the span is ours");
    }
    let answer = ask(&host, "GET /v1/functions/test/probe/rows HTTP/1.1\r\nx-request-id: a b").await;
    assert_eq!((answer.header("x-tenon-revision"), answer.header("x-tenon-cache")), ("1", "bypass"));
    assert_eq!(answer.header("x-request-id").len(), 36, "an id with a space is replaced");
    assert!(answer.header("server-timing").contains("infer;dur="), "{}", answer.header("server-timing"));
    // An answer to HEAD has a head and nothing else; another request on the connection is answered as ever.
    let mut raw = Raw::begin(&host, "HEAD /health/live HTTP/1.1", b"").await;
    assert!(raw.head_only().await.starts_with("HTTP/1.1 200"));
    raw.send(b"HEAD /v1/functions/test/probe HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(raw.head_only().await.starts_with("HTTP/1.1 405"));
    raw.send(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().text(), r#"{"live":true}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_http_2() {
    let mut host = host().await;
    host.client = client().http2_prior_knowledge().build().unwrap();
    let echo = host.call("probe/echo", "hello").await;
    assert_eq!((echo.status, &echo.json()["body"]), (200, &"hello".into()));
    host.call("nobody", "").await.is_problem(404, "function-not-found");
    host.call("probe@2", "").await.is_problem(404, "revision-not-found");
    host.call("probe/echo", vec![b'x'; OVER_LIMIT]).await.is_problem(413, "body-too-large");
    host.call("probe/panic", "").await.is_problem(502, "plugin-trap");
    let late = host.client.post(format!("{}/v1/functions/test/probe/slow", host.base)).header("x-tenon-timeout-ms", 50);
    Answer::of(late.send().await.unwrap()).await.is_problem(504, "deadline-exceeded");
    // Many streams of one connection at once.
    let calls = (0..50).map(|caller: u32| {
        let (host, caller) = (&host, caller.to_string());
        async move { host.call("probe/echo", caller.clone()).await.json()["body"] == *caller }
    });
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|echoed| echoed));
    // A caller that lets go of a stream takes its invocation along, and the connection stays.
    let url = format!("{}/v1/functions/test/probe/loop/preprocess", host.base);
    let stream = tokio::spawn(host.client.post(url).send());
    host.in_flight(1).await;
    stream.abort();
    host.all_back_to_zero().await;
    assert_eq!(host.call("probe/state", "").await.status, 200);
}
