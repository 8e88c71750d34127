//! What is deployed, who may call and what tenants may have: numbered changes in an object store that hosts share, and
//! the state they come to. Owns changes, blobs and following; refuses to know manifests, wasm, models and HTTP. A
//! change is a record created where none was, so that hosts cannot overwrite each other and history is never lost.
//!
//! ```text
//! change  -> decide on the state -> create record n+1 -> fold it in -> publish
//! follow  -> read n+1 ...        -> fold them in      -> publish
//! ```

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Mutex, MutexGuard, RwLock, watch},
    time::timeout,
};

mod blobs;
mod bounds;
mod change;
mod config;
mod error;
mod follow;
mod hosts;
mod key;
mod log;
mod settings;
mod snapshot;
mod split;
mod state;
mod store;
mod sweep;
mod write;

pub use change::{Author, BlobRef, Change, Record};
pub use config::{Config, S3Config};
pub use error::{CONFLICT, ChangeError, INVALID, NOT_FOUND, QUOTA, Refused, RegistryError};
pub use hosts::{HostNote, HostStatus};
pub use key::{KeyRecord, Replaced};
pub use settings::{TenantLimits, TenantSettings};
pub use split::{Share, Split, Sticky};
pub use state::{Event, FunctionState, RevisionRecord, State, TenantFunctions, TenantState};
pub use sweep::Swept;
pub use write::{Added, NewRevision};

use store::Store;

use crate::announce::Announce;

/// Records folded in before they are published.
const BATCH: usize = 256;
/// Changes wait for each other within a host; after so long the store must be failing.
const TURN: Duration = Duration::from_secs(30);
/// What changes of the registry are announced under.
pub const TOPIC: &str = "registry";

/// Bytes of a host's id: new with every start.
const HOST_ID_BYTES: usize = 8;

/// The registry as one host sees it.
pub struct Registry {
    config: Config,
    store: Store,
    state: ArcSwap<State>,
    applied: watch::Sender<u64>,
    /// Held by whoever moves the state on, so that it never moves back.
    turn: Mutex<()>,
    /// Shared by those who put blobs, held by a sweep while it deletes one.
    sweeping: RwLock<()>,
    /// Why the state may be behind.
    trouble: ArcSwapOption<String>,
    host: String,
    note: watch::Sender<HostNote>,
    /// Changes whenever somebody says that there is something to read.
    news: watch::Sender<u64>,
    /// Where it is told that there is.
    announce: OnceLock<Arc<dyn Announce>>,
}

impl Registry {
    /// Opens the store and reads what is there. Without an address it is the folder `registry` below `folder`.
    pub async fn open(config: &Config, folder: &Path) -> Result<Arc<Self>, RegistryError> {
        config.validate().map_err(RegistryError::Config)?;
        let store = Store::open(config, folder).await?;
        let state = snapshot::newest(&store).await?;
        let registry = Self {
            config: config.clone(),
            store,
            applied: watch::Sender::new(state.n),
            state: ArcSwap::from_pointee(state),
            turn: Mutex::default(),
            sweeping: RwLock::default(),
            trouble: ArcSwapOption::empty(),
            host: change::random_hex(HOST_ID_BYTES)?,
            note: watch::Sender::default(),
            news: watch::Sender::default(),
            announce: OnceLock::new(),
        };
        registry.catch_up().await?;
        Ok(Arc::new(registry))
    }

    /// Tells other hosts by this of changes that are made here; without it they find them when they look.
    pub fn announce_by(&self, announce: Arc<dyn Announce>) {
        // Once: there is one way to tell.
        let _ = self.announce.set(announce);
    }

    /// Another host says that there is something to read: it is looked for at once, if not much more often than otherwise.
    pub fn look_soon(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    fn tell_others(&self, n: u64) {
        if let Some(announce) = self.announce.get() {
            announce.announce(TOPIC, &n.to_string());
        }
    }

    /// How things stand.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Says whenever the state has moved on, by the number of its last record.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Why the state may be behind that of other hosts; nothing while all is well.
    pub fn health(&self) -> Option<String> {
        self.trouble.load().as_deref().cloned()
    }

    /// Reads what others changed. Returns the number of the last record.
    pub async fn catch_up(&self) -> Result<u64, RegistryError> {
        let turn = self.turn().await?;
        self.read_on(&turn).await
    }

    async fn turn(&self) -> Result<MutexGuard<'_, ()>, RegistryError> {
        timeout(TURN, self.turn.lock()).await.map_err(|_| RegistryError::Busy { waited_s: TURN.as_secs() })
    }

    /// Folds in what is in the log and publishes it. Whoever is dropped in the middle leaves a state that is behind,
    /// never one that is wrong.
    async fn read_on(&self, turn: &MutexGuard<'_, ()>) -> Result<u64, RegistryError> {
        loop {
            let before = self.state();
            let records = log::read_from(&self.store, before.n.saturating_add(1), BATCH).await?;
            if records.is_empty() {
                return Ok(before.n);
            }
            let mut state = State::clone(&before);
            drop(before);
            for record in &records {
                state.replay(record);
            }
            self.publish(turn, Arc::new(state));
        }
    }

    fn publish(&self, _turn: &MutexGuard<'_, ()>, state: Arc<State>) {
        let n = state.n;
        self.state.store(state);
        self.applied.send_replace(n);
    }
}

/// The clock of this host, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
