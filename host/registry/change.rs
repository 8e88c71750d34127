//! What can change, and the record of a change as it lies in the log. Owns their form and what makes no sense whatever
//! the state; refuses to know the state and the store. A record once written is read for ever: forms only grow.

use serde::{Deserialize, Serialize};

use super::{bounds, error::RegistryError, key::KeyRecord, settings::TenantSettings, split::Split};

/// Bytes of a record's mark: enough that no two records ever have the same one.
const MARK_BYTES: usize = 12;

/// Content in the store, by what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobRef {
    /// BLAKE3 of the content, in hexadecimal.
    pub digest: String,
    /// Its length.
    pub bytes: u64,
}

impl BlobRef {
    /// What names this content.
    pub fn of(content: &[u8]) -> Self {
        Self { digest: blake3::hash(content).to_hex().to_string(), bytes: content.len() as u64 }
    }

    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        bounds::digest("the digest of a blob", &self.digest)?;
        if self.bytes > bounds::BLOB_BYTES {
            return Err(format!("a blob has at most {} bytes, not {}", bounds::BLOB_BYTES, self.bytes));
        }
        Ok(())
    }
}

/// Who makes a change, and why.
#[derive(Clone, Debug)]
pub struct Author {
    /// A key's id, `operator` or `host`.
    pub by: String,
    /// What they say about it; cut if it is long.
    pub why: Option<String>,
}

/// A change as it lies in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place; the first is 1.
    pub n: u64,
    /// When, by the clock of the host that wrote it, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who made it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Random: by it a host knows its own record again when the store's answer was lost.
    pub mark: String,
    /// The change.
    pub change: Change,
}

/// Everything that can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum Change {
    /// Settings of a tenant, all of them.
    TenantSet { tenant: String, settings: TenantSettings },
    /// A tenant goes, with its keys; its functions went before.
    TenantRemoved { tenant: String },
    /// A new key.
    KeyAdded { key: KeyRecord },
    /// A key ends now.
    KeyRevoked { id: String },
    /// A new key in an old one's place, which goes on until a time.
    KeyRotated { old: String, old_expires_ms: u64, key: KeyRecord },
    /// A new revision; with `traffic`, promoted in the same step.
    RevisionAdded {
        tenant: String,
        function: String,
        number: u64,
        manifest: BlobRef,
        component: BlobRef,
        digest: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traffic: Option<Split>,
    },
    /// Traffic goes elsewhere.
    TrafficSet {
        tenant: String,
        function: String,
        split: Split,
        #[serde(default)]
        clears_quarantine: bool,
    },
    /// Traffic goes back to where it went before.
    RolledBack { tenant: String, function: String },
    /// A revision is not to serve.
    Quarantined { tenant: String, function: String, revision: u64, reason: String },
    /// A function goes with its revisions; their numbers do not come back.
    FunctionRemoved { tenant: String, function: String },
}

/// The kinds this host knows.
const KINDS: [&str; 10] = [
    "tenant-set",
    "tenant-removed",
    "key-added",
    "key-revoked",
    "key-rotated",
    "revision-added",
    "traffic-set",
    "rolled-back",
    "quarantined",
    "function-removed",
];

impl Change {
    /// Quarantine with a reason that a host found, which may be of any length.
    pub fn quarantined(tenant: &str, function: &str, revision: u64, reason: &str) -> Self {
        let reason = if reason.trim().is_empty() { "no reason was given" } else { reason };
        let reason = bounds::clipped(reason, bounds::REASON_BYTES);
        Self::Quarantined { tenant: tenant.into(), function: function.into(), revision, reason }
    }

    /// What is wrong with it, whatever the state.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::TenantSet { tenant, settings } => {
                bounds::name("tenant", tenant)?;
                settings.validate()
            }
            Self::TenantRemoved { tenant } => bounds::name("tenant", tenant),
            Self::KeyAdded { key } => key.validate(),
            Self::KeyRevoked { id } => bounds::name("key", id),
            Self::KeyRotated { old, key, .. } => {
                bounds::name("key", old)?;
                key.validate()
            }
            Self::RevisionAdded { manifest, component, digest, traffic, .. } => {
                self.names_a_function()?;
                manifest.validate()?;
                component.validate()?;
                bounds::label("the digest of a revision", digest, bounds::LABEL_BYTES)?;
                traffic.as_ref().map_or(Ok(()), Split::validate)
            }
            Self::TrafficSet { split, .. } => {
                self.names_a_function()?;
                split.validate()
            }
            Self::Quarantined { reason, .. } => {
                self.names_a_function()?;
                bounds::label("the reason of a quarantine", reason, bounds::REASON_BYTES)
            }
            Self::RolledBack { .. } | Self::FunctionRemoved { .. } => self.names_a_function(),
        }
    }

    /// The tenant and function it concerns, if it concerns a function.
    pub fn function(&self) -> Option<(&str, &str)> {
        match self {
            Self::RevisionAdded { tenant, function, .. }
            | Self::TrafficSet { tenant, function, .. }
            | Self::RolledBack { tenant, function }
            | Self::Quarantined { tenant, function, .. }
            | Self::FunctionRemoved { tenant, function } => Some((tenant, function)),
            _ => None,
        }
    }

    fn names_a_function(&self) -> Result<(), String> {
        let (tenant, function) = self.function().unwrap_or_default();
        bounds::name("tenant", tenant)?;
        bounds::name("function", function)
    }
}

impl Record {
    /// A record of a change that is about to be made.
    pub(super) fn new(n: u64, at_ms: u64, author: &Author, change: Change) -> Result<Self, RegistryError> {
        let why = author.why.as_deref().map(|why| bounds::clipped(why, bounds::REASON_BYTES));
        Ok(Self { n, at_ms, by: author.by.clone(), why, mark: random_hex(MARK_BYTES)?, change })
    }

    /// What is wrong with it, whatever the state.
    pub(super) fn validate(&self) -> Result<(), String> {
        bounds::label("who makes a change", &self.by, bounds::BY_BYTES)?;
        self.change.validate()
    }

    /// Reads record `n`. A kind that is not known was written by a newer host, and going on without it would be wrong.
    pub(super) fn read(n: u64, text: &[u8]) -> Result<Self, RegistryError> {
        let broken = |detail: String| RegistryError::Record { n, detail };
        let record = match serde_json::from_slice::<Self>(text) {
            Ok(record) => record,
            Err(error) => return Err(broken(newer(text).unwrap_or_else(|| error.to_string()))),
        };
        if record.n != n {
            return Err(broken(format!("it says that it is record {}", record.n)));
        }
        Ok(record)
    }
}

/// What to say about a record of a kind that this host does not know.
fn newer(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Outline {
        change: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let Outline { change: Kind { kind } } = serde_json::from_slice(text).ok()?;
    let kind = bounds::clipped(&kind, bounds::LABEL_BYTES);
    (!KINDS.contains(&&kind[..])).then(|| format!("`{kind}` was written by a newer host: update this one"))
}

/// Random bytes in hexadecimal.
pub(super) fn random_hex(bytes: usize) -> Result<String, RegistryError> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|source| RegistryError::Random { source })?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
