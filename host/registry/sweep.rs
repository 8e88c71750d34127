//! What nothing names any more goes: blobs of revisions that are gone or never came to be, notes of hosts that are
//! away, and what writes left behind that a crash cut off. Owns what may go; refuses to guess: without the newest state
//! it deletes nothing.
//!
//! A blob is put before the record that names it, so only old blobs go, and putting one again makes it new. Between
//! the last look at a blob's age and its deletion lie milliseconds in which another host may put the same content
//! again; a deployment checks that its blobs are there just before it is recorded, and a host that finds one missing
//! says so.

use std::{
    collections::HashSet,
    fs, io,
    path::Path as FilePath,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt;
use object_store::ObjectMeta;

use super::{
    Registry,
    error::RegistryError,
    hosts::{self, age},
    state::State,
    store::{BLOBS, HOSTS, SNAPSHOTS},
};

/// Deletions in one sweep; what is left waits for the next.
const MOST: usize = 10_000;
/// Snapshots that stay: a damaged one gives way to the one before.
const SNAPSHOTS_KEPT: usize = 4;
/// Folders of the store lie this deep.
const DEEP: usize = 2;

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs that no revision names.
    pub blobs: usize,
    /// Files of writes that were cut off; only in a folder.
    pub temporary: usize,
    /// Snapshots that newer ones have made needless.
    pub snapshots: usize,
    /// Notes of hosts that are away.
    pub hosts: usize,
}

impl Registry {
    /// Deletes what nothing names and is older than `grace`.
    pub async fn sweep(&self, grace: Duration) -> Result<Swept, RegistryError> {
        // Whoever is behind must not delete: what it has not read may name anything.
        self.catch_up().await?;
        let old = self.unnamed(&self.state(), grace).await?;
        self.catch_up().await?;
        let state = self.state();
        let named = digests(&state);
        let mut swept = Swept::default();
        for entry in old.iter().filter(|entry| !named.contains(entry.location.filename().unwrap_or_default())) {
            swept.blobs += usize::from(self.delete_if_old(entry, grace).await?);
        }
        swept.snapshots = self.drop_snapshots().await?;
        swept.hosts = self.forget_hosts().await?;
        swept.temporary = self.clear_away(grace).await?;
        Ok(swept)
    }

    /// Blobs that the state does not name, of some age.
    pub(super) async fn unnamed(&self, state: &State, grace: Duration) -> Result<Vec<ObjectMeta>, RegistryError> {
        let named = digests(state);
        let mut old = Vec::new();
        let mut listed = self.store.list(BLOBS);
        while let Some(entry) = listed.try_next().await? {
            let unnamed = entry.location.filename().is_some_and(|digest| !named.contains(digest));
            if unnamed && age(&entry) >= grace {
                old.push(entry);
            }
            if old.len() >= MOST {
                break;
            }
        }
        Ok(old)
    }

    pub(super) async fn delete_if_old(&self, entry: &ObjectMeta, grace: Duration) -> Result<bool, RegistryError> {
        // No blob is put by this host meanwhile.
        let _alone = self.sweeping.write().await;
        let old = self.store.head(&entry.location).await?.is_some_and(|now| age(&now) >= grace);
        if old {
            self.store.delete(&entry.location).await?;
        }
        Ok(old)
    }

    /// All but the newest: the log has everything, and one of these is enough to begin with.
    async fn drop_snapshots(&self) -> Result<usize, RegistryError> {
        let mut listed: Vec<ObjectMeta> = self.store.list(SNAPSHOTS).try_collect().await?;
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        let old = listed.len().saturating_sub(SNAPSHOTS_KEPT).min(MOST);
        for entry in &listed[..old] {
            self.store.delete(&entry.location).await?;
        }
        Ok(old)
    }

    async fn forget_hosts(&self) -> Result<usize, RegistryError> {
        let listed: Vec<ObjectMeta> = self.store.list(HOSTS).try_collect().await?;
        let mut forgotten = 0;
        for entry in listed.iter().filter(|entry| age(entry) >= hosts::FORGOTTEN).take(MOST) {
            self.store.delete(&entry.location).await?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    async fn clear_away(&self, grace: Duration) -> Result<usize, RegistryError> {
        let Some(folder) = self.store.folder.clone() else { return Ok(0) };
        let cleared = tokio::task::spawn_blocking(move || clear_folder(&folder, grace, DEEP)).await;
        let cleared = cleared.map_err(io::Error::other).and_then(|cleared| cleared);
        cleared.map_err(|source| RegistryError::Folder { source })
    }
}

fn digests(state: &State) -> HashSet<&str> {
    state.blobs().map(|blob| &blob.digest[..]).collect()
}

/// Deletes files of writes that were cut off: those end in `#` and a number, and no object's name does.
fn clear_folder(folder: &FilePath, grace: Duration, deep: usize) -> io::Result<usize> {
    let mut cleared = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && deep > 0 {
            cleared += clear_folder(&entry.path(), grace, deep - 1)?;
        } else if kind.is_file() && is_temporary(&entry.path()) && is_old(&entry, grace) {
            // Its writer may just be done with it.
            cleared += usize::from(fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(cleared)
}

fn is_temporary(path: &FilePath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('#'));
    name.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_old(entry: &fs::DirEntry, grace: Duration) -> bool {
    let written = entry.metadata().and_then(|about| about.modified());
    written.is_ok_and(|written| SystemTime::now().duration_since(written).unwrap_or_default() >= grace)
}
