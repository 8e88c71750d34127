//! Requests by hand that are ambiguous, malformed or merely strange: each has its documented answer or a clean end of its
//! connection, none is taken for two, and nothing stays behind.

use std::io::Write as _;

use crate::{
    raw::Raw,
    support::{Answer, Served, TestHost},
};

const ECHO: &str = "POST /v1/functions/test/probe/echo HTTP/1.1\r\nhost: t\r\n";
/// Follows on the same connection: whoever reads the first request otherwise than the host does would see it, or part of
/// it, as something else.
const NEXT: &str = "GET /health/live HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";

/// The statuses of everything that the host answers to `bytes` and a request behind them.
async fn statuses(host: &Served, bytes: &str) -> Vec<u16> {
    let mut raw = Raw::to(host).await;
    raw.try_send(bytes.as_bytes()).await;
    raw.try_send(NEXT.as_bytes()).await;
    raw.statuses().await
}

/// Each case has a name, its bytes, and what is answered.
async fn all(cases: &[(&str, String, &[u16])]) {
    let host = TestHost::new().probe().start().await;
    for (name, bytes, expected) in cases {
        assert_eq!(statuses(&host, bytes).await, *expected, "{name}");
    }
    host.all_back_to_zero().await;
}

fn echo(rest: &str) -> String {
    format!("{ECHO}{rest}")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: t\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_two_could_read_in_two_ways() {
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    let coding = |coding: &str| echo(&format!("transfer-encoding: {coding}\r\n\r\n{chunks}"));
    all(&[
        ("the same twice", echo("content-length: 3\r\ncontent-length: 3\r\n\r\nabc"), &[200, 200]),
        ("two", echo("content-length: 3\r\ncontent-length: 4\r\n\r\nabc"), &[400]),
        ("a list", echo("content-length: 3, 3\r\n\r\nabc"), &[400]),
        ("negative", echo("content-length: -1\r\n\r\nabc"), &[400]),
        ("a sign", echo("content-length: +3\r\n\r\nabc"), &[400]),
        ("hexadecimal", echo("content-length: 0x3\r\n\r\nabc"), &[400]),
        ("empty", echo("content-length: \r\n\r\nabc"), &[400]),
        ("no number so large", echo("content-length: 99999999999999999999\r\n\r\nabc"), &[400]),
        // Short: the rest is another request, and a bad one.
        ("short", echo("content-length: 3\r\n\r\nabc\x01"), &[200, 400]),
        // The coding wins, and the connection ends, so that nothing can follow.
        (
            "a length and a coding",
            echo(&format!("content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")),
            &[200],
        ),
        (
            "a coding and a length",
            echo(&format!("transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n{chunks}")),
            &[200],
        ),
        ("chunked", coding("chunked"), &[200, 200]),
        ("chunked, in other words", coding("\tCHUNKED"), &[200, 200]),
        ("compressed", coding("gzip, chunked"), &[400]),
        ("compressed last", coding("chunked, gzip"), &[400]),
        ("chunked twice", coding("chunked\r\ntransfer-encoding: chunked"), &[400]),
        ("nearly chunked", coding("xchunked"), &[400]),
        ("identity", coding("identity"), &[400]),
        ("a space before the colon", echo(&format!("transfer-encoding : chunked\r\n\r\n{chunks}")), &[400]),
        ("chunks in HTTP/1.0", coding("chunked").replace("HTTP/1.1", "HTTP/1.0"), &[400]),
        ("a folded field", echo("transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), &[400]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none() {
    let chunks = |chunks: &str| echo(&format!("transfer-encoding: chunked\r\n\r\n{chunks}"));
    let trailers = "x-a: b\r\n".repeat(2000);
    let endless = "x-tenon-timeout-ms: 300\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nabc";
    all(&[
        ("an extension and a trailer", chunks("3;x=y\r\nabc\r\n0\r\nx-a: b\r\n\r\n"), &[200, 200]),
        ("no number", chunks("zz\r\n"), &[400]),
        ("negative", chunks("-1\r\n"), &[400]),
        ("more than a number holds", chunks("fffffffffffffffff\r\n"), &[400]),
        ("longer than it said", chunks("3\r\nabcd\r\n0\r\n\r\n"), &[400]),
        ("ends of lines", chunks("3\nabc\n0\n\n"), &[400]),
        ("an extension without end", chunks(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(100_000))), &[400]),
        ("trailers without end", chunks(&format!("3\r\nabc\r\n0\r\n{trailers}\r\n")), &[400]),
        ("a chunk without end", echo(endless), &[504]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_methods() {
    all(&[
        ("absolute", get("http://t/health/live"), &[200, 200]),
        ("absolute, to nowhere", get("http://t:80/metrics"), &[404, 200]),
        ("absolute, and another host", get("http://elsewhere.example/health/live"), &[400]),
        ("an authority", get("elsewhere.example:1"), &[400]),
        ("a tunnel", "CONNECT elsewhere.example:1 HTTP/1.1\r\nhost: t\r\n\r\n".into(), &[400]),
        ("everything", "OPTIONS * HTTP/1.1\r\nhost: t\r\n\r\n".into(), &[404, 200]),
        ("no slash", get("health/live"), &[400]),
        // Dots are letters: no path leads out of a function, and none out of a tenant.
        ("dots", get("/v1/functions/../models"), &[404, 200]),
        ("dots in a function", get("/v1/functions/test/probe/../../../models"), &[404, 200]),
        ("dots, encoded", get("/v1/functions/test/%2e%2e/models"), &[404, 200]),
        ("a slash, encoded", get("/v1/functions/test%2fprobe/echo"), &[404, 200]),
        ("NUL", get("/v1/functions/test/probe/a\0b"), &[400]),
        // The guest is told of it as it is.
        ("NUL, encoded", get("/v1/functions/test/probe/a%00b"), &[404, 200]),
        ("a space", get("/v1/functions/test/probe/a b"), &[400]),
        ("as long as a head", get(&format!("/{}", "a".repeat(70_000))), &[431]),
        ("no method", "G@T /health/live HTTP/1.1\r\nhost: t\r\n\r\n".into(), &[400]),
        ("another method", "BREW /v1/functions/test/probe/echo HTTP/1.1\r\nhost: t\r\n\r\n".into(), &[405, 200]),
        ("a version that is none", get("/health/live").replace("1.1", "9.9"), &[400]),
        ("a version too high", get("/health/live").replace("1.1", "2.0"), &[400]),
        ("another protocol, asked for", echo("connection: upgrade\r\nupgrade: websocket\r\n\r\n"), &[200, 200]),
        ("nearly HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".into(), &[400]),
        ("HTTP/2 and then not", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame, though long enough".into(), &[]),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03".into(), &[400]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_none_or_too_many() {
    all(&[
        ("no host", "GET /health/live HTTP/1.1\r\n\r\n".into(), &[400]),
        (
            "no host, before there were any",
            "GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".into(),
            &[200, 200],
        ),
        ("two hosts", "GET /health/live HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into(), &[400]),
        ("two types", echo("content-type: a\r\ncontent-type: b\r\n\r\n"), &[400]),
        ("two timeouts", echo("x-tenon-timeout-ms: 5000\r\nx-tenon-timeout-ms: 1\r\n\r\n"), &[400]),
        ("two of any other", echo("x-a: b\r\nx-a: c\r\n\r\n"), &[200, 200]),
        ("no colon", echo("junk\r\n\r\n"), &[400]),
        ("no name", echo(": x\r\n\r\n"), &[400]),
        ("a name that is none", echo("n\u{e4}me: x\r\n\r\n"), &[400]),
        ("NUL", echo("x-a: b\0c\r\n\r\n"), &[400]),
        ("half an end of line", echo("x-a: b\rx-b: c\r\n\r\n"), &[400]),
        ("bytes that are no ASCII", echo("x-a: \u{e4}\r\n\r\n"), &[200, 200]),
        ("ten thousand", echo(&format!("{}\r\n", "x-a: b\r\n".repeat(10_000))), &[431]),
        ("one that is too large", echo(&format!("x-a: {}\r\n\r\n", "b".repeat(70_000))), &[431]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_their_order() {
    const REQUESTS: usize = 20;
    let host = TestHost::new().probe().start().await;
    let mut bytes = String::new();
    for number in 0..REQUESTS {
        // The first takes longer than all others together.
        let path = if number == 0 { "slow" } else { "state" };
        let close = if number == REQUESTS - 1 { "connection: close\r\n" } else { "" };
        let head = format!("POST /v1/functions/test/probe/{path} HTTP/1.1\r\nhost: t\r\nx-request-id: n{number}\r\n");
        bytes.push_str(&format!("{head}{close}content-length: 3\r\n\r\nabc"));
    }
    let mut raw = Raw::to(&host).await;
    raw.send(bytes.as_bytes()).await;
    let rest = raw.rest().await;
    let ids: Vec<_> = rest.split("x-request-id: n").skip(1).map(|rest| rest.split('\r').next().unwrap()).collect();
    assert!(ids.iter().enumerate().all(|(number, id)| *id == number.to_string()), "{ids:?}");
    assert_eq!((ids.len(), rest.matches("HTTP/1.1 200 OK").count()), (REQUESTS, REQUESTS));
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_on_is_said_to_who_is_let_in() {
    let host = TestHost::new().probe().start().await;
    let expect = "expect: 100-continue\r\ncontent-length: 3";
    let begin = async |path: &str, rest: &str| {
        let head = format!("POST /v1/functions/test/{path} HTTP/1.1\r\n{rest}{expect}");
        Raw::begin(&host, &head, b"").await
    };
    let mut raw = begin("probe/echo", "").await;
    assert_eq!(raw.head_only().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send(b"abc").await;
    assert_eq!(raw.answer().await.unwrap().json()["body"], "abc");
    // The first thing that the others hear is why not.
    begin("nobody", "").await.answer().await.unwrap().is_problem(404, "function-not-found");
    begin("probe/echo", "x-tenon-timeout-ms: 0\r\n").await.answer().await.unwrap().is_problem(400, "bad-request");
    begin("probe/echo", "content-type: a\r\ncontent-type: b\r\n")
        .await
        .answer()
        .await
        .unwrap()
        .is_problem(400, "bad-request");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_worth_what_it_weighs() {
    const UNPACKED: usize = 50 << 20;
    let host = TestHost::new().probe().start().await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; UNPACKED]).unwrap();
    let bomb = bomb.finish().unwrap();
    let request = host.client.post(format!("{}/v1/functions/test/probe/echo", host.base));
    let sent = request.header("content-encoding", "gzip").body(bomb.clone()).send().await.unwrap();
    let answer = Answer::of(sent).await;
    // The host unpacks nothing: the guest is given the bytes as they came, and is told what they are.
    assert_eq!((answer.status, &answer.json()["body_size"]), (200, &bomb.len().into()));
    let headers = answer.json()["headers"].to_string();
    assert!(headers.contains(r#"["content-encoding","gzip"]"#), "{headers}");
    host.all_back_to_zero().await;
}
