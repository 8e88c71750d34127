//! A model repository: a folder of models, each with `model.toml` and numbered versions. Owns what lies where; refuses
//! to know what is in the files, except for a model file's digest, by which its measured profile is found again.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    backend::Format,
    error::{EngineError, LoadError},
    manifest,
};

/// What may lie beside it.
const TOKENIZER_FILE: &str = "tokenizer.json";
/// Read at a time for the digest.
const DIGEST_BLOCK_BYTES: usize = 1 << 20;

/// A model's folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The folder's name.
    pub(super) name: String,
    /// The folder.
    pub(super) folder: PathBuf,
    /// The versions, ascending; the last one serves.
    pub(super) versions: Vec<u64>,
}

impl Found {
    /// Where the manifest lies.
    pub(super) fn manifest(&self) -> PathBuf {
        self.folder.join(manifest::FILE)
    }

    /// The folder of a version.
    pub(super) fn version(&self, version: u64) -> PathBuf {
        self.folder.join(version.to_string())
    }

    /// The model file of a version.
    pub(super) fn model_file(&self, version: u64, format: Format) -> PathBuf {
        self.version(version).join(format.file())
    }

    /// Names everything that a version is made of, its model file first: when one is another, the version is another.
    pub(super) fn digests(&self, version: u64, format: Format) -> Result<Vec<String>, LoadError> {
        let mut digests = vec![digest(&self.model_file(version, format))?, digest(&self.manifest())?];
        let tokenizer = self.version(version).join(TOKENIZER_FILE);
        if tokenizer.exists() {
            digests.push(digest(&tokenizer)?);
        }
        Ok(digests)
    }
}

/// Where models are unless the configuration names another folder.
pub(super) const DEFAULT_REPOSITORY: &str = "models";

/// The models of a repository by name. Hidden folders (half-written exports) and plain files are passed over; a folder
/// without a manifest is listed all the same, so that its failure can be told.
pub(super) fn scan(repository: &Path) -> Result<Vec<Found>, EngineError> {
    let broken = |source| EngineError::Repository { path: repository.into(), source };
    let mut found = Vec::new();
    let models = match folders(repository) {
        // The default need not be there: a host without models serves functions that need none.
        Err(error) if error.kind() == io::ErrorKind::NotFound && repository == Path::new(DEFAULT_REPOSITORY) => {
            tracing::warn!(
                "there is no folder `{DEFAULT_REPOSITORY}`: this host has no models; name another by --models"
            );
            return Ok(found);
        }
        models => models.map_err(broken)?,
    };
    for (name, folder) in models {
        let versions = folders(&folder).map_err(broken)?;
        let mut versions: Vec<u64> = versions.iter().filter_map(|(name, _)| version_number(name)).collect();
        versions.sort_unstable();
        found.push(Found { name, folder, versions });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Versions count from 1 and are written without leading zeros, so that every version has one spelling.
pub(super) fn version_number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|version: &u64| *version > 0 && version.to_string() == name)
}

fn folders(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
        if let Some(name) = name.filter(|_| path.is_dir()) {
            folders.push((name.to_owned(), path));
        }
    }
    Ok(folders)
}

/// The digest of a file, in hexadecimal.
pub(super) fn digest(file: &Path) -> Result<String, LoadError> {
    let read = |source| LoadError::Read { file: file.into(), source };
    let mut source = fs::File::open(file).map_err(read)?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; DIGEST_BLOCK_BYTES];
    loop {
        match source.read(&mut block).map_err(read)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            length => hasher.update(&block[..length]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_serves_and_half_written_folders_are_passed_over() {
        let repository = tempfile::tempdir().unwrap();
        for folder in ["minilm/2", "minilm/10", "minilm/.3.partial", "minilm/notes", "minilm/007", "empty", ".hidden/1"]
        {
            fs::create_dir_all(repository.path().join(folder)).unwrap();
        }
        fs::write(repository.path().join("README"), "").unwrap();
        let found = scan(repository.path()).unwrap();
        let names: Vec<_> = found.iter().map(|model| (&model.name[..], &model.versions[..])).collect();
        assert_eq!(names, [("empty", &[][..]), ("minilm", &[2, 10])]);
        assert!(found[1].model_file(10, Format::TorchScript).ends_with("minilm/10/model.pt"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = scan(Path::new("no/such/folder")).unwrap_err();
        assert_eq!(error.to_string(), "the model repository no/such/folder cannot be read");
        let error = digest(Path::new("no/model.pt")).unwrap_err();
        assert!(error.to_string().starts_with("no/model.pt: No such file"), "{error}");
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.pt");
        fs::write(&file, vec![7; DIGEST_BLOCK_BYTES + 1]).unwrap();
        let whole = blake3::hash(&vec![7; DIGEST_BLOCK_BYTES + 1]).to_hex().to_string();
        assert_eq!(digest(&file).unwrap(), whole);
    }
}
