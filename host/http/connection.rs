//! One connection: which protocol it speaks, with or without TLS, under which limits, and how it ends.
//!
//! Owns hyper's settings and the ways in which a connection is given up. Refuses to know how many there are, and what a
//! request is about.

use std::{
    convert::Infallible,
    error::Error,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use axum::{
    Extension, Router,
    http::{HeaderValue, Request, Response, Version, header},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::{
    Config,
    handle::{Head, handle},
    linger::Lingering,
    malformed,
    pace::{Heard, Late, Pace, Waits},
    problem::Problem,
    server::{Phase, past},
    tls::HTTP_2,
    unread,
    unsent::Tracked,
};

/// What an idle connection gets for its goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

type Ended = Result<(), Box<dyn Error + Send + Sync>>;
type Phases = watch::Receiver<Phase>;

/// What every connection of a plane is served with.
pub(super) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    router: Router,
    waits: Waits,
    tls: Option<TlsAcceptor>,
}

impl Connections {
    pub(super) fn new(router: Router, config: &Config, tls: Option<TlsAcceptor>) -> Self {
        let waits = Waits {
            head: Duration::from_millis(config.header_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
            write: Duration::from_millis(config.write_timeout_ms),
        };
        Self { http1: http1(config), http2: http2(config), router, waits, tls }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, mut phase: Phases) -> Ended {
        let head = self.waits.head;
        let first = tokio::select! {
            first = timeout(head, first(&stream, self.tls.is_some())) => first??,
            () = past(Phase::Leaving, &mut phase) => return Ok(()),
        };
        // Answers are small and wanted at once.
        stream.set_nodelay(true)?;
        let mut stream = TimeoutStream::new(stream);
        // Whoever does not read would keep its answer in our memory for ever.
        stream.set_write_timeout(Some(self.waits.write));
        let stream = Box::pin(stream);
        match (&self.tls, first) {
            (None, First::Http2) => self.http2(stream, phase).await,
            (None, _) => self.http1(stream, self.router.clone(), phase).await,
            (Some(_), First::Http1) => {
                // Their credentials are out already; nothing of ours goes the same way.
                self.http1(stream, refusing("this port speaks TLS: ask again with https://".into()), phase).await
            }
            (Some(acceptor), _) => {
                let stream = tokio::select! {
                    shaken = timeout(head, acceptor.accept(stream)) => shaken?.map_err(|error| {
                        tracing::debug!("no TLS connection came about: {error}");
                        error
                    })?,
                    () = past(Phase::Leaving, &mut phase) => return Ok(()),
                };
                match stream.get_ref().1.alpn_protocol() {
                    Some(HTTP_2) => self.http2(stream, phase).await,
                    _ => self.http1(stream, self.router.clone(), phase).await,
                }
            }
        }
    }

    async fn http1(&self, stream: impl Stream, router: Router, phase: Phases) -> Ended {
        let pace = Pace::new(self.waits, true);
        let service = {
            let pace = pace.clone();
            service_fn(move |request| answer(router.clone(), pace.clone(), request))
        };
        let stream = TokioIo::new(Heard::new(Lingering::new(stream, pace.clone()), pace.clone()));
        let connection = self.http1.serve_connection(stream, service);
        // Not at once: where nothing is in progress hyper closes, and a request may be on its way.
        let end = End { leave: |_: Pin<&mut _>| pace.leave(), close: http1::Connection::graceful_shutdown };
        drive(connection, end, &pace, phase).await
    }

    async fn http2(&self, stream: impl Stream, phase: Phases) -> Ended {
        let pace = Pace::new(self.waits, false);
        let service = {
            let (router, pace) = (self.router.clone(), pace.clone());
            service_fn(move |request| answer(router.clone(), pace.clone(), request))
        };
        let stream = TokioIo::new(Heard::new(stream, pace.clone()));
        let connection = self.http2.serve_connection(stream, service);
        // `GOAWAY` is for this: what is on its way is served.
        let close = http2::Connection::graceful_shutdown;
        drive(connection, End { leave: close, close }, &pace, phase).await
    }
}

/// A connection's bytes, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

async fn answer(router: Router, pace: Arc<Pace>, request: Request<Incoming>) -> Result<Response<Tracked>, Infallible> {
    let in_progress = pace.begin();
    let router = match malformed::flaw(&request) {
        None => router,
        Some(flaw) => refusing(flaw),
    };
    let (request, left) = unread::watch(request);
    let mut response = handle(router, request).await;
    if left.ends_connection().await || pace.leaves() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Tracked::new(body, in_progress)))
}

/// Answers a request whose head is no good, and ends the connection where nobody can be sure what follows on it.
fn refusing(detail: String) -> Router {
    Router::new().fallback(async |Extension(head): Extension<Head>, version: Version| {
        let mut response = Problem::new("bad-request", detail, &head.id).into_response();
        if version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    })
}

fn http1(config: &Config) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `pace` does this, and knows idle connections from half heads.
        .header_read_timeout(None)
        .max_buf_size(config.max_header_bytes as usize)
        // The buffer alone is no exact limit: what a single read brings is looked at before the buffer is.
        .max_header_size(config.max_header_bytes as usize)
        // No `pipeline_flush`: it keeps answers back while unread bytes are there, even when the connection then closes,
        // so that a malformed head or chunk would never get its 4xx.
        .max_headers(config.max_headers as usize);
    builder
}

fn http2(config: &Config) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(config.max_header_bytes)
        .max_concurrent_streams(config.max_streams)
        .max_pending_accept_reset_streams(config.max_pending_resets as usize)
        .max_local_error_reset_streams(config.max_stream_errors as usize)
        // What is on its way to bodies that have not been read, and so is on nobody's account yet, is bounded for the
        // connection as a whole; a stream may have all of it, because bodies are read as fast as they come.
        .initial_connection_window_size(config.max_unread_bytes)
        .initial_stream_window_size(config.max_unread_bytes)
        .max_send_buf_size(config.max_unsent_bytes as usize)
        // A peer that has vanished while its request is in progress is noticed.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// How a connection of a protocol ends.
struct End<L, C> {
    /// Its caller is asked to connect anew, and may finish what it is at.
    leave: L,
    /// It says goodbye.
    close: C,
}

/// Drives a connection until it ends by itself, its caller is late, or the host stops.
async fn drive<C>(
    connection: C,
    end: End<impl Fn(Pin<&mut C>), impl Fn(Pin<&mut C>)>,
    pace: &Pace,
    mut phase: Phases,
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let close = end.close;
    let mut until = Phase::Serving;
    let late = loop {
        tokio::select! {
            // The phase first, so that the next answer knows of it.
            biased;
            () = past(until, &mut phase) => {
                if until == Phase::Leaving || *phase.borrow() != Phase::Leaving {
                    break None;
                }
                until = Phase::Leaving;
                (end.leave)(connection.as_mut());
            }
            ended = paced(connection.as_mut(), pace) => match ended {
                Paced::Ended(ended) => return Ok(ended?),
                Paced::Late(late) => break Some(late),
            },
        }
    };
    match late {
        Some(Late::Head) => {
            tracing::trace!("a connection whose head did not come is closed");
            Ok(())
        }
        Some(Late::Idle) => {
            close(connection.as_mut());
            match timeout(GOODBYE, connection.as_mut()).await {
                Ok(ended) => Ok(ended?),
                Err(_) if pace.deadline().is_some() => Ok(()),
                // A request was on its way while we said goodbye: it was taken, so it is answered.
                Err(_) => match paced(connection, pace).await {
                    Paced::Ended(ended) => Ok(ended?),
                    Paced::Late(_) => Ok(()),
                },
            }
        }
        Some(Late::Answer) => {
            tracing::debug!("a connection whose caller does not take an answer is closed");
            close(connection.as_mut());
            // What else goes on there may come to its end, if that is near.
            let _ = timeout(GOODBYE.min(pace.round()), connection).await;
            Ok(())
        }
        // The host's patience bounds what is in progress; what waits for its caller has the usual patience.
        None => {
            close(connection.as_mut());
            match paced(connection, pace).await {
                Paced::Ended(ended) => Ok(ended?),
                Paced::Late(_) => Ok(()),
            }
        }
    }
}

enum Paced {
    Ended(hyper::Result<()>),
    Late(Late),
}

/// The connection's work, until its caller is late. The timer is set anew only where it would fire too late: most
/// requests leave it alone.
async fn paced<C>(mut connection: Pin<&mut C>, pace: &Pace) -> Paced
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut round_ends = Instant::now() + pace.round();
    let mut timer = pin!(sleep_until(round_ends));
    std::future::poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Paced::Ended(ended));
        }
        loop {
            let deadline = pace.deadline().map(|(at, late)| (Instant::from_std(at), late));
            if let Some((at, _)) = deadline
                && at < timer.deadline()
            {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            if let Some((at, late)) = deadline
                && at <= now
            {
                return Poll::Ready(Paced::Late(late));
            }
            if round_ends <= now {
                if pace.rounds().turn() {
                    return Poll::Ready(Paced::Late(Late::Answer));
                }
                round_ends = now + pace.round();
            }
            timer.as_mut().reset(deadline.map_or(round_ends, |(at, _)| at.min(round_ends)));
        }
    })
    .await
}

/// What a connection begins with.
enum First {
    Http1,
    Http2,
    Other,
}

/// How HTTP/2 without TLS begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait for the rest of a preface that has come in part.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// Waits until the caller has sent enough to tell protocols apart, and leaves it unread. Where TLS is spoken, one byte
/// tells: no method begins like a handshake.
async fn first(stream: &TcpStream, tls: bool) -> std::io::Result<First> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        match first[..count].first() {
            Some(letter) if tls => return Ok(if letter.is_ascii_uppercase() { First::Http1 } else { First::Other }),
            None if tls => return Ok(First::Other),
            _ if count == PREFACE.len() && first == PREFACE => return Ok(First::Http2),
            _ if count == 0 || !PREFACE.starts_with(&first[..count]) => return Ok(First::Http1),
            _ => tokio::time::sleep(PREFACE_PAUSE).await,
        }
    }
}
