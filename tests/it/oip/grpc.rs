//! gRPC by hand, over h2: what a well-made client never sends, statuses as they are on the wire, and paths that are none.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use serde_json::json;

use crate::support::{Served, TestHost};

const SERVICE: &str = "/inference.GRPCInferenceService";

/// An answer: the status of HTTP, its headers, its bytes, and what stands behind them.
struct Told {
    http: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Told {
    fn status(&self) -> Option<&str> {
        self.trailers.get("grpc-status").or(self.headers.get("grpc-status")).map(|value| value.to_str().unwrap())
    }

    fn message(&self) -> &str {
        self.headers.get("grpc-message").map_or("", |value| value.to_str().unwrap())
    }
}

async fn connect(host: &Served) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

async fn call(host: &Served, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Told {
    let client = connect(host).await;
    let mut request = Request::post(format!("{}{path}", host.base)).header("te", "trailers");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut stream) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    // Where the host has answered already, it takes no more.
    let _ = stream.send_data(body.into(), true);
    let answer = tokio::time::timeout(Duration::from_secs(30), answer).await.unwrap().unwrap();
    let (parts, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.unwrap().unwrap_or_default();
    Told { http: parts.status.as_u16(), headers: parts.headers, body, trailers }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// A field of bytes that is shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A request to the identity model for one row, with other fields behind it.
fn row(rest: &[u8]) -> Vec<u8> {
    let input = [field(1, b"x"), field(2, b"FP32"), field(3, &[1, 16])].concat();
    [field(1, b"identity"), field(5, &input), rest.to_vec()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_stand_behind_messages_or_alone() {
    let host = TestHost::new().models(&["identity"]).start().await;
    let live = call(&host, &format!("{SERVICE}/ServerLive"), &[], framed(b"")).await;
    assert_eq!((live.http, live.status(), &live.body[..]), (200, Some("0"), &framed(b"\x08\x01")[..]));
    assert!(live.trailers.contains_key("grpc-status") && live.headers.contains_key("x-request-id"));
    let values: Vec<u8> = (0..16).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let infer = format!("{SERVICE}/ModelInfer");
    let well = call(&host, &infer, &[("grpc-timeout", "30S")], framed(&row(&field(7, &values)))).await;
    assert_eq!((well.http, well.status()), (200, Some("0")), "{}", well.message());
    let message = well.body.strip_prefix(&framed(&vec![0; well.body.len() - 5])[..5]).unwrap();
    assert!(message.ends_with(&[&[6 << 3 | 2, 64][..], &values].concat()), "{message:?}");
    for (headers, body, status, told) in [
        (vec![], framed(&row(&[])), "3", "neither `contents` nor"),
        (vec![], framed(&row(&field(7, &values[4..]))), "3", "takes 64 bytes, the binary data has 60"),
        (vec![], framed(&row(&[field(7, &values), field(7, &values)].concat())), "3", "1 inputs and 2 raw"),
        (vec![], framed(&row(b"\xff\xff")), "3", "cut off"),
        (vec![], framed(&field(1, b"nothing")), "5", "no model `nothing`"),
        (vec![], framed(&row(&field(7, &values)))[..20].to_vec(), "3", "cut off"),
        (vec![], [framed(b""), framed(b"")].concat(), "3", "more than one message"),
        (vec![], vec![1, 0, 0, 0, 0], "3", "packed"),
        (vec![("grpc-encoding", "gzip")], framed(b""), "12", "packed"),
        (vec![("grpc-timeout", "soon")], framed(b""), "3", "grpc-timeout"),
        (vec![("grpc-timeout", "0n")], framed(&row(&field(7, &values))), "4", ""),
    ] {
        let answer = call(&host, &infer, &headers, body).await;
        assert_eq!((answer.http, answer.status()), (200, Some(status)), "{told}: {}", answer.message());
        assert!(answer.message().contains(told), "`{}` does not tell of {told}", answer.message());
        assert!(answer.body.is_empty());
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_does_not_look_like_success() {
    let host = TestHost::new().models(&["identity"]).config(|config| config.oip.body_bytes = 4096).start().await;
    for method in ["ModelStatistics", "ModelConfig", "SystemSharedMemoryStatus", "TraceSetting", "Nothing"] {
        let answer = call(&host, &format!("{SERVICE}/{method}"), &[], framed(b"")).await;
        assert_eq!((answer.http, answer.status()), (200, Some("12")), "{method}");
    }
    // Paths of no service, and of REST, are what they always were.
    for path in ["/inference.Other/ServerLive", "/grpc.health.v1.Health/Check", "/v2x", "/"] {
        let answer = call(&host, path, &[], framed(b"")).await;
        assert_eq!((answer.http, answer.status()), (404, None), "{path}");
    }
    let not_grpc = call(&host, &format!("{SERVICE}/ServerLive"), &[("content-type", "application/json")], vec![]).await;
    assert_eq!((not_grpc.http, not_grpc.status()), (415, None));
    // HTTP/1.1 has no place for a status.
    let old = host.client.post(format!("{}{SERVICE}/ServerLive", host.base)).header("content-type", "application/grpc");
    assert_eq!(old.send().await.unwrap().status(), 415);
    let large = call(&host, &format!("{SERVICE}/ModelInfer"), &[], framed(&vec![0; 5000])).await;
    assert_eq!(large.status(), Some("8"), "{}", large.message());
    let small = call(&host, &format!("{SERVICE}/ServerReady"), &[], framed(&vec![0; 5000])).await;
    assert_eq!(small.status(), Some("8"), "{}", small.message());
    let load = call(&host, &format!("{SERVICE}/RepositoryModelLoad"), &[], framed(&field(2, b"identity"))).await;
    assert_eq!(load.status(), Some("16"), "{}", load.message());
    // A tenant says who it is, and may not.
    let body = json!({ "name": "test", "scopes": ["invoke", "deploy", "admin"] });
    let key = host.asks("POST", "/admin/v1/tenants/shop/keys", Some(body), &host.token()).await.json();
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let path = format!("{SERVICE}/RepositoryModelLoad");
    let load = call(&host, &path, &[("authorization", &bearer)], framed(&field(2, b"identity"))).await;
    assert_eq!(load.status(), Some("7"), "{}", load.message());
    host.all_back_to_zero().await;
}
