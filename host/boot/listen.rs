//! How this host comes to its sockets: from the host that serves already (`--handover`), from a supervisor that opened
//! them, or by opening them itself. Owns that order and what is said of it.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    config::Config,
    handover::{self, Activated, Door, Planes, Taking, Wanted},
    http::{self, Phase},
};

/// How this host came to be started.
#[derive(Debug, Default)]
pub struct Arrival {
    /// It takes over from the host that serves from the same data folder.
    pub handover: bool,
    /// What a supervisor has opened.
    pub activated: Activated,
}

/// Sockets that listen, and at whose expense.
pub(super) struct Listening {
    sockets: Planes<TcpListener>,
    taking: Option<Taking>,
}

/// What is left to do once both planes accept.
pub(super) struct Reached {
    copies: Planes<TcpListener>,
    taking: Option<Taking>,
}

impl Arrival {
    /// Before anything is loaded: whether this host would come to its sockets. Who serves now may be another when this
    /// host is ready, so that is only told.
    pub(super) async fn look(&self, config: &Config) -> Result<()> {
        self.activated.check(wanted(config).addresses)?;
        if !self.handover {
            return Ok(());
        }
        match handover::look(&config.engine.data, wanted(config)).await.context(WHOLE)? {
            Some(from) => tracing::info!(
                pid = from.pid,
                version = from.version,
                "handover: a host serves from this data folder, and goes on until this one is ready"
            ),
            None => tracing::info!("handover: no host serves from this data folder, so this one starts as usual"),
        }
        Ok(())
    }

    /// Sockets for both planes, when this host is ready to serve.
    pub(super) async fn sockets(self, config: &Config) -> Result<Listening> {
        let (folder, wanted) = (&config.engine.data, wanted(config));
        if self.handover
            && let Some((sockets, taking)) = handover::take(folder, wanted).await.context(WHOLE)?
        {
            tracing::info!(pid = taking.from.pid, "handover: this host is ready and has the sockets of both planes");
            return Ok(Listening { sockets, taking: Some(taking) });
        }
        let [data, control] = self.activated.take(wanted.addresses, wanted.backlog)?;
        let [data_address, control_address] = wanted.addresses;
        let sockets = [open(data, data_address, config).await?, open(control, control_address, config).await?];
        Ok(Listening { sockets, taking: None })
    }
}

/// What a failed handover means for whoever reads of it.
const WHOLE: &str = "handover: it came to nothing, and the host that serves goes on";

fn wanted(config: &Config) -> Wanted {
    let http = &config.http;
    Wanted { addresses: [http.listen, http.control_listen], backlog: http.backlog }
}

async fn open(given: Option<TcpListener>, address: SocketAddr, config: &Config) -> Result<TcpListener> {
    if let Some(listener) = given {
        tracing::info!("the socket on {address} is the supervisor's");
        return Ok(listener);
    }
    let error = match http::listen(address, &config.http) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let elsewhere = "choose another with --listen or --control-listen";
    let what = if error.kind() == ErrorKind::AddrInUse && handover::is_held(&config.engine.data).await {
        format!(
            "cannot listen on {address}: a host serves from this data folder; take over from it with --handover, or \
             {elsewhere}"
        )
    } else {
        format!("cannot listen on {address}; {elsewhere}")
    };
    Err(anyhow::Error::from(error).context(what))
}

impl Listening {
    /// The addresses in force, with the ports that the system chose where 0 was asked for.
    pub(super) fn addresses(&self) -> Result<Planes<SocketAddr>> {
        let [data, control] = &self.sockets;
        Ok([data.local_addr()?, control.local_addr()?])
    }

    /// Sockets to serve at, and what is to be done when they are served.
    pub(super) fn apart(self) -> Result<(Planes<TcpListener>, Reached)> {
        let [data, control] = &self.sockets;
        let copies = [data.try_clone()?, control.try_clone()?];
        Ok((self.sockets, Reached { copies, taking: self.taking }))
    }
}

impl Reached {
    /// Has the predecessor leave, and opens the door for a successor. An error means that the predecessor goes on, so
    /// that this host must not. The door's task, where there is a door.
    pub(super) async fn settle(
        self,
        folder: &Path,
        phase: watch::Sender<Phase>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Option<JoinHandle<()>>> {
        let succeeds = self.taking.is_some();
        if let Some(taking) = self.taking {
            let pid = taking.from.pid;
            match taking.confirm().await {
                Ok(()) => tracing::info!(pid, "handover: this host accepts, and the one before leaves"),
                // Nobody is at the door: it has ended in the middle, and if this one did so too, nobody would serve.
                Err(error) if !handover::is_held(folder).await => {
                    tracing::warn!(pid, "handover: this host accepts, and the one before is gone: {error}");
                }
                Err(error) => return Err(anyhow::Error::from(error).context(WHOLE)),
            }
        }
        Ok(match Door::open(folder, self.copies, succeeds).await {
            Ok(door) => Some(tokio::spawn(mind(door, phase, stopped))),
            Err(error) => {
                tracing::warn!("this host cannot be handed over to another: {error}");
                None
            }
        })
    }
}

/// Minds the door until somebody has come through it, or the host stops.
async fn mind(door: Door, phase: watch::Sender<Phase>, mut stopped: watch::Receiver<bool>) {
    let successor = tokio::select! {
        successor = door.taken() => successor,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    phase.send_if_modified(|phase| {
        let leaves = *phase < Phase::Leaving;
        *phase = (*phase).max(Phase::Leaving);
        leaves
    });
    tracing::info!(
        pid = successor.pid,
        version = successor.version,
        "handover: the other host accepts now, and this one no more"
    );
}
