//! The side of the host that comes: it asks early what it would get, and takes the sockets once it is ready to serve.
//!
//! Owns the questions and what counts as "nobody is there". Refuses to know what makes a host ready. Both hosts accept for
//! a moment, because the old one stops only after this one has begun; which of them answers whom makes no difference.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use tokio::{net::UnixStream, time::timeout};

use super::{
    HandoverError, PATIENCE, Planes, adopt, agrees,
    message::{self, Accepts, Hello, Leaves, Offer},
    path, same_user,
};

/// Where the new host is to listen, by its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The planes' addresses.
    pub addresses: Planes<SocketAddr>,
    /// Connections that wait in the kernel.
    pub backlog: u32,
}

/// A host that serves from the same data folder.
#[derive(Clone, Debug)]
pub struct Predecessor {
    /// Its process, where it can be seen from here.
    pub pid: Option<i32>,
    /// Its version, as it says.
    pub version: String,
}

/// Sockets in hand, and a host that waits to hear that they are in use. Dropped, that one goes on as if nothing had been.
pub struct Taking {
    stream: UnixStream,
    /// From whom.
    pub from: Predecessor,
}

/// Whether somebody listens at the door of this data folder.
pub async fn is_held(folder: &Path) -> bool {
    matches!(connect(folder).await, Ok(Some(_)))
}

/// Who could be succeeded here, and whether its sockets are those that are wanted. Changes nothing for it.
pub async fn look(folder: &Path, wanted: Wanted) -> Result<Option<Predecessor>, HandoverError> {
    let Some(stream) = connect(folder).await? else { return Ok(None) };
    bounded("the other host's answer", async {
        let (from, addresses, _) = ask(&stream, false).await?;
        (0..).zip(addresses).try_for_each(|(plane, found)| agrees(plane, wanted.addresses[plane], found))?;
        Ok(Some(from))
    })
    .await
}

/// Takes the sockets of the host that serves; `None` where there is none.
pub async fn take(folder: &Path, wanted: Wanted) -> Result<Option<(Planes<TcpListener>, Taking)>, HandoverError> {
    let Some(stream) = connect(folder).await? else { return Ok(None) };
    bounded("the other host's sockets", async {
        let (from, _, sockets) = ask(&stream, true).await?;
        let Ok([data, control]) = <Planes<_>>::try_from(sockets) else {
            return Err(HandoverError::Malformed("another number of sockets than there are planes".into()));
        };
        let adopt = |plane, fd| adopt(plane, fd, wanted.addresses[plane], wanted.backlog);
        Ok(Some(([adopt(0, data)?, adopt(1, control)?], Taking { stream, from })))
    })
    .await
}

impl Taking {
    /// Says that this host accepts, and hears that the other leaves. Where that does not come, the other goes on, and
    /// this one must not.
    pub async fn confirm(self) -> Result<(), HandoverError> {
        bounded("the other host's goodbye", async {
            message::send(&self.stream, &Accepts { accepts: true }, &[]).await?;
            let (line, _) = message::receive(&self.stream, "it said that it leaves").await?;
            if !message::parse::<Leaves>(&line)?.leaves {
                return Err(HandoverError::Malformed("that it does not leave".into()));
            }
            Ok(())
        })
        .await
    }
}

async fn bounded<T>(
    what: &'static str,
    exchange: impl Future<Output = Result<T, HandoverError>>,
) -> Result<T, HandoverError> {
    timeout(PATIENCE, exchange).await.unwrap_or(Err(HandoverError::Late(what)))
}

/// `None` where nobody listens: no file, or one that a host left behind.
async fn connect(folder: &Path) -> Result<Option<UnixStream>, HandoverError> {
    match UnixStream::connect(path(folder)).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The first half of every exchange: who is there, where it listens, and, where they are to be taken, its sockets.
async fn ask(
    stream: &UnixStream,
    takes: bool,
) -> Result<(Predecessor, Planes<SocketAddr>, Vec<std::os::fd::OwnedFd>), HandoverError> {
    let pid = same_user(stream)?;
    message::send(stream, &Hello::new(takes), &[]).await?;
    let (line, sockets) = message::receive(stream, "it answered").await?;
    // A refusal can be read whatever the protocol: it says more than that the numbers differ.
    if let Ok(Refusal { refused: Some(reason) }) = message::parse(&line) {
        return Err(HandoverError::Refused(reason));
    }
    let offer = message::versioned::<Offer>(&line)?;
    let addresses = offer.addresses.ok_or_else(|| HandoverError::Malformed("no addresses".into()))?;
    Ok((Predecessor { pid, version: offer.version }, addresses, sockets))
}

#[derive(serde::Deserialize)]
struct Refusal {
    refused: Option<String>,
}
