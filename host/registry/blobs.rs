//! Blobs: content by digest. Owns where they lie and that what is served is what was put; refuses to know manifests
//! from components.

use bytes::Bytes;
use object_store::path::Path;

use super::{
    Registry, bounds,
    change::BlobRef,
    error::{Refused, RegistryError},
    store::BLOBS,
};

/// Longer content is hashed away from the reactor: a millisecond's work.
const HASHED_IN_PLACE_BYTES: usize = 1 << 20;

/// Where a blob lies. The digest was validated, or nothing will be there.
pub(super) fn path(digest: &str) -> Path {
    let first = digest.get(..2).unwrap_or_default();
    Path::from(format!("{BLOBS}/{first}/{digest}"))
}

impl Registry {
    /// Stores content. What was there already is written again, so that it counts as new for the sweep.
    pub async fn put_blob(&self, content: Bytes) -> Result<BlobRef, RegistryError> {
        if content.len() as u64 > bounds::BLOB_BYTES {
            return Err(RegistryError::TooLarge { what: "blob".into(), most_bytes: bounds::BLOB_BYTES });
        }
        let blob = describe(content.clone()).await;
        // Not while the sweep of this host is between looking at a blob's age and deleting it.
        let _shared = self.sweeping.read().await;
        self.store.write(&path(&blob.digest), content).await?;
        Ok(blob)
    }

    /// Content by reference. What does not match its digest is never served.
    pub async fn blob(&self, blob: &BlobRef) -> Result<Bytes, RegistryError> {
        let missing = || RegistryError::Missing { digest: bounds::clipped(&blob.digest, bounds::LABEL_BYTES) };
        blob.validate().map_err(|_| missing())?;
        let damaged = || RegistryError::Damaged { digest: blob.digest.clone() };
        let content = match self.store.read(&path(&blob.digest), blob.bytes).await {
            Err(RegistryError::TooLarge { .. }) => return Err(damaged()),
            content => content?.ok_or_else(missing)?,
        };
        if describe(content.clone()).await != *blob {
            return Err(damaged());
        }
        Ok(content)
    }

    /// Whether content is in the store, as far as it can be told without reading it.
    pub(super) async fn check_blob(&self, blob: &BlobRef) -> Result<Result<(), Refused>, RegistryError> {
        if let Err(detail) = blob.validate() {
            return Ok(Err(Refused::invalid(detail)));
        }
        let found = self.store.head(&path(&blob.digest)).await?;
        let missing = || Refused::invalid(format!("the blob {} is not in the registry: put it first", blob.digest));
        Ok(found.filter(|found| found.size == blob.bytes).map(drop).ok_or_else(missing))
    }
}

async fn describe(content: Bytes) -> BlobRef {
    if content.len() <= HASHED_IN_PLACE_BYTES {
        return BlobRef::of(&content);
    }
    let there = content.clone();
    // The task neither panics nor is stopped, except with the whole runtime.
    tokio::task::spawn_blocking(move || BlobRef::of(&there)).await.unwrap_or_else(|_| BlobRef::of(&content))
}
