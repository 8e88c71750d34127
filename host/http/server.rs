//! Listeners of one plane: connections are accepted while there is a place for them, each served by a task of its own, and
//! all are ended gracefully. What happens on a connection is `connection`'s.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{Config, Tls, connection::Connections};

/// How long to wait after an accept that failed (no file descriptors left, mostly) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long none may have failed before it is said that they work again.
const ACCEPT_CALM: Duration = Duration::from_secs(5);

/// A plane that listens.
pub struct Server {
    listener: TcpListener,
    router: Router,
    config: Config,
    tls: Option<Tls>,
}

impl Server {
    /// Binds, so that the port is known and errors come before anything is served. With `tls` the plane speaks nothing
    /// else.
    pub fn bind(address: SocketAddr, router: Router, config: &Config, tls: Option<Tls>) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A host that starts again must not wait for connections of the one before to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(config.backlog)?, router, config: config.clone(), tls })
    }

    /// The address in force, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true; then takes no new connections, lets open ones finish what they are at, and cuts
    /// off what is left after `grace`.
    pub async fn run(self, mut stop: watch::Receiver<bool>, grace: Duration) {
        let places = Arc::new(Semaphore::new(self.config.max_connections as usize));
        let mut connections = JoinSet::new();
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let follower = self.tls.map(|tls| tokio::spawn(tls.follow(stop.clone())));
        let served = Arc::new(Connections::new(self.router, &self.config, acceptor));
        let mut shortage = Shortage::default();
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
                    shortage.failed(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            shortage.worked();
            // Those that have ended are let go of, or the set would grow for ever.
            while connections.try_join_next().is_some() {}
            let (served, stop) = (served.clone(), stop.clone());
            connections.spawn(async move {
                // How a connection ends is the caller's affair: resets and timeouts are no news.
                if let Err(error) = served.serve(stream, stop).await {
                    tracing::trace!("connection ended: {error}");
                }
                drop(place);
            });
        }
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("connections were still open after {} ms and are cut off", grace.as_millis());
        }
        connections.shutdown().await;
        if let Some(follower) = follower {
            // It may be reading from a file system that does not answer; nobody waits for that.
            follower.abort();
        }
    }
}

/// A time in which connections cannot be accepted: one line when it begins and one when it is over, not twenty a second.
#[derive(Default)]
struct Shortage {
    failures: u64,
    latest: Option<Instant>,
}

impl Shortage {
    fn failed(&mut self, error: &std::io::Error) {
        self.failures += 1;
        if self.latest.replace(Instant::now()).is_none() {
            tracing::warn!("connections cannot be accepted, and wait in the kernel: {error}");
        }
    }

    fn worked(&mut self) {
        if self.latest.is_some_and(|latest| latest.elapsed() >= ACCEPT_CALM) {
            tracing::info!(failures = self.failures, "connections are accepted again");
            *self = Self::default();
        }
    }
}
