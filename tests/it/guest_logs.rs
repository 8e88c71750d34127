//! A guest's own log as its tenant reads it: lines and traps in order, live, and without harm to anybody else.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::{
    deploying::{Content, plugin},
    raw::Raw,
    support::{Answer, Served, TestHost, client, eventually},
};

const LOGS: &str = "/admin/v1/functions/test/probe/logs";
/// How long a line may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// As in `http/guest_logs.rs`.
const MAX_FOLLOWERS: usize = 64;

async fn host() -> Served {
    TestHost::new().probe().start().await
}

fn read(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{}", answer.text());
    answer.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// A log that is followed.
struct Followed {
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl Followed {
    async fn of(host: &Served, client: &reqwest::Client, path: &str) -> Self {
        let asked = client.get(format!("{}{path}", host.control)).bearer_auth(host.token());
        let response = asked.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, bytes: Vec::new() }
    }

    /// The next line, or none where the host has ended it in order.
    async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                match line.trim_ascii() {
                    b"" => continue,
                    line => return Some(serde_json::from_slice(line).unwrap()),
                }
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("a line comes");
            self.bytes.extend_from_slice(&chunk.unwrap()?);
        }
    }
}

fn clients() -> [reqwest::Client; 2] {
    [client().http1_only().build().unwrap(), client().http2_prior_knowledge().build().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_a_traps_backtrace_arrive_in_order() {
    let host = host().await;
    assert_eq!(host.call("probe/log?lines=2&bytes=20", "").await.status, 200);
    assert_eq!(host.call("probe/stdout", "").await.status, 200);
    let trapped = host.call("probe/trap", "").await;
    trapped.is_problem(502, "plugin-trap");
    host.call("probe/memory", "").await.is_problem(502, "plugin-memory");
    host.call("probe/reject?status=409&code=x", "").await.is_problem(409, "x");
    let lines = read(&host.control(LOGS).await);
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let logged = kinds.iter().take_while(|kind| **kind == "log").count();
    assert!(logged >= 3, "{lines:?}");
    // What else a guest says as it dies is its own; a caller's fault is not the function's.
    let failed: Vec<_> = kinds.iter().filter(|kind| **kind != "log").collect();
    assert_eq!(failed, [&"trap", &"error"], "{lines:?}");
    assert_eq!(kinds.last(), Some(&"error"), "{lines:?}");
    let trap = &lines[logged];
    assert_eq!((&trap["level"], &trap["revision"]), (&"error".into(), &1.into()));
    assert_eq!(trap["invocation"].as_str().unwrap(), trapped.header("x-request-id"));
    assert!(trap["backtrace"].as_str().unwrap().contains("probe"), "{trap}");
    assert!(lines.iter().all(|line| line["at_ms"].as_u64() > Some(1_700_000_000_000) && line["revision"] == 1));
    let times: Vec<_> = lines.iter().map(|line| line["at_ms"].as_u64()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(read(&host.control(&format!("{LOGS}?tail=1")).await), lines[lines.len() - 1..]);
    assert_eq!(read(&host.control(&format!("{LOGS}?tail=0")).await), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let host = host().await;
    host.control("/admin/v1/functions/test/nothing/logs").await.is_problem(404, "function-not-found");
    for query in ["tail=x", "follow=yes", "since=1", "tail=1&tail=2"] {
        host.control(&format!("{LOGS}?{query}")).await.is_problem(400, "bad-request");
    }
    assert!(read(&host.control(LOGS).await).is_empty(), "it is there and has said nothing");
    host.asks("POST", LOGS, None, &host.token()).await.is_problem(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_lines_as_they_come_however_long_nothing_does() {
    // So short that a connection which is idle, or an answer that is not taken, would have ended several times over.
    let hasty = |config: &mut tenon_host::config::Config| {
        (config.http.write_timeout_ms, config.http.idle_timeout_ms, config.http.header_timeout_ms) = (100, 100, 100);
    };
    let host = TestHost::new().probe().config(hasty).start().await;
    host.call("probe/log?lines=1&bytes=10", "").await;
    let [first, second] = clients();
    let mut followed = [
        Followed::of(&host, &first, &format!("{LOGS}?follow=true")).await,
        Followed::of(&host, &second, &format!("{LOGS}?follow=true")).await,
    ];
    for follower in &mut followed {
        assert_eq!(follower.line().await.unwrap()["kind"], "log", "what was there before");
    }
    sleep(Duration::from_millis(600)).await;
    for path in ["trap", "panic"] {
        host.call(&format!("probe/{path}"), "").await;
        for follower in &mut followed {
            let mut line = follower.line().await.unwrap();
            while line["kind"] == "log" {
                line = follower.line().await.unwrap();
            }
            assert!(line["kind"] == "trap" && !line["backtrace"].as_str().unwrap().is_empty(), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_come_before_the_host_ends() {
    let host = host().await;
    let path = format!("{LOGS}?follow=true&tail=0");
    let mut followed = Vec::new();
    for client in &clients() {
        followed.push(Followed::of(&host, client, &path).await);
    }
    let mut uploading = Raw::upload(&host, "probe/trap").await;
    host.in_flight(1).await;
    let ending = tokio::spawn(host.host.drain());
    // Draining is no end while somebody's guest may still say something.
    sleep(Duration::from_millis(50)).await;
    uploading.send(b"56789").await;
    assert_eq!(uploading.answer().await.unwrap().status, 502);
    for follower in &mut followed {
        let mut kinds = Vec::new();
        while let Some(line) = follower.line().await {
            kinds.push(line["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(kinds[kinds.len() - 2..], ["trap", "end"]);
    }
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_bounded_and_give_their_places_back() {
    let host = host().await;
    let path = format!("{LOGS}?follow=true");
    let mut followed = Vec::new();
    for number in 0..MAX_FOLLOWERS {
        // Every other one is a stream of one connection.
        let client = &clients()[number % 2];
        followed.push(Followed::of(&host, client, &path).await);
    }
    let refused = host.control(&path).await;
    refused.is_problem(429, "too-many-followers");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(host.control(LOGS).await.status, 200, "reading without following is not following");
    drop(followed);
    let again = &clients()[0];
    eventually("places are free", async || {
        let asked = again.get(format!("{}{path}", host.control)).bearer_auth(host.token()).send().await;
        asked.unwrap().status() == 200
    })
    .await;
}

/// A stream whose caller never takes more than the first window.
async fn stuck_stream(host: &Served) -> (h2::RecvStream, h2::client::SendRequest<Bytes>) {
    let stream = tokio::net::TcpStream::connect(host.control.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut client = client.ready().await.unwrap();
    let asked = http::Request::get(format!("{}{LOGS}?follow=true", host.control));
    let asked = asked.header("authorization", format!("Bearer {}", host.token())).body(()).unwrap();
    let response = client.send_request(asked, true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    (response.into_body(), client)
}

/// A connection whose caller reads nothing, with little room in the kernel.
async fn deaf(host: &Served) -> Raw {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = host.control.strip_prefix("http://").unwrap().parse().unwrap();
    let mut raw = Raw::over(socket.connect(address).await.unwrap());
    let head = format!("GET {LOGS}?follow=true HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}", host.token());
    raw.send(format!("{head}\r\n\r\n").as_bytes()).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_hurts_nobody_and_who_does_not_read_is_let_go() {
    const FLOOD: &str = "probe/log?lines=250&bytes=8000";
    let host = TestHost::new().probe().config(|config| config.http.write_timeout_ms = 400).start().await;
    let mut reading = Followed::of(&host, &clients()[0], &format!("{LOGS}?follow=true")).await;
    let reader = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(line) = reading.line().await {
            let last = line["kind"] == "trap";
            lines.push(line);
            if last {
                break;
            }
        }
        lines
    });
    let (mut stuck, _client) = stuck_stream(&host).await;
    let mut deaf = deaf(&host).await;
    for _ in 0..20 {
        let answers = futures_util::future::join_all((0..4).map(|_| host.call(FLOOD, ""))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    host.call("probe/trap", "").await.is_problem(502, "plugin-trap");
    // Every line was told, or how many were not.
    let lines = reader.await.unwrap();
    let count = |line: &Value| match line["kind"].as_str() {
        Some("missed") => line["text"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap(),
        _ => 1,
    };
    assert!(lines.iter().map(count).sum::<u64>() >= 80 * 250, "{}", lines.len());
    assert!(read(&host.control(&format!("{LOGS}?tail=10000")).await).len() <= 1000);
    // The caller who opens no window is noticed, however small the flood's pieces are.
    let ended = async {
        while let Some(piece) = stuck.data().await {
            if piece.is_err() {
                break;
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("the stream that nobody reads is ended");
    assert!(deaf.is_closed().await);
    host.all_back_to_zero().await;
}

fn probe() -> Content {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugins/probe/function.toml"));
    let manifest = manifest.unwrap().replace("component = \"probe.wasm\"", "");
    plugin("probe", &manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_ends_with_its_function_and_the_next_of_its_name_does_not_see_it() {
    const FUNCTION: &str = "shop/probe";
    let host = TestHost::new().models(&["identity", "lookup", "ragged-identity", "slow"]).start().await;
    let logs = format!("/admin/v1/functions/{FUNCTION}/logs");
    host.control(&logs).await.is_problem(404, "function-not-found");
    // Whoever deploys sees why a case fails, although there is no function yet.
    let case = "\n[[case]]\nname = \"it lives\"\npath = \"/trap\"\n[case.expect]\nstatus = 200\n";
    let told = host.deploys(FUNCTION, "?promote=true", &probe().with(case)).await;
    assert_eq!(told["error"]["code"], "case", "{told}");
    let lines = read(&host.control(&logs).await);
    assert!(texts(&lines).iter().any(|text| text.contains("trapped")), "{lines:?}");
    assert!(lines[0]["invocation"].as_str().unwrap().starts_with("case-"), "{lines:?}");
    host.deployed(FUNCTION, "?promote=true", &probe(), 1).await;
    let mut followed = Followed::of(&host, &clients()[1], &format!("{logs}?follow=true&tail=0")).await;
    host.post(&format!("/v1/functions/{FUNCTION}/log?lines=1&bytes=5"), "").await;
    assert_eq!(followed.line().await.unwrap()["revision"], 1);
    let removed = host.asks("DELETE", &format!("/admin/v1/functions/{FUNCTION}"), None, &host.token()).await;
    assert_eq!(removed.status, 204);
    let mut last = Value::Null;
    while let Some(line) = followed.line().await {
        last = line;
    }
    assert_eq!((&last["kind"], &last["code"]), (&"end".into(), &"function-not-found".into()), "{last}");
    host.control(&logs).await.is_problem(404, "function-not-found");
    // Numbers go on, so that nobody takes one revision for another.
    host.deployed(FUNCTION, "?promote=true", &probe(), 2).await;
    assert_eq!(read(&host.control(&logs).await), Vec::<Value>::new());
}
