//! The side of the host that serves: it listens at `data/handover.sock` and gives its sockets to a host that takes over.
//!
//! Owns the socket file and the order: sockets go out, the other says that it accepts, and only then this host says that it
//! leaves. Until then nothing has changed for it, so whatever becomes of the other one, it goes on. Nobody removes the
//! file at the end: by then it may be the successor's, and one at which nobody listens refuses connections by itself.

use std::{
    fs,
    net::TcpListener,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::Path,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    EXCHANGE, HandoverError, Planes,
    message::{self, Accepts, Hello, Leaves, Offer},
    path, same_user, taking,
};

/// After an accept that failed (no file descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where a successor knocks.
pub struct Door {
    listener: UnixListener,
    sockets: Planes<TcpListener>,
}

/// Who took over.
#[derive(Debug)]
pub struct Successor {
    /// Its process, where it can be seen from here.
    pub pid: Option<i32>,
    /// Its version, as it says.
    pub version: String,
}

impl Door {
    /// Opens the door of this data folder. The sockets are copies: dropping them closes nothing that serves. A living
    /// host's door is replaced only by the one that `succeeds` it.
    pub async fn open(folder: &Path, sockets: Planes<TcpListener>, succeeds: bool) -> Result<Self, HandoverError> {
        if !succeeds && taking::is_held(folder).await {
            return Err(HandoverError::Held);
        }
        // Made under another name, so that there is one door or the other at any time, and never one that others may use.
        let partial = folder.join(format!("handover.sock.{}", std::process::id()));
        let _ = fs::remove_file(&partial);
        let listener = UnixListener::bind(&partial)?;
        let placed = fs::set_permissions(&partial, fs::Permissions::from_mode(0o600));
        if let Err(error) = placed.and_then(|()| fs::rename(&partial, path(folder))) {
            let _ = fs::remove_file(&partial);
            return Err(error.into());
        }
        Ok(Self { listener, sockets })
    }

    /// Waits until a host has taken over: it accepts, and this one has to stop. Dropping it in between ends nothing but
    /// the exchange.
    pub async fn taken(self) -> Successor {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("handover: nobody can take over at present: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let met = timeout(EXCHANGE, self.meet(&stream)).await;
            match met.unwrap_or(Err(HandoverError::Late("the rest of the exchange"))) {
                Ok(Some(successor)) => return successor,
                Ok(None) => {}
                Err(error) => tracing::warn!("handover: came to nothing, this host goes on: {error}"),
            }
        }
    }

    /// One exchange; `None` where the other only asked, or only looked whether somebody is there.
    async fn meet(&self, stream: &UnixStream) -> Result<Option<Successor>, HandoverError> {
        let pid = same_user(stream)?;
        let hello = match message::receive(stream, "its first line").await {
            Err(HandoverError::Closed(_)) => return Ok(None),
            received => received.and_then(|(line, _)| message::versioned::<Hello>(&line)),
        };
        let hello = match hello {
            Ok(hello) => hello,
            Err(error) => {
                // Told to the other, too: it is there that somebody reads it.
                message::send(stream, &Offer::refusing(error.to_string()), &[]).await?;
                return Err(error);
            }
        };
        let [data, control] = &self.sockets;
        let offer = Offer::of([data.local_addr()?, control.local_addr()?]);
        if !hello.takes {
            tracing::info!(pid, version = hello.version, "handover: a host that starts means to take over");
            message::send(stream, &offer, &[]).await?;
            return Ok(None);
        }
        tracing::info!(pid, version = hello.version, "handover: a host is ready; it gets both planes' sockets");
        message::send(stream, &offer, &[data.as_fd(), control.as_fd()]).await?;
        let (line, _) = message::receive(stream, "it said that it accepts").await?;
        if !message::parse::<Accepts>(&line)?.accepts {
            return Err(HandoverError::Malformed("that it does not accept".into()));
        }
        // Where this does not go out, the other is gone, and this one goes on.
        message::send(stream, &Leaves { leaves: true }, &[]).await?;
        Ok(Some(Successor { pid, version: hello.version }))
    }
}
