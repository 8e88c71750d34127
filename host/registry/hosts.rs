//! What hosts say about themselves: how far they followed and which functions failed on them. Owns the notes' form and
//! age; refuses to decide anything by them: they are for people.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{ObjectMeta, path::Path};
use serde::{Deserialize, Serialize};

use super::{
    Registry, bounds,
    error::RegistryError,
    now_ms,
    store::{HOSTS, Store},
};

/// A host that said nothing for so long is away; it speaks three times as often.
const AWAY: Duration = Duration::from_secs(90);
/// Notes this old are deleted.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(3600);
/// How often a host speaks if nothing changes.
pub(super) const SPEAK_EVERY: Duration = Duration::from_secs(30);
/// Failures told; of a host on which more fails, these say enough.
const FAILED: usize = 1000;
/// The longest note read.
const NOTE_BYTES: u64 = 1 << 20;
/// Hosts listed.
const LISTED: usize = 1000;

/// What a host has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNote {
    /// The last record that it serves by.
    pub applied: u64,
    /// Why functions do not serve on it, by `tenant/function`.
    pub failed: BTreeMap<String, String>,
}

/// What a host said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its id, new with every start.
    pub host: String,
    /// What it is called.
    pub name: String,
    /// The last record that it serves by.
    pub applied: u64,
    /// When it said so, by its own clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why functions do not serve on it, by `tenant/function`.
    #[serde(default)]
    pub failed: BTreeMap<String, String>,
}

impl Registry {
    /// This host's id among others, new with every start.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Says how this host stands. It is written while the registry is followed: soon, and then every 30 s.
    pub fn announce(&self, note: HostNote) {
        self.note.send_if_modified(|before| {
            let new = *before != note;
            *before = note;
            new
        });
    }

    /// What hosts said within the last 90 s, by the store's clock and this host's; sorted by name.
    pub async fn hosts(&self) -> Result<Vec<HostStatus>, RegistryError> {
        let mut hosts = Vec::new();
        let mut listed = self.store.list(HOSTS);
        while let Some(entry) = listed.try_next().await? {
            if age(&entry) > AWAY || hosts.len() >= LISTED {
                continue;
            }
            // Deleted meanwhile, or written by something else: not worth failing for.
            if let Some(host) = said(&self.store, &entry.location).await? {
                hosts.push(host);
            }
        }
        hosts.sort_by(|a: &HostStatus, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        Ok(hosts)
    }

    /// Writes the note down.
    pub(super) async fn speak(&self) -> Result<(), RegistryError> {
        let HostNote { applied, failed } = self.note.borrow().clone();
        let failed = failed.iter().take(FAILED).map(|(function, reason)| {
            (bounds::clipped(function, 2 * bounds::LABEL_BYTES), bounds::clipped(reason, bounds::REASON_BYTES))
        });
        let status = HostStatus {
            host: self.host.clone(),
            name: self.config.host_name.clone().unwrap_or_else(|| self.host.clone()),
            applied,
            at_ms: now_ms(),
            failed: failed.collect(),
        };
        let text = serde_json::to_vec(&status).expect("texts and numbers are always JSON");
        self.store.write(&path(&self.host), Bytes::from(text)).await
    }

    /// Takes the note back: this host stops.
    pub(super) async fn fall_silent(&self) -> Result<(), RegistryError> {
        self.store.delete(&path(&self.host)).await
    }
}

fn path(host: &str) -> Path {
    Path::from(format!("{HOSTS}/{host}.json"))
}

async fn said(store: &Store, path: &Path) -> Result<Option<HostStatus>, RegistryError> {
    match store.read(path, NOTE_BYTES).await {
        Err(RegistryError::TooLarge { .. }) => Ok(None),
        text => Ok(text?.and_then(|text| serde_json::from_slice(&text).ok())),
    }
}

/// How long ago the object was written: its time is the store's, so hosts' clocks matter only as far as this one's.
pub(super) fn age(entry: &ObjectMeta) -> Duration {
    let written_ms = u64::try_from(entry.last_modified.timestamp_millis()).unwrap_or(0);
    Duration::from_millis(now_ms().saturating_sub(written_ms))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[tokio::test]
    async fn hosts_read_each_others_notes() {
        let folder = tempfile::tempdir().unwrap();
        let named = |name: &str| Config { host_name: Some(name.into()), ..Config::default() };
        let one = Registry::open(&named("one"), folder.path()).await.unwrap();
        let two = Registry::open(&named("two"), folder.path()).await.unwrap();
        let failed = BTreeMap::from([("acme/rank".to_owned(), "r".repeat(10_000))]);
        two.announce(HostNote { applied: 7, failed });
        two.speak().await.unwrap();
        one.speak().await.unwrap();
        one.store.write(&Path::from("hosts/zz.json"), Bytes::from_static(b"not a note")).await.unwrap();
        let hosts = one.hosts().await.unwrap();
        let seen: Vec<_> = hosts.iter().map(|host| (&host.name[..], host.applied)).collect();
        assert_eq!(seen, [("one", 0), ("two", 7)]);
        assert_eq!(hosts[1].failed["acme/rank"].len(), bounds::REASON_BYTES);
        two.fall_silent().await.unwrap();
        assert_eq!(one.hosts().await.unwrap().len(), 1);
    }
}
