//! A host in this process whose threads are where a figure wants them: lanes on one core, everything else on another.

use std::{net::SocketAddr, sync::Arc};

use tenon_host::boot::{self, Host};
use tokio::runtime::Runtime;

use crate::{
    cores,
    place::{Place, reactor},
    watched::{self, Seen},
};

/// A host, and what its lanes did.
pub(crate) struct Apart {
    pub(crate) seen: Arc<Seen>,
    host: Host,
    runtime: Runtime,
}

impl Apart {
    /// Reactor and guests on `core`, where the host finds one core and starts one thread of each kind and one lane for each
    /// model; lanes where `seen` says.
    pub(crate) fn start(place: &Place, core: usize, seen: Arc<Seen>) -> Self {
        cores::on(core, || {
            let config = place.config();
            let runtime = reactor(&config);
            let started = runtime.block_on(boot::start_with(config, watched::backend(&seen)));
            Self { host: started.expect("the host starts"), runtime, seen: seen.clone() }
        })
    }

    /// Where callers come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.host.data_address()
    }

    /// Ends the host.
    pub(crate) fn end(self) {
        self.runtime.block_on(self.host.drain());
    }
}
