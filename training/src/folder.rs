//! One model's folder in a model repository: what lies where, whether it is up to date, and how it is replaced so that
//! a reader never sees half of it. Knows nothing of tensors. Why a record beside the model: exports take seconds and
//! `make` runs them every time, and modification times do not survive copies.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The version that an export writes; other versions in the folder are left alone.
const VERSION: &str = "1";
/// Says what a version was made from. The host ignores it.
const RECORD: &str = "made-from.json";
const MODULE: &str = "model.pt";
const MANIFEST: &str = "model.toml";

/// What a version was made from, and what came out.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Digest of everything that went in: program text and weights.
    recipe: String,
    /// Digest of the module, so that a damaged file is made again.
    module: String,
}

/// A model's place in a model repository.
pub(crate) struct Folder {
    home: PathBuf,
}

impl Folder {
    /// The folder of the model `name` in the repository `repository`. Nothing is created yet.
    pub(crate) fn new(repository: &Path, name: &str) -> Self {
        Self { home: repository.join(name) }
    }

    /// Where the model lies, for messages.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// True if the version there was made from `recipe` and is undamaged. An unreadable record counts as none.
    pub(crate) fn is_made_from(&self, recipe: &str) -> bool {
        let version = self.home.join(VERSION);
        let Ok(text) = fs::read(version.join(RECORD)) else { return false };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else { return false };
        record.recipe == recipe
            && self.home.join(MANIFEST).is_file()
            && digest_of(&version.join(MODULE)).is_ok_and(|digest| digest == record.module)
    }

    /// Replaces manifest and version. `module` writes the module to the path it is given; `beside` are further files of
    /// the version. Everything is written under another name first; the version comes last, by one rename.
    pub(crate) fn write(
        &self,
        recipe: &str,
        manifest: &str,
        beside: &[(&str, Vec<u8>)],
        module: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let partial = self.home.join(format!(".{VERSION}.partial"));
        remove(&partial)?;
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        let made = self.fill(&partial, recipe, beside, module).and_then(|()| self.publish(&partial, manifest));
        if made.is_err() {
            // The first error is the one worth reporting.
            let _ = remove(&partial);
        }
        made
    }

    fn fill(
        &self,
        partial: &Path,
        recipe: &str,
        beside: &[(&str, Vec<u8>)],
        module: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let file = partial.join(MODULE);
        module(&file)?;
        for (name, bytes) in beside {
            write(&partial.join(name), bytes)?;
        }
        let record = Record { recipe: recipe.to_owned(), module: digest_of(&file)? };
        write(&partial.join(RECORD), &serde_json::to_vec_pretty(&record)?)
    }

    fn publish(&self, partial: &Path, manifest: &str) -> anyhow::Result<()> {
        let unfinished = self.home.join(format!(".{MANIFEST}.partial"));
        write(&unfinished, manifest.as_bytes())?;
        rename(&unfinished, &self.home.join(MANIFEST))?;
        let version = self.home.join(VERSION);
        let old = self.home.join(format!(".{VERSION}.old"));
        remove(&old)?;
        if version.exists() {
            rename(&version, &old)?;
        }
        rename(partial, &version)?;
        remove(&old)
    }
}

/// A digest over several parts, each with its length so that no two lists collide.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// Reads a whole file; the error names it.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn digest_of(path: &Path) -> anyhow::Result<String> {
    Ok(digest(&[&read(path)?]))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tenon-training-{}-{name}", std::process::id()));
        remove(&folder).unwrap();
        folder
    }

    fn put(folder: &Folder, recipe: &str) -> anyhow::Result<()> {
        folder.write(recipe, "manifest", &[("tokenizer.json", b"{}".to_vec())], |file| write(file, b"module"))
    }

    #[test]
    fn what_was_written_is_up_to_date_until_something_changes() {
        let repository = scratch("record");
        let folder = Folder::new(&repository, "m");
        assert!(!folder.is_made_from("a"));
        put(&folder, "a").unwrap();
        assert!(folder.is_made_from("a"));
        assert!(!folder.is_made_from("b"));
        write(&repository.join("m/1/model.pt"), b"damaged").unwrap();
        assert!(!folder.is_made_from("a"));
        put(&folder, "a").unwrap();
        assert!(folder.is_made_from("a"));
        remove(&repository).unwrap();
    }

    #[test]
    fn a_failed_export_leaves_the_old_version() {
        let repository = scratch("failed");
        let folder = Folder::new(&repository, "m");
        put(&folder, "a").unwrap();
        assert!(folder.write("b", "other", &[], |_| anyhow::bail!("no")).is_err());
        assert!(folder.is_made_from("a"));
        let left: Vec<_> = fs::read_dir(folder.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        remove(&repository).unwrap();
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
