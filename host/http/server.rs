//! Listeners and connections of one plane: HTTP/1.1 and HTTP/2 without TLS on one port, bounded in number, in time for a
//! head and in size of a head, closed gracefully.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use tokio_io_timeout::TimeoutStream;

use super::{Config, handle::handle};

/// How long to wait after an accept that failed (no file descriptors left, mostly) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A plane that listens.
pub struct Server {
    listener: TcpListener,
    router: Router,
    config: Config,
}

impl Server {
    /// Binds, so that the port is known and errors come before anything is served.
    pub async fn bind(address: SocketAddr, router: Router, config: &Config) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, router, config: config.clone() })
    }

    /// The address in force, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true; then takes no new connections, lets open ones finish what they are at, and cuts
    /// off what is left after `grace`.
    pub async fn run(self, mut stop: watch::Receiver<bool>, grace: Duration) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.config.max_connections as usize));
        let mut connections = JoinSet::new();
        let builder = Arc::new(builder(&self.config));
        loop {
            // A place first: a connection over the limit stays in the kernel's backlog instead of in our memory.
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Those that have ended are let go of, or the set would grow for ever.
            while connections.try_join_next().is_some() {}
            let connection = Connection {
                builder: builder.clone(),
                router: self.router.clone(),
                header_timeout: Duration::from_millis(self.config.header_timeout_ms),
                write_timeout: Duration::from_millis(self.config.write_timeout_ms),
            };
            let (watcher, stop) = (graceful.watcher(), stop.clone());
            connections.spawn(async move {
                // How a connection ends is the caller's affair: resets and timeouts are no news.
                if let Err(error) = connection.serve(stream, watcher, stop).await {
                    tracing::trace!("connection ended: {error}");
                }
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open after {} ms and are cut off", grace.as_millis());
        }
        connections.shutdown().await;
    }
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(config.max_header_bytes as usize)
        // No `pipeline_flush`: it keeps answers back while unread bytes are there, even when the connection then closes,
        // so that a malformed head or chunk would never get its 4xx.
        .max_headers(config.max_headers as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(config.max_header_bytes)
        .max_concurrent_streams(config.max_streams)
        // An idle peer that has vanished is noticed, and its place freed.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// What one connection is served with.
struct Connection {
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    header_timeout: Duration,
    write_timeout: Duration,
}

impl Connection {
    /// Serves a connection to its end.
    async fn serve(
        self,
        stream: TcpStream,
        watcher: Watcher,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // hyper's clock for heads starts when it knows the protocol, and it waits for that without a clock.
        tokio::select! {
            said = tokio::time::timeout(self.header_timeout, protocol_is_clear(&stream)) => said??,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        // Answers are small and wanted at once.
        stream.set_nodelay(true)?;
        let mut stream = TimeoutStream::new(stream);
        // Whoever does not read would keep its answer in our memory for ever.
        stream.set_write_timeout(Some(self.write_timeout));
        let router = self.router;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let router = router.clone();
            async move { Ok::<_, std::convert::Infallible>(handle(router, request.map(Body::new)).await) }
        });
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service);
        watcher.watch(connection.into_owned()).await
    }
}

/// How HTTP/2 without TLS begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait for the rest of a preface that has come in part.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// Waits until the caller has sent enough to tell HTTP/1.1 from HTTP/2.
async fn protocol_is_clear(stream: &TcpStream) -> std::io::Result<()> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || count == PREFACE.len() || !PREFACE.starts_with(&first[..count]) {
            return Ok(());
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
