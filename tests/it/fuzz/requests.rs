//! Heads and bodies over real connections. Bytes that look like requests get whole answers, none of them a 500, and the
//! connection ends; a request that is one gets exactly one answer, however its bytes are cut.

use std::time::Duration;

use proptest::{prelude::*, sample::Index, test_runner::TestCaseResult};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

use super::{cases, changed, seeds};
use crate::support::{Served, TestHost};

/// How long a connection may take to its end on a busy machine; longer than a head may take.
const PATIENCE: Duration = Duration::from_secs(30);

const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "\t",
    "\r\n\r\n",
    "content-length: 5\r\n",
    "content-length: -1\r\n",
    "content-length: 99999999999999999999\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: gzip\r\n",
    "expect: 100-continue\r\n",
    "x-tenon-timeout-ms: 1\r\n",
    "x-tenon-timeout-ms: 0\r\n",
    "connection: close\r\n",
    "upgrade: h2c\r\nconnection: upgrade\r\n",
    "host: a\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1",
    "%ff",
    "%00",
    "../",
    "?a=%zz&&=",
    "#",
    "http://a/",
    "0\r\n\r\n",
    "5\r\nabcde\r\n",
    "ffffffffffffffff\r\n",
    "1;ext=\"x\"\r\n",
    "@1",
    "@",
    "\u{e9}",
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Everything that the host says to these pieces. `end`: and to the end of the caller's side, which for a host is a
/// caller that leaves; whoever wants an answer stays.
async fn said(host: &Served, pieces: &[&[u8]], end: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(host.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // A host that has seen enough closes, and what comes after that is lost.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    if end {
        let _ = stream.shutdown().await;
    }
    let mut said = Vec::new();
    // A reset ends it too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("a connection ends");
    said
}

/// The statuses of all answers, each of which must be whole.
fn answers(said: &[u8]) -> Result<Vec<u16>, TestCaseError> {
    let mut rest = said;
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let cut = || TestCaseError::fail(format!("an answer breaks off: {:?}", String::from_utf8_lossy(said)));
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(cut)? + 4;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        rest = rest.get(end + length..).ok_or_else(cut)?;
        if status >= 200 {
            statuses.push(status);
        }
    }
    Ok(statuses)
}

fn looks_like_a_request(runtime: &Runtime, host: &Served, bytes: &[u8], cut: usize) -> TestCaseResult {
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let said = runtime.block_on(said(host, &[first, second], true));
    // HTTP/2 is another language.
    if bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM") || said.starts_with(b"\0\0") {
        return Ok(());
    }
    let statuses = answers(&said)?;
    prop_assert!(statuses.iter().all(|status| *status != 500), "{statuses:?}");
    Ok(())
}

/// A request as a client library would write it.
#[derive(Clone, Debug)]
struct Right {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunk: Option<usize>,
    cuts: Vec<Index>,
}

fn right() -> impl Strategy<Value = Right> {
    let header = ("x-[a-z0-9_.!~-]{1,20}", "[!-~]([ -~]{0,60}[!-~])?");
    let parts = (
        "[a-zA-Z0-9/._~!$&'()*+,;=:-]{0,60}(\\?[a-z0-9=&%+]{0,40})?",
        prop::collection::vec(header, 0..12),
        prop::collection::vec(any::<u8>(), 0..3000),
        prop::option::of(1_usize..1000),
        prop::collection::vec(any::<Index>(), 0..4),
    );
    parts.prop_map(|(path, headers, body, chunk, cuts)| Right { path, headers, body, chunk, cuts })
}

impl Right {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("POST /v1/functions/test/empty/{} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n", self.path)
                .into_bytes();
        for (name, value) in &self.headers {
            // Ours have a meaning.
            if !name.starts_with("x-tenon") {
                bytes.extend(format!("{name}: {value}\r\n").bytes());
            }
        }
        match self.chunk {
            None => {
                bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).bytes());
                bytes.extend(&self.body);
            }
            Some(size) => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(size) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

fn is_a_request(runtime: &Runtime, host: &Served, request: &Right) -> TestCaseResult {
    let bytes = request.bytes();
    let mut places: Vec<_> = request.cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pieces: Vec<_> = places.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
    let statuses = answers(&runtime.block_on(said(host, &pieces, false)))?;
    prop_assert_eq!(statuses, [200]);
    Ok(())
}

fn start() -> (Runtime, Served) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let host = runtime.block_on(TestHost::new().probe().functions(&["empty"]).start());
    (runtime, host)
}

/// A corpus's line ends are those of a text file.
fn wire(seed: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(seed).replace('\n', "\r\n").into_bytes()
}

#[test]
fn bytes_that_look_like_requests() {
    let (runtime, host) = start();
    for seed in seeds("requests") {
        let seed = wire(&seed);
        looks_like_a_request(&runtime, &host, &seed, seed.len()).unwrap();
        looks_like_a_request(&runtime, &host, &seed, seed.len() / 2).unwrap();
    }
    let strategy = (changed("requests", TOKENS).prop_map(|bytes| wire(&bytes)), any::<Index>());
    cases("requests", &strategy, |(bytes, cut)| {
        looks_like_a_request(&runtime, &host, &bytes, cut.index(bytes.len() + 1))
    });
    runtime.block_on(host.all_back_to_zero());
}

#[test]
fn requests_have_one_answer() {
    let (runtime, host) = start();
    cases("one-answer", &right(), |request| is_a_request(&runtime, &host, &request));
    runtime.block_on(host.all_back_to_zero());
}
