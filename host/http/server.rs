//! Listeners of one plane: connections are accepted while there is a place for them, each served by a task of its own, and
//! all are ended gracefully. What happens on a connection is `connection`'s.

use std::{
    io,
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

/// How far a plane is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts and serves.
    Serving,
    /// Another process accepts at the same socket: this one accepts no more and serves the connections that it has,
    /// whose callers are asked to connect anew. Nobody is refused.
    Leaving,
    /// It accepts no more, and connections end with what they are at.
    Ending,
}

/// Waits until a plane is further than `phase`, or nobody is left who could tell.
pub(super) async fn past(phase: Phase, now: &mut watch::Receiver<Phase>) {
    let _ = now.wait_for(|now| *now > phase).await;
}

/// Opens a plane's socket, so that the port is known and errors come before anything is served.
pub fn listen(address: SocketAddr, config: &Config) -> io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A host that starts again must not wait for connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(config.backlog)?.into_std()
}

/// A plane that listens.
pub struct Server {
    listener: TcpListener,
    router: Router,
    config: Config,
    tls: Option<Tls>,
}

impl Server {
    /// Serves at a socket that listens and does not block, whoever opened it. With `tls` the plane speaks nothing else.
    pub fn new(listener: std::net::TcpListener, router: Router, config: &Config, tls: Option<Tls>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(listener)?, router, config: config.clone(), tls })
    }

    /// Serves until `phase` is past [`Phase::Serving`], then takes no new connections. [`Phase::Leaving`] lasts until the
    /// last caller has gone or the phase is over; in [`Phase::Ending`] open ones finish what they are at, and what is left
    /// after `grace` is cut off.
    pub async fn run(self, mut phase: watch::Receiver<Phase>, grace: Duration) {
        let places = Arc::new(Semaphore::new(self.config.max_connections as usize));
        let mut connections = JoinSet::new();
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let follower = self.tls.map(|tls| tokio::spawn(tls.follow(phase.clone())));
        let served = Arc::new(Connections::new(self.router, &self.config, acceptor));
        let mut shortage = Shortage::default();
        loop {
            // A place first: a connection over the limit stays in the kernel's backlog instead of in our memory.
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = past(Phase::Serving, &mut phase) => break,
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = past(Phase::Serving, &mut phase) => break,
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
            let (served, phase) = (served.clone(), phase.clone());
            connections.spawn(async move {
                // How a connection ends is the caller's affair: resets and timeouts are no news.
                if let Err(error) = served.serve(stream, phase).await {
                    tracing::trace!("connection ended: {error}");
                }
                drop(place);
            });
        }
        drop(self.listener);
        tokio::select! {
            () = all(&mut connections) => {}
            () = past(Phase::Leaving, &mut phase) => {
                if tokio::time::timeout(grace, all(&mut connections)).await.is_err() {
                    tracing::warn!("connections were still open after {} ms and are cut off", grace.as_millis());
                }
            }
        }
        connections.shutdown().await;
        if let Some(follower) = follower {
            // It may be reading from a file system that does not answer; nobody waits for that.
            follower.abort();
        }
    }
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
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
