//! What the sources were when they were looked at: names, sizes and times of change, and nothing of what is in them.
//!
//! A look at a folder's names costs a millisecond and works everywhere, also on network folders and in containers, where
//! notices of changes do not come.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::failure::{Exit, Failure};

/// More files than any plugin has: this is somebody's home.
const FILES_MAX: usize = 20_000;
/// Never sources: what cargo makes. Its lock file changes while it builds.
const MADE: [&str; 2] = ["target", "Cargo.lock"];

/// The sources at one instant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Snapshot {
    /// Looks at a folder, but for what is hidden, made, or named.
    pub(super) fn of(folder: &Path, ignored: &[PathBuf]) -> Result<Self, Failure> {
        let mut snapshot = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            // What vanishes while it is looked at is a change, and seen as one.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let made = MADE.iter().any(|made| name == *made);
                if made || name.to_string_lossy().starts_with('.') || ignored.contains(&path) {
                    continue;
                }
                // A link to a folder is not followed: it may lead back.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if let Ok(known) = fs::metadata(&path) {
                    snapshot.0.insert(path, (known.len(), known.modified().ok()));
                }
            }
            if snapshot.0.len() + folders.len() > FILES_MAX {
                return Err(Failure::new(Exit::Usage, format!("more than {FILES_MAX} files to watch"))
                    .hint("give the plugin's own folder"));
            }
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn sources_are_seen_and_what_is_made_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let ignored = [path("data")];
        let look = || Snapshot::of(root.path(), &ignored).unwrap();
        for folder in ["src", "target", ".git", "data"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::write(path("src/lib.rs"), "a").unwrap();
        let first = look();
        assert_eq!(first.0.len(), 1);
        for made in ["target/x", ".git/x", "data/x", "Cargo.lock", ".hidden"] {
            fs::write(path(made), "x").unwrap();
            assert_eq!(look(), first, "{made}");
        }
        fs::write(path("src/lib.rs"), "ab").unwrap();
        let second = look();
        assert_ne!(second, first, "another size");
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(path("src/lib.rs")).unwrap().set_modified(later).unwrap();
        let third = look();
        assert_ne!(third, second, "another time");
        fs::write(path("src/new.rs"), "").unwrap();
        assert_ne!(look(), third, "another name");
        fs::remove_file(path("src/new.rs")).unwrap();
        assert_eq!(look(), third);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.path(), path("src/around")).unwrap();
            assert_eq!(look().0.len(), 2, "a link is no folder");
        }
    }
}
