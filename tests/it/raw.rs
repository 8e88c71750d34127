//! HTTP/1.1 by hand: heads without bodies, bodies that break off, callers that hang up in the middle. Knows just enough
//! of HTTP to read an answer; refuses to be a client.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Answer, Served};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes in, bytes out: a socket, or TLS over one.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A connection; dropping it hangs up.
pub struct Raw(Box<dyn Wire>);

impl Raw {
    /// Connects to the data plane.
    pub async fn to(host: &Served) -> Self {
        Self::connect(&host.base).await
    }

    /// Connects to `http://address`, or to `https://address` without speaking TLS.
    pub async fn connect(base: &str) -> Self {
        Self::over(TcpStream::connect(base.split_once("://").unwrap().1).await.unwrap())
    }

    /// Speaks over what is connected already.
    pub fn over(wire: impl Wire + 'static) -> Self {
        Self(Box::new(wire))
    }

    /// Connects and sends the head of a request (without its last line) and the start of its body.
    pub async fn begin(host: &Served, head: &str, body: &[u8]) -> Self {
        let mut raw = Self::to(host).await;
        raw.send(format!("{head}\r\nhost: test\r\n\r\n").as_bytes()).await;
        raw.send(body).await;
        raw
    }

    /// Begins to upload to a function of the tenant `test`, and never says the end.
    pub async fn upload(host: &Served, path: &str) -> Self {
        let head = format!("POST /v1/functions/test/{path} HTTP/1.1\r\ncontent-length: 10");
        Self::begin(host, &head, b"01234").await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.send_or_closed(bytes).await.unwrap();
    }

    /// Sends what the host still takes: it may have closed the connection in the middle.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.send_or_closed(bytes).await;
    }

    /// Sends, or tells that the host has closed the connection.
    pub async fn send_or_closed(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Says that nothing more will come, and still listens.
    pub async fn end(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Whether the host has closed the connection, after whatever it still sent.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.is_ok()
    }

    /// Everything that comes until the host closes the connection.
    pub async fn rest_bytes(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end like any other, and what came before it counts.
        let read = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "still open after {:?}", String::from_utf8_lossy(&rest));
        rest
    }

    /// The same as text.
    pub async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_bytes().await).into_owned()
    }

    /// The statuses of all answers until the host closes the connection.
    pub async fn statuses(&mut self) -> Vec<u16> {
        let rest = self.rest().await;
        let heads = rest.split("HTTP/1.").skip(1);
        // A version may also stand in an answer's text.
        heads.filter_map(|head| head.get(2..5)?.parse().ok()).collect()
    }

    /// Reads one answer, or `None` where the connection ends before it is whole.
    pub async fn answer(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.read()).await.expect("an answer comes, or the connection ends")
    }

    async fn read(&mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            self.more(&mut bytes).await?;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: HeaderMap = lines.map(header).collect();
        let length = headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        while bytes.len() < end + 4 + length {
            self.more(&mut bytes).await?;
        }
        Some(Answer { status, headers, body: bytes[end + 4..end + 4 + length].to_vec() })
    }

    /// An answer to `HEAD` announces a body and brings none.
    pub async fn head_only(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            timeout(PATIENCE, self.more(&mut bytes)).await.unwrap().expect("a whole head");
        }
        String::from_utf8(bytes).unwrap()
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        // A reset is an end like any other.
        match self.0.read_buf(bytes).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

fn header(line: &str) -> (HeaderName, HeaderValue) {
    let (name, value) = line.split_once(':').unwrap();
    (name.parse().unwrap(), value.trim().parse().unwrap())
}
