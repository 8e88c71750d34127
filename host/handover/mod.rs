//! How a host comes to listening sockets that somebody else has opened: a host that serves already and makes room for
//! this one, or a supervisor (systemd) that opened them before anything ran.
//!
//! Owns the exchange over `handover.sock` in the data folder, who may take part in it, and the rule that a socket listens
//! where the configuration says. Refuses to know what is served at a socket, and how a host drains: `boot` puts that
//! together. The sockets themselves change hands, so that connections that wait in the kernel wait on, and none is refused.

mod activation;
mod door;
mod message;
mod taking;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::UnixStream;

pub use activation::Activated;
pub use door::{Door, Successor};
pub use taking::{Predecessor, Taking, Wanted, is_held, look, take};

/// What is exchanged, and in which order. Another number is refused.
const PROTOCOL: u32 = 1;
/// How long a host that serves waits for the whole exchange with one that wants to take over.
const EXCHANGE: Duration = Duration::from_secs(5);
/// How long one that wants to take over waits: another may be before it, whose exchange has to end first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why sockets did not change hands.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum HandoverError {
    #[error("data/handover.sock: {0}")]
    Io(#[from] io::Error),
    #[error("data/handover.sock: {0} did not come in time")]
    Late(&'static str),
    #[error("data/handover.sock: the other process closed the connection before {0}")]
    Closed(&'static str),
    #[error("data/handover.sock: the other process sent {0}")]
    Malformed(String),
    #[error("data/handover.sock: the other process runs as user {theirs}, this one as {ours}; only the same user may")]
    User { ours: u32, theirs: u32 },
    #[error(
        "the other host (version {version}) speaks handover protocol {theirs}, this one {PROTOCOL}: end it, and start \
         this one without --handover"
    )]
    Protocol { theirs: u32, version: String },
    #[error("the host that serves refused: {0}")]
    Refused(String),
    #[error("another host of this data folder can be handed over already")]
    Held,
    #[error(
        "the {plane} plane's socket listens on {found}, the configuration says {configured}: sockets are taken as they \
         are, so say {flag} {found}, or bind anew without them"
    )]
    Address { plane: &'static str, flag: &'static str, found: SocketAddr, configured: SocketAddr },
    #[error("the socket for the {plane} plane is none that listens for TCP: {reason}")]
    NoListener { plane: &'static str, reason: String },
    #[error("{0}")]
    Activation(String),
}

/// What there is for each plane, data first.
pub type Planes<T> = [T; 2];

/// What planes and the flags for their addresses are called.
const PLANES: Planes<(&str, &str)> = [("data", "--listen"), ("control", "--control-listen")];

fn path(folder: &Path) -> PathBuf {
    folder.join("handover.sock")
}

/// Whether a socket listens where the configuration says. Port 0 leaves the port to whoever opened the socket.
fn agrees(plane: usize, configured: SocketAddr, found: SocketAddr) -> Result<(), HandoverError> {
    if configured.ip() == found.ip() && (configured.port() == found.port() || configured.port() == 0) {
        return Ok(());
    }
    let (plane, flag) = PLANES[plane];
    Err(HandoverError::Address { plane, flag, found, configured })
}

/// Makes a listener of what came from elsewhere: held against the configuration, and ready for a reactor.
fn adopt(plane: usize, fd: OwnedFd, configured: SocketAddr, backlog: u32) -> Result<TcpListener, HandoverError> {
    let no_listener = |reason: String| HandoverError::NoListener { plane: PLANES[plane].0, reason };
    let errno = |error: rustix::io::Errno| no_listener(io::Error::from(error).to_string());
    if !rustix::net::sockopt::socket_acceptconn(&fd).map_err(errno)? {
        return Err(no_listener("it does not listen".into()));
    }
    let listener = TcpListener::from(fd);
    let found = listener.local_addr().map_err(|error| no_listener(error.to_string()))?;
    agrees(plane, configured, found)?;
    listener.set_nonblocking(true)?;
    // Again, for the length of the kernel's queue: whoever opened it had another configuration.
    rustix::net::listen(&listener, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(io::Error::from)?;
    Ok(listener)
}

/// Whoever reaches the socket file may not be whom it is for.
fn same_user(stream: &UnixStream) -> Result<Option<i32>, HandoverError> {
    let (peer, ours) = (stream.peer_cred()?, rustix::process::geteuid().as_raw());
    if peer.uid() != ours {
        return Err(HandoverError::User { ours, theirs: peer.uid() });
    }
    Ok(peer.pid())
}

#[cfg(test)]
mod tests;
