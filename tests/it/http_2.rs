//! HTTP/2 from callers who mean harm: streams taken back at once, heads beyond all measure, bodies of another length
//! than announced. The connection pays for it, the host and its other callers do not.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::Request;

use crate::{
    raw::Raw,
    secure,
    support::{Served, TestHost, eventually},
};

/// Frames by hand, as far as they are needed.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_OF_STREAM_AND_HEADERS: u8 = 0x5;
const CANCEL: [u8; 4] = 8u32.to_be_bytes();
const FRAME_HEAD: usize = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET` of a path that is shorter than 127 bytes, by the table that every decoder begins with.
fn head(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x82, 0x86, 0x04, length][..], path.as_bytes(), &[0x01, 1, b't']].concat()
}

/// The code of the frame that ends the connection, where there is one.
fn goaway(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    while rest.len() >= FRAME_HEAD {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let payload = rest.get(FRAME_HEAD..FRAME_HEAD + length)?;
        let code = payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        if rest[3] == GOAWAY && code != Some(0) {
            return code;
        }
        rest = &rest[FRAME_HEAD + length..];
    }
    None
}

async fn connect(host: &Served) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    // The host may end it with an error: that is what some tests are about.
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

fn post(host: &Served, path: &str) -> Request<()> {
    Request::post(format!("{}/v1/functions/test/{path}", host.base)).body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_taken_back_in_a_burst_end_the_connection() {
    const BURST: u32 = 500;
    let host = TestHost::new().probe().start().await;
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for stream in (1..).step_by(2).take(BURST as usize) {
        let path = head("/v1/functions/test/probe/loop/validate");
        bytes.extend(frame(HEADERS, END_OF_STREAM_AND_HEADERS, stream, &path));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    let mut raw = Raw::to(&host).await;
    raw.try_send(&bytes).await;
    let said = raw.rest_bytes().await;
    assert_eq!(goaway(&said), Some(Reason::ENHANCE_YOUR_CALM.into()), "{said:?}");
    assert_eq!(host.call("probe/state", "").await.status, 200, "others are served");
    host.all_back_to_zero().await;
    let begun = host.sum("tenon_invocations_total{function=\"probe\"");
    assert!(begun < f64::from(BURST) / 2.0, "{begun} invocations of {BURST} began for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_taken_back_one_by_one_leave_nothing() {
    let host = TestHost::new().probe().start().await;
    let mut client = connect(&host).await;
    for turn in 0..200 {
        let Ok(ready) = client.clone().ready().await else {
            // The host may have had enough: that is its right, and another connection is another matter.
            client = connect(&host).await;
            continue;
        };
        client = ready;
        let (response, mut stream) = client.send_request(post(&host, "probe/loop/preprocess"), true).unwrap();
        if turn % 2 == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(response);
    }
    assert_eq!(host.call("probe/state", "").await.status, 200);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_are_no_good() {
    let host = TestHost::new().probe().start().await;
    // Ten thousand fields.
    let mut client = connect(&host).await;
    let mut large = post(&host, "probe/echo");
    for number in 0..10_000 {
        large.headers_mut().append("x-many", number.into());
    }
    let (response, _) = client.send_request(large, true).unwrap();
    assert_eq!(response.await.expect("an answer").status(), 431);
    // Less and more than was announced.
    for (announced, sent) in [("10", "01234"), ("3", "01234")] {
        let mut client = connect(&host).await;
        let mut request = post(&host, "probe/echo");
        request.headers_mut().insert("content-length", announced.parse().unwrap());
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(sent.as_bytes()), true).unwrap();
        // The stream is ended before the answer is ready, or after.
        match response.await {
            Ok(response) => drop(secure::read(response).await.is_problem(400, "bad-request")),
            Err(error) => assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{announced}: {error}"),
        }
    }
    // What HTTP/1.1 refuses of a head is refused here, and the connection goes on.
    let mut client = connect(&host).await;
    let mut twice = post(&host, "probe/echo");
    twice.headers_mut().append("x-tenon-timeout-ms", 1.into());
    twice.headers_mut().append("x-tenon-timeout-ms", 5000.into());
    let (response, _) = client.send_request(twice, true).unwrap();
    secure::read(response.await.unwrap()).await.is_problem(400, "bad-request");
    let (response, _) = client.send_request(post(&host, "probe/state"), true).unwrap();
    assert_eq!(secure::read(response.await.unwrap()).await.status, 200);
    host.all_back_to_zero().await;
    assert_eq!(host.sum("tenon_invocations_total{function=\"probe\",outcome=\"ok\""), 1.0);
}

async fn holds(host: &Served, bytes: u64) {
    eventually("the answers are there and held", async || {
        host.control("/health").await.json()["host_memory_bytes"].as_u64() >= Some(bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_no_window_lets_out_end_their_connection() {
    const ANSWERS: u64 = 8;
    const BYTES: u64 = 1 << 20;
    let host = TestHost::new().probe().config(|config| config.http.write_timeout_ms = 1000).start().await;
    let stream = tokio::net::TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    let shut = h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream);
    let (mut client, mut connection) = shut.await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let ended = tokio::spawn(async move { drop(connection.await) });
    let alive = tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answers = Vec::new();
    for _ in 0..ANSWERS {
        client = client.ready().await.unwrap();
        let (response, _) = client.send_request(post(&host, &format!("probe/respond?bytes={BYTES}")), true).unwrap();
        answers.push(response);
    }
    holds(&host, ANSWERS * BYTES).await;
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the connection ends").unwrap();
    host.all_back_to_zero().await;
    alive.await.unwrap();
    drop(answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_crosses_the_goodbye_is_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    /// Longer than the host waits for an idle connection's goodbye.
    const SLOWLY: Duration = Duration::from_secs(6);
    let host = TestHost::new().probe().config(|config| config.http.idle_timeout_ms = 300).start().await;
    let mut stream = tokio::net::TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    // The first goodbye names no last stream, until a ping is answered: it never is.
    let mut said = Vec::new();
    while !said.windows(FRAME_HEAD).any(|head| head[..5] == [0, 0, 8, GOAWAY, 0]) {
        assert!(stream.read_buf(&mut said).await.unwrap() > 0, "closed without a goodbye");
    }
    let path = head("/v1/functions/test/probe/echo");
    let body = frame(0, 1, 1, b"late");
    stream.write_all(&frame(HEADERS, 0x4, 1, &[&[0x83], &path[1..]].concat())).await.unwrap();
    tokio::time::sleep(SLOWLY).await;
    stream.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "still open");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains(r#""body":"late""#), "{text}");
    host.all_back_to_zero().await;
}
