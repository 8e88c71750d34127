//! The object store: opened, read within bounds, written so that what is acknowledged stays. Owns durability; refuses
//! to know what the objects mean.
//!
//! `LocalFileSystem::with_fsync` syncs a file before it is published by link or rename and the folder afterwards, and
//! new folders up to the first that was there. What it cannot know is whether a folder that it finds was synced by
//! whoever made it and died: so all folders are made and synced here, before anything is written.

use std::os::unix::fs::PermissionsExt as _;
use std::{
    fs, io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};

use super::{
    config::{Config, S3Config, bucket},
    error::RegistryError,
};

/// The folder below the host's data.
const FOLDER: &str = "registry";
/// What lies in the store.
pub(super) const LOG: &str = "log";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const BLOBS: &str = "blobs";
pub(super) const HOSTS: &str = "hosts";
/// Created by the first host that opens a shared store, never read.
const PROBE: &str = "created-once";
/// A store that is silent for so long is away; a deployment waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Retries within the client, before the caller hears of it.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Two lines of a key file.
const KEY_FILE_BYTES: usize = 4096;

/// What became of a record that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// It is there for good.
    Created,
    /// Another one was there, or another host is creating it.
    Taken,
}

/// The store, and the folder it lies in if it lies in one.
#[derive(Clone, Debug)]
pub(super) struct Store {
    objects: Arc<dyn ObjectStore>,
    pub(super) folder: Option<PathBuf>,
}

impl Store {
    pub(super) async fn open(config: &Config, folder: &FilePath) -> Result<Self, RegistryError> {
        match &config.url {
            Some(url) => shared(url, &config.s3)?.that_creates_once().await,
            None => {
                let folder = folder.join(FOLDER);
                let opened = tokio::task::spawn_blocking(move || local(folder)).await;
                opened.map_err(|stopped| RegistryError::Folder { source: io::Error::other(stopped) })?
            }
        }
    }

    /// Itself, if it does not overwrite what was to be created: some stores take no notice of `If-None-Match`, and on
    /// those hosts would lose each other's changes.
    async fn that_creates_once(self) -> Result<Self, RegistryError> {
        for _ in 0..2 {
            let created = self.create(&Path::from(PROBE), Vec::new()).await;
            if created.map_err(|source| RegistryError::store("take a first object", source))? == Creation::Taken {
                return Ok(self);
            }
        }
        Err(RegistryError::Config("the store at url overwrites what is to be created once: it cannot be shared".into()))
    }

    /// The object, if it is there; refused if it is longer than `most_bytes`.
    pub(super) async fn read(&self, path: &Path, most_bytes: u64) -> Result<Option<Bytes>, RegistryError> {
        let failed = |source| RegistryError::store(format!("give {path}"), source);
        let found = match self.objects.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed)?,
        };
        if found.meta.size > most_bytes {
            return Err(RegistryError::TooLarge { what: path.to_string(), most_bytes });
        }
        found.bytes().await.map(Some).map_err(failed)
    }

    /// Creates the object, unless it is there.
    pub(super) async fn create(&self, path: &Path, text: Vec<u8>) -> Result<Creation, object_store::Error> {
        match self.objects.put_opts(path, PutPayload::from(text), PutMode::Create.into()).await {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::Taken),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn write(&self, path: &Path, content: Bytes) -> Result<(), RegistryError> {
        let written = self.objects.put(path, PutPayload::from(content)).await;
        written.map(drop).map_err(|source| RegistryError::store(format!("take {path}"), source))
    }

    /// What the store says about the object, if it is there.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, RegistryError> {
        match self.objects.head(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(Some).map_err(|source| RegistryError::store(format!("describe {path}"), source)),
        }
    }

    /// Gone is gone, whoever did it.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), RegistryError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(RegistryError::store(format!("delete {path}"), source)),
        }
    }

    pub(super) fn list(&self, below: &str) -> BoxStream<'static, Result<ObjectMeta, RegistryError>> {
        let below = Path::from(below);
        let listed = self.objects.list(Some(&below));
        listed.map(move |entry| entry.map_err(|source| RegistryError::store(format!("list {below}"), source))).boxed()
    }
}

fn local(folder: PathBuf) -> Result<Store, RegistryError> {
    prepare(&folder).map_err(|source| RegistryError::Folder { source })?;
    let opened = LocalFileSystem::new_with_prefix(&folder);
    let objects = opened.map_err(|source| RegistryError::store("open its folder", source))?.with_fsync(true);
    Ok(Store { objects: Arc::new(objects), folder: Some(folder) })
}

/// Makes all folders and syncs what names them.
fn prepare(folder: &FilePath) -> io::Result<()> {
    let blobs = folder.join(BLOBS);
    for below in [LOG, SNAPSHOTS, HOSTS] {
        fs::create_dir_all(folder.join(below))?;
    }
    for first in 0..=u8::MAX {
        fs::create_dir_all(blobs.join(format!("{first:02x}")))?;
    }
    // Manifests may say what others on the machine should not read.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    // An empty parent is the working folder.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
    let grandparent = parent.parent().filter(|parent| !parent.as_os_str().is_empty());
    for synced in [&blobs, folder, parent].into_iter().chain(grandparent) {
        fs::File::open(synced)?.sync_all()?;
    }
    Ok(())
}

fn shared(url: &str, config: &S3Config) -> Result<Store, RegistryError> {
    // The client takes the process's provider; one that was set before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (bucket, prefix) = bucket(url).map_err(RegistryError::Config)?;
    let backoff = BackoffConfig::default();
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    let client = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_client_options(client.with_allow_http(config.allow_http));
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(file) = &config.access_key_file {
        let (id, secret) = access_key(file).map_err(RegistryError::Config)?;
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    let objects = builder.build().map_err(|source| RegistryError::store("be set up", source))?;
    let objects: Arc<dyn ObjectStore> = match prefix {
        "" => Arc::new(objects),
        prefix => Arc::new(PrefixStore::new(objects, prefix)),
    };
    Ok(Store { objects, folder: None })
}

fn access_key(file: &FilePath) -> Result<(String, String), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("s3.access_key_file cannot be read: {error}"))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(id), Some(secret), None) if text.len() <= KEY_FILE_BYTES => Ok((id.to_owned(), secret.to_owned())),
        _ => Err("s3.access_key_file must have two lines: the access key's id and its secret".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::default(), folder.path()).await.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn what_is_there_is_not_overwritten_by_creation() {
        let (_folder, store) = store().await;
        let path = Path::from("log/1.json");
        assert_eq!(store.create(&path, b"one".to_vec()).await.unwrap(), Creation::Created);
        assert_eq!(store.create(&path, b"two".to_vec()).await.unwrap(), Creation::Taken);
        assert_eq!(store.read(&path, 3).await.unwrap().unwrap(), "one");
        let error = store.read(&path, 2).await.unwrap_err().to_string();
        assert_eq!(error, "the registry's log/1.json has more than 2 bytes");
    }

    #[tokio::test]
    async fn what_is_gone_is_gone() {
        let (_folder, store) = store().await;
        let path = Path::from("hosts/a.json");
        assert!(store.head(&path).await.unwrap().is_none() && store.read(&path, 9).await.unwrap().is_none());
        store.write(&path, Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(store.head(&path).await.unwrap().unwrap().size, 1);
        store.delete(&path).await.unwrap();
        store.delete(&path).await.unwrap();
        assert!(store.head(&path).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_store_is_probed_again_and_again() {
        let (_folder, store) = store().await;
        let store = store.that_creates_once().await.unwrap();
        store.that_creates_once().await.unwrap();
    }

    #[test]
    fn a_key_file_has_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        for (text, good) in [("id\nsecret\n", true), ("id\n", false), ("", false), ("a\nb\nc\n", false)] {
            fs::write(&file, text).unwrap();
            assert_eq!(access_key(&file).is_ok(), good, "{text:?}");
        }
        let error = access_key(&folder.path().join("no")).unwrap_err();
        assert!(error.starts_with("s3.access_key_file cannot be read"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_told_without_its_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FOLDER), "in the way").unwrap();
        let error = Store::open(&Config::default(), folder.path()).await.unwrap_err();
        assert_eq!(error.to_string(), "the registry's folder cannot be used");
    }
}
