//! Connections as the bench holds them: one for each client, kept open, HTTP/1.1 or HTTP/2, nothing retried that may
//! have reached the server.
//!
//! It tells how a request ended and keeps nothing of an answer but its status, its length, an error's code and when to
//! come again. `connect` is the one place that would learn another transport. Whom to believe over TLS is said elsewhere.

use std::future::Future;
use std::io;
use std::net;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::http::{HeaderMap, Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error as TlsError};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::goal::Endpoint;
use crate::failure::Failure;
use crate::trust::Trust;

/// As much of an error's body as is looked at for its code.
const PROBLEM_BYTES_MAX: usize = 16 * 1024;
/// The longest code of an error that is counted under its own name.
const CODE_CHARS_MAX: usize = 64;
/// Longer waits than this are cut: nobody measures for longer.
const RETRY_AFTER_MAX_S: u64 = 3600;
/// The protocols' names in ALPN.
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// An answer, as far as it is counted.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// Bytes of its body.
    pub(super) bytes: u64,
    /// The `code` of a problem document.
    pub(super) code: Option<String>,
    /// What the server said about coming again.
    pub(super) retry_after: Option<Duration>,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missed {
    /// No connection.
    Connect,
    /// The connection ended before the answer did, or what came was not HTTP.
    Broken,
    /// No whole answer within the timeout.
    Timeout,
    /// Open loop: due, and no connection was free before the measurement ended.
    NotStarted,
    /// Still without a whole answer a while after the user had interrupted.
    Unfinished,
}

impl Missed {
    /// As it is shown and saved.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "connection-lost",
            Self::Timeout => "timeout",
            Self::NotStarted => "not-started",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a connection is made.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    pub(super) http2: bool,
    /// For one request, with its connection where one has to be made.
    pub(super) timeout: Duration,
    tls: Option<Tls>,
}

/// TLS as all connections of a run speak it; later ones may resume what earlier ones agreed on.
#[derive(Clone, Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    http2: bool,
}

/// One client's place on the wire: a connection where there is one.
pub(super) struct Client<'a> {
    wire: &'a Wire,
    connection: Option<Connection>,
    /// Connections made so far.
    pub(super) connections: u64,
}

struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// hyper's HTTP/2 side starts tasks of its own; here they stay on the client's thread.
#[derive(Clone)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

impl Tls {
    async fn shake_hands(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = TlsConnector::from(self.config.clone()).connect(self.name.clone(), socket).await?;
        // HTTP/1.1 needs no ALPN, HTTP/2 over TLS is spoken with servers alone that agreed to it.
        if self.http2 && stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TlsError::NoApplicationProtocol));
        }
        Ok(stream)
    }
}

impl Wire {
    /// How `endpoint` is reached, and believed on the word of `trust` where its URL says https.
    pub(super) fn new(endpoint: Endpoint, trust: &Trust, http2: bool, timeout: Duration) -> Result<Self, Failure> {
        let tls = match endpoint.secure.clone() {
            Some(name) => {
                let config = trust.client(if http2 { HTTP_2 } else { HTTP_1 })?;
                Some(Tls { config: Arc::new(config), name, http2 })
            }
            None => None,
        };
        Ok(Self { endpoint, http2, timeout, tls })
    }

    /// Whether who listens behind `socket` is to be driven: the handshake, made once for its error's sake.
    pub(super) async fn greet(&self, socket: net::TcpStream) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        socket.set_nonblocking(true)?;
        tls.shake_hands(TcpStream::from_std(socket)?).await.map(drop)
    }

    /// A client without a connection yet.
    pub(super) fn client(&self) -> Client<'_> {
        Client { wire: self, connection: None, connections: 0 }
    }

    async fn connect(&self) -> Result<Connection, Missed> {
        let socket = TcpStream::connect(self.endpoint.address).await.map_err(|_| Missed::Connect)?;
        socket.set_nodelay(true).map_err(|_| Missed::Connect)?;
        match &self.tls {
            None => self.speak(socket).await,
            Some(tls) => self.speak(tls.shake_hands(socket).await.map_err(|_| Missed::Connect)?).await,
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<Connection, Missed>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        let broken = |_| Missed::Broken;
        Ok(if self.http2 {
            let (sender, connection) = http2::handshake(OnThisThread, io).await.map_err(broken)?;
            let driver = spawn_local(async { drop(connection.await) });
            Connection { sender: Sender::Http2(sender), driver }
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
            let driver = spawn_local(async { drop(connection.await) });
            Connection { sender: Sender::Http1(sender), driver }
        })
    }
}

impl Client<'_> {
    /// Sends one request and reads its whole answer.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answered, Missed> {
        let limit = self.wire.timeout;
        let result = timeout(limit, self.send(request)).await.unwrap_or(Err(Missed::Timeout));
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answered, Missed> {
        loop {
            let fresh = match &mut self.connection {
                Some(connection) => !connection.ready().await,
                None => true,
            };
            if fresh {
                self.connections += 1;
                // Boxed, because it is large and every request's future would carry it.
                self.connection = Some(Box::pin(self.wire.connect()).await?);
            }
            let connection = self.connection.as_mut().ok_or(Missed::Connect)?;
            match connection.send(request).await {
                Ok(response) => return read(response).await,
                // The server had closed an idle connection, and nothing of the request was sent: any client goes on.
                Err(Some(unsent)) if !fresh => request = unsent,
                Err(_) => return Err(Missed::Broken),
            }
            self.connection = None;
        }
    }
}

impl Connection {
    async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// The error carries the request where nothing of it was sent.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Option<Request<Full<Bytes>>>> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| error.take_message())
    }
}

/// Reads the body to its end and throws it away, but for an error's code.
async fn read(response: Response<Incoming>) -> Result<Answered, Missed> {
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    let failed = head.status.is_client_error() || head.status.is_server_error();
    let mut problem = (failed && is_json(&head.headers)).then(Vec::new);
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Missed::Broken)?;
        let Some(piece) = frame.data_ref() else { continue };
        bytes += piece.len() as u64;
        if let Some(problem) = &mut problem
            && problem.len() + piece.len() <= PROBLEM_BYTES_MAX
        {
            problem.extend_from_slice(piece);
        }
    }
    let code = problem.and_then(|problem| code(&problem));
    let retry_after = failed.then(|| retry_after(&head.headers)).flatten();
    Ok(Answered { status, bytes, code, retry_after })
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().windows(4).any(|part| part == b"json"))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

fn code(problem: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    let code = serde_json::from_slice::<Problem>(problem).ok()?.code;
    let plain = code.len() <= CODE_CHARS_MAX && code.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then_some(code)
}
