//! What two hosts say to each other: a line of JSON each, one after the other, and sockets beside a line.
//!
//! Owns the form, its bounds, and how descriptors travel. Refuses to know who says what when. What comes in is another
//! version's, or somebody's who only reached the file: read within bounds, and never trusted to make sense.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::{HandoverError, PROTOCOL, Planes};

/// The longest line: addresses, a version, a reason.
const MAX_LINE_BYTES: usize = 4096;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 1024;
/// Sockets that come with a line: one for each plane.
const MAX_SOCKETS: usize = 2;

/// What every line begins with that opens or answers, in all protocols that will ever be.
#[derive(Debug, Deserialize)]
struct Version {
    protocol: u32,
    #[serde(default)]
    version: String,
}

/// The new host's first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) version: String,
    /// Whether it is ready to serve, or only asks what it would get.
    pub(super) takes: bool,
}

/// What the old host answers. With `refused` nothing else counts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) addresses: Option<Planes<SocketAddr>>,
    pub(super) refused: Option<String>,
}

/// The new host accepts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepts {
    pub(super) accepts: bool,
}

/// The old one accepts no more.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leaves {
    pub(super) leaves: bool,
}

/// This program's version.
pub(super) fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

impl Hello {
    pub(super) fn new(takes: bool) -> Self {
        Self { protocol: PROTOCOL, version: version(), takes }
    }
}

impl Offer {
    pub(super) fn of(addresses: Planes<SocketAddr>) -> Self {
        Self { protocol: PROTOCOL, version: version(), addresses: Some(addresses), refused: None }
    }

    pub(super) fn refusing(reason: String) -> Self {
        Self { protocol: PROTOCOL, version: version(), addresses: None, refused: Some(reason) }
    }
}

/// Reads a line that begins with its protocol, which has to be ours before the rest means anything.
pub(super) fn versioned<T: DeserializeOwned>(line: &[u8]) -> Result<T, HandoverError> {
    let Version { protocol, version } = parse(line)?;
    if protocol != PROTOCOL {
        // It goes into logs and messages.
        let version = version.chars().filter(|char| !char.is_control()).take(64).collect();
        return Err(HandoverError::Protocol { theirs: protocol, version });
    }
    parse(line)
}

pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, HandoverError> {
    serde_json::from_slice(line).map_err(|error| HandoverError::Malformed(format!("no line of this protocol: {error}")))
}

/// Sends a line, with sockets that the other side gets copies of.
pub(super) async fn send(
    stream: &UnixStream,
    line: &impl Serialize,
    sockets: &[BorrowedFd<'_>],
) -> Result<(), HandoverError> {
    let mut text = serde_json::to_vec(line).expect("texts, numbers and addresses are always JSON");
    text.push(b'\n');
    let mut sent = 0;
    while sent < text.len() {
        let piece = stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            // They go with the first piece.
            if sent == 0 && !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
                return Err(std::io::Error::other("too many sockets for one line"));
            }
            Ok(sendmsg(stream, &[IoSlice::new(&text[sent..])], &mut beside, SendFlags::NOSIGNAL)?)
        });
        sent += piece.await?;
    }
    Ok(())
}

/// Receives one line and the sockets beside it. `what` is what is waited for, for the message where it does not come.
pub(super) async fn receive(stream: &UnixStream, what: &'static str) -> Result<(Vec<u8>, Vec<OwnedFd>), HandoverError> {
    let (mut line, mut sockets) = (Vec::new(), Vec::new());
    loop {
        let mut piece = [0; PIECE_BYTES];
        let received = stream.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let pieces = &mut [IoSliceMut::new(&mut piece)];
            let received = recvmsg(stream, pieces, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            Ok(received.bytes)
        });
        let count = received.await?;
        line.extend_from_slice(&piece[..count]);
        if count == 0 {
            return Err(HandoverError::Closed(what));
        }
        if line.len() > MAX_LINE_BYTES || sockets.len() > MAX_SOCKETS {
            return Err(HandoverError::Malformed("more than belongs to a line".into()));
        }
        match line.iter().position(|byte| *byte == b'\n') {
            None => {}
            Some(end) if end + 1 == line.len() => return Ok((line, sockets)),
            Some(_) => return Err(HandoverError::Malformed("more than one line at once".into())),
        }
    }
}
