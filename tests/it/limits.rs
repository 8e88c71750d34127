//! How long a connection may be there for nothing, and what slow callers can hold: half heads, trickling bodies, idle
//! connections of both protocols, answers that are read slowly.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tenon_host::config::Config;

use crate::{
    alone::Alone,
    raw::Raw,
    secure,
    support::{Served, TestHost, eventually},
};

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n";

async fn http_2(host: &Served) -> (h2::client::SendRequest<bytes::Bytes>, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(async move { while pings.ping(h2::Ping::opaque()).await.is_ok() {} });
    // How it ends, gracefully or not, is not asked.
    (client, tokio::spawn(async move { drop(connection.await) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    const IDLE: Duration = Duration::from_millis(700);
    let idle = |config: &mut Config| config.http.idle_timeout_ms = IDLE.as_millis() as u64;
    let host = TestHost::new().probe().config(idle).start().await;
    let mut busy = Raw::upload(&host, "probe/echo").await;
    let mut kept = Raw::to(&host).await;
    kept.send(LIVE).await;
    assert_eq!(kept.answer().await.unwrap().status, 200);
    let begun = Instant::now();
    assert!(kept.is_closed().await);
    assert!(begun.elapsed() >= IDLE / 2, "it was given no time: {:?}", begun.elapsed());
    // Pings are answered and make no connection busy.
    let (mut client, ended) = http_2(&host).await;
    let request = http::Request::get(format!("{}/health/live", host.base)).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(secure::read(response.await.unwrap()).await.status, 200);
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it is closed").unwrap();
    // The upload has been there all the time.
    busy.send(b"56789").await;
    assert_eq!(busy.answer().await.unwrap().json()["body"], "0123456789");
    assert!(busy.is_closed().await);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_a_head_begins_with_the_head() {
    let config = |config: &mut Config| config.http.header_timeout_ms = 300;
    let host = TestHost::new().config(config).start().await;
    let mut quiet = Raw::to(&host).await;
    quiet.send(LIVE).await;
    assert_eq!(quiet.answer().await.unwrap().status, 200);
    // One byte after the other is no head either.
    let mut trickle = Raw::to(&host).await;
    trickle.send(LIVE).await;
    assert_eq!(trickle.answer().await.unwrap().status, 200);
    let begun = Instant::now();
    let head = LIVE.iter().cycle().filter(|byte| !byte.is_ascii_whitespace());
    for byte in head {
        if trickle.send_or_closed(&[*byte]).await.is_err() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "a head may not take for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than a head may take: between requests another patience counts.
    tokio::time::sleep(Duration::from_millis(600)).await;
    quiet.send(LIVE).await;
    assert_eq!(quiet.answer().await.expect("it is still open").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_is_not_idle() {
    const BYTES: usize = 12 << 20;
    let idle = |config: &mut Config| config.http.idle_timeout_ms = 1000;
    let host = TestHost::new().probe().config(idle).start().await;
    let head = format!("GET /v1/functions/test/probe/respond?bytes={BYTES} HTTP/1.1");
    let mut slow = Raw::begin(&host, &head, b"").await;
    eventually("the answer is there", async || host.metric("tenon_invocations_in_flight") == 0.0).await;
    // Twice what an idle connection has; then the next request is sent, before anything has been read.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    slow.send(b"GET /health/live HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    let answers = slow.rest_bytes().await;
    assert!(answers.len() > BYTES && answers.ends_with(br#"{"live":true}"#), "{} bytes", answers.len());
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_uploads_hold_what_they_sent_and_no_longer_than_their_deadline() {
    const UPLOADS: usize = 64;
    const ANNOUNCED: usize = 50 << 20;
    /// Of each upload, once a second.
    const PIECE: [u8; 1024] = [b'x'; 1024];
    const PIECES: usize = 4;
    const SENT: u64 = (UPLOADS * PIECES * PIECE.len()) as u64;
    const PLENTY: u64 = 64 << 20;
    let name = "limits::many_slow_uploads_hold_what_they_sent_and_no_longer_than_their_deadline";
    let Some(process) = Alone::run(name) else { return };
    let large = [("body_bytes = 1048576", "body_bytes = 67108864")];
    let test = TestHost::new().probe().changed_function("probe", &large).functions(&["empty"]);
    let host = test.config(|config| config.sandbox.max_instances = 2 * UPLOADS as u32).start().await;
    assert_eq!(host.call("empty", "").await.status, 200);
    let before = process.resident_bytes();
    let head = format!("POST /v1/functions/test/probe/echo HTTP/1.1\r\ncontent-length: {ANNOUNCED}");
    let mut uploads = join_all((0..UPLOADS).map(|_| Raw::begin(&host, &head, &PIECE))).await;
    host.in_flight(UPLOADS).await;
    for _ in 1..PIECES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for upload in &mut uploads {
            upload.send(&PIECE).await;
        }
        for _ in 0..5 {
            assert_eq!(host.call("empty", "").await.status, 200, "others are served");
        }
    }
    let held = async || host.control("/health").await.json()["host_memory_bytes"].as_u64().unwrap();
    eventually("what was sent has come", async || held().await >= SENT).await;
    // Heads, and room that grows ahead of what comes; nowhere near what was announced.
    let (held, grown) = (held().await, process.resident_bytes().saturating_sub(before));
    assert!(held < 3 * SENT, "{held} bytes are held for {SENT} that came");
    assert!(grown < PLENTY, "{grown} bytes for {UPLOADS} uploads");
    assert_eq!(host.metric("tenon_invocations_in_flight") as usize, UPLOADS, "all are still there");
    // One more, who comes no faster and has less time.
    let mut late = Raw::begin(&host, &format!("{head}\r\nx-tenon-timeout-ms: 1200"), &PIECE).await;
    for _ in 1..PIECES {
        tokio::time::sleep(Duration::from_millis(100)).await;
        late.send(&PIECE).await;
    }
    late.answer().await.expect("an answer").is_problem(504, "deadline-exceeded");
    host.in_flight(UPLOADS).await;
    drop(uploads);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_waits_for_no_body() {
    let config = |config: &mut Config| config.http.header_timeout_ms = 300;
    let host = TestHost::new().config(config).start().await;
    let head = "POST /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n";
    for (token, status, code) in [(String::new(), 401, "unauthenticated"), (host.token(), 405, "method-not-allowed")] {
        let mut raw = Raw::connect(&host.control).await;
        raw.send(format!("{head}authorization: Bearer {token}\r\n\r\n0123456789").as_bytes()).await;
        raw.answer().await.unwrap().is_problem(status, code);
        // What is left of the body is nobody's, however slowly it comes.
        assert!(raw.is_closed().await);
    }
}
