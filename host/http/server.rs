//! Listeners and connections of one plane: HTTP/1.1 and HTTP/2 without TLS on one port, bounded in number, in time for a
//! head and in size of a head, closed gracefully.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

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
            let connection = serve(&builder, stream, self.router.clone());
            let watched = graceful.watch(connection);
            connections.spawn(async move {
                // How a connection ends is the caller's affair: resets and timeouts are no news.
                if let Err(error) = watched.await {
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

fn serve(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + Send + use<>
{
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, std::convert::Infallible>(handle(router, request.map(Body::new)).await) }
    });
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned()
}
