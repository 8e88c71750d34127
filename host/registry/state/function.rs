//! A function: its revisions, where its traffic goes and went, and what happened to it. Owns the rules of revisions and
//! traffic; refuses to know other functions and quotas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::super::{
    change::{BlobRef, Change, Record},
    error::Refused,
    split::Split,
};

/// Splits to go back to.
const PREVIOUS: usize = 8;
/// Events told.
const HISTORY: usize = 100;
/// Newest revisions kept, whether traffic names them or not.
const NEWEST: usize = 16;

/// A function as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionState {
    /// The newest revision's number, kept or not.
    pub last_number: u64,
    /// Those kept: what traffic and `previous` name, and the newest 16.
    pub revisions: BTreeMap<u64, RevisionRecord>,
    /// Who serves; nobody if none was ever promoted.
    pub traffic: Option<Split>,
    /// Where traffic went before, the newest last; at most 8.
    pub previous: Vec<Split>,
    /// What happened, the newest last; at most 100.
    pub history: VecDeque<Event>,
}

/// A revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// Its number, from 1.
    pub number: u64,
    /// Names all it is made of.
    pub digest: String,
    /// The manifest's text.
    pub manifest: BlobRef,
    /// The component.
    pub component: BlobRef,
    /// The record that added it.
    pub added_n: u64,
    /// When.
    pub added_ms: u64,
    /// Who added it.
    pub by: String,
    /// Why it must not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// Something that happened to a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The record.
    pub n: u64,
    /// When.
    pub at_ms: u64,
    /// Who did it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What, in words.
    pub what: String,
}

impl FunctionState {
    /// A function without revisions, whose numbers go on after `last_number`.
    pub(super) fn after(last_number: u64) -> Self {
        Self { last_number, ..Self::default() }
    }

    /// The kept revision with this digest, the newest if there are several.
    pub fn with_digest(&self, digest: &str) -> Option<&RevisionRecord> {
        self.revisions.values().rev().find(|revision| revision.digest == digest)
    }

    /// The blobs of the revisions kept.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.revisions.values().flat_map(|revision| [&revision.manifest, &revision.component])
    }

    /// Changes it. What it becomes after a refusal is of no use.
    pub(super) fn change(&mut self, record: &Record) -> Result<(), Refused> {
        let what = match &record.change {
            Change::RevisionAdded { .. } => self.add_revision(record)?,
            Change::TrafficSet { split, clears_quarantine, .. } => {
                self.set_traffic(split, *clears_quarantine)?;
                format!("traffic to {}", split.in_words())
            }
            Change::RolledBack { .. } => format!("rolled back to {}", self.roll_back()?.in_words()),
            Change::Quarantined { revision, reason, .. } => self.quarantine(*revision, reason)?,
            _ => return Err(Refused::invalid("this change does not concern a function's revisions")),
        };
        self.forget_old();
        let Record { n, at_ms, by, why, .. } = record;
        self.history.push_back(Event { n: *n, at_ms: *at_ms, by: by.clone(), why: why.clone(), what });
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        Ok(())
    }

    fn add_revision(&mut self, record: &Record) -> Result<String, Refused> {
        let Change::RevisionAdded { number, manifest, component, digest, traffic, .. } = &record.change else {
            return Err(Refused::invalid("this change adds no revision"));
        };
        let number = *number;
        if self.last_number.checked_add(1) != Some(number) {
            let last = self.last_number;
            return Err(Refused::conflict(format!("revision {number} cannot follow revision {last}")));
        }
        if let Some(same) = self.with_digest(digest) {
            return Err(Refused::conflict(format!("revision {} is the same", same.number)));
        }
        let revision = RevisionRecord {
            number,
            digest: digest.clone(),
            manifest: manifest.clone(),
            component: component.clone(),
            added_n: record.n,
            added_ms: record.at_ms,
            by: record.by.clone(),
            quarantined: None,
        };
        self.revisions.insert(number, revision);
        self.last_number = number;
        let Some(split) = traffic else { return Ok(format!("revision {number} added")) };
        self.set_traffic(split, false)?;
        Ok(format!("revision {number} added, traffic to {}", split.in_words()))
    }

    fn set_traffic(&mut self, split: &Split, clears_quarantine: bool) -> Result<(), Refused> {
        for number in split.revisions() {
            let revision = self.revision(number)?;
            if clears_quarantine {
                revision.quarantined = None;
            }
            if let Some(reason) = &revision.quarantined {
                return Err(Refused::conflict(format!("revision {number} is in quarantine: {reason}")));
            }
        }
        if self.traffic.as_ref() == Some(split) {
            return Ok(());
        }
        if let Some(before) = self.traffic.replace(split.clone()) {
            self.previous.push(before);
        }
        if self.previous.len() > PREVIOUS {
            self.previous.remove(0);
        }
        Ok(())
    }

    /// Back to the newest split that can serve. Newer ones that cannot are forgotten: another step back goes further.
    fn roll_back(&mut self) -> Result<&Split, Refused> {
        let Some(place) = self.previous.iter().rposition(|split| self.usable(split)) else {
            return Err(Refused::conflict("there is nothing to go back to"));
        };
        let split = self.previous.swap_remove(place);
        self.previous.truncate(place);
        Ok(self.traffic.insert(split))
    }

    fn quarantine(&mut self, number: u64, reason: &str) -> Result<String, Refused> {
        let revision = self.revision(number)?;
        if revision.quarantined.is_some() {
            return Err(Refused::conflict(format!("revision {number} is in quarantine already")));
        }
        revision.quarantined = Some(reason.to_owned());
        let mut what = format!("revision {number} quarantined: {reason}");
        if let Some(split) = self.traffic.take_if(|split| split.names(number)) {
            self.traffic = split.without(number);
            let serving = match &self.traffic {
                Some(rest) => rest,
                None => self.roll_back()?,
            };
            what = format!("{what}; traffic to {}", serving.in_words());
        }
        Ok(what)
    }

    fn usable(&self, split: &Split) -> bool {
        let usable = |number| self.revisions.get(&number).is_some_and(|revision| revision.quarantined.is_none());
        split.revisions().all(usable)
    }

    fn revision(&mut self, number: u64) -> Result<&mut RevisionRecord, Refused> {
        let missing = || Refused::not_found(format!("there is no revision {number}"));
        self.revisions.get_mut(&number).ok_or_else(missing)
    }

    fn forget_old(&mut self) {
        let named: BTreeSet<u64> =
            self.traffic.iter().chain(&self.previous).flat_map(|split| split.revisions().collect::<Vec<_>>()).collect();
        let oldest = self.revisions.keys().rev().nth(NEWEST - 1).copied().unwrap_or(0);
        self.revisions.retain(|number, _| *number >= oldest || named.contains(number));
    }
}
