//! Archives of AOTInductor (`model.pt2`): what of them is unpacked, and what they tell of themselves.
//!
//! Owns where that goes and that it goes again, whatever becomes of it: libtorch's own loader has a place for it that nobody
//! can choose, leaves it there when loading fails, and would run a compiler for an archive without code. Refuses to judge
//! whether the code is for this machine.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::engine::BackendError;

/// What an archive's model is called, which is PyTorch's own choice where nobody makes another.
const INSIDE: &str = "data/aotinductor/model/";
const CODE: &str = ".so";
/// Beside the code, named after it.
const TOLD: &str = "_metadata.json";
/// What is stored does not grow; beyond this it is no archive of PyTorch's.
const GROWN_BYTES: u64 = 16 << 20;

/// An archive's files, for as long as this lives.
pub(super) struct Unpacked {
    folder: TempDir,
    /// The model's code.
    pub(super) code: PathBuf,
    told: BTreeMap<String, String>,
}

impl Unpacked {
    /// Where its files lie; code for GPUs is read from there when it is first run.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it tells under a key; empty where it tells nothing.
    pub(super) fn tells(&self, key: &str) -> &str {
        self.told.get(key).map_or("", String::as_str)
    }
}

/// Unpacks a file into a folder among the temporary ones.
pub(super) fn unpack(file: &Path) -> Result<Unpacked, BackendError> {
    let broken = |error: &dyn std::fmt::Display| BackendError::threw(format!("it cannot be read: {error}"));
    let no_room = |error: io::Error| {
        let folder = std::env::temp_dir();
        BackendError::threw(format!("it cannot be unpacked into {}: {error}; TMPDIR names another", folder.display()))
    };
    let source = File::open(file).map_err(|error| broken(&error))?;
    let mut room = source.metadata().map_or(0, |metadata| metadata.len()) + GROWN_BYTES;
    let mut archive = ZipArchive::new(source).map_err(|error| broken(&error))?;
    let folder = tempfile::Builder::new().prefix("tenon-package-").tempdir().map_err(no_room)?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(&error))?;
        let Some((_, name)) = entry.name().split_once(INSIDE).map(|(before, name)| (before, name.to_owned())) else {
            continue;
        };
        if name.is_empty() || name == ".." || name.contains(['/', '\\', '\0']) {
            return Err(broken(&format!("`{}` is no name of a file in it", name.escape_debug())));
        }
        room = room.checked_sub(entry.size()).ok_or_else(|| broken(&"it says that it has more than it can have"))?;
        let mut target = File::create_new(folder.path().join(&name)).map_err(no_room)?;
        let size = entry.size();
        let copied = io::copy(&mut io::Read::take(&mut entry, size + 1), &mut target).map_err(no_room)?;
        if copied != size {
            return Err(broken(&format!("`{name}` has {copied} bytes and should have {size}")));
        }
        names.push(name);
    }
    let code = names.iter().find(|name| name.ends_with(CODE));
    let code = code.ok_or_else(|| broken(&format!("it has no {CODE} in {INSIDE}: it is no package of AOTInductor")))?;
    let told = folder.path().join(format!("{}{TOLD}", code.trim_end_matches(CODE)));
    let told = std::fs::read(told).map_err(|_| broken(&"it does not tell what it was compiled for"))?;
    let told = serde_json::from_slice(&told).map_err(|error| broken(&error))?;
    Ok(Unpacked { code: folder.path().join(code), folder, told })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;
    use zip::{ZipWriter, write::FileOptions};

    use super::*;

    fn archive(entries: &[(&str, &str)]) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        let mut writer = ZipWriter::new(file.reopen().unwrap());
        for (name, text) in entries {
            let stored = FileOptions::default().compression_method(zip::CompressionMethod::Stored);
            writer.start_file(*name, stored).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn refused(entries: &[(&str, &str)]) -> String {
        unpack(archive(entries).path()).err().unwrap().detail
    }

    #[test]
    fn the_models_files_are_unpacked_and_leave_with_it() {
        let told = r#"{"AOTI_DEVICE_KEY": "cpu"}"#;
        let file = archive(&[
            ("m/archive_format", "pt2"),
            ("m/data/aotinductor/model/abc.wrapper.so", "code"),
            ("m/data/aotinductor/model/abc.wrapper_metadata.json", told),
            ("m/data/aotinductor/model/k.kernel_metadata.json", "{}"),
            ("m/data/aotinductor/other/x.so", "another"),
        ]);
        let unpacked = unpack(file.path()).unwrap();
        assert_eq!((unpacked.tells("AOTI_DEVICE_KEY"), unpacked.tells("x")), ("cpu", ""));
        assert_eq!(std::fs::read_to_string(&unpacked.code).unwrap(), "code");
        let folder = unpacked.folder().to_owned();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        drop(unpacked);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_no_package_is_refused_in_words() {
        let said = refused(&[("m/data/aotinductor/model/abc.wrapper.cpp", "")]);
        assert!(said.ends_with("it is no package of AOTInductor"), "{said}");
        let code = ("m/data/aotinductor/model/abc.wrapper.so", "");
        assert!(refused(&[code]).ends_with("it does not tell what it was compiled for"));
        let said = refused(&[code, ("m/data/aotinductor/model/abc.wrapper_metadata.json", "[]")]);
        assert!(said.contains("it cannot be read: invalid type"), "{said}");
        for outside in ["../evil", "..", "sub/file", "a\\b", ""] {
            let said = refused(&[(&format!("m/data/aotinductor/model/{outside}"), "")]);
            assert!(said.contains("is no name of a file in it"), "{outside}: {said}");
        }
        let twice = refused(&[("m/data/aotinductor/model/a", ""), ("n/data/aotinductor/model/a", "")]);
        assert!(twice.contains("cannot be unpacked"), "{twice}");
    }

    #[test]
    fn damaged_bytes_are_found() {
        let file = archive(&[("m/data/aotinductor/model/abc.wrapper.so", "some code that is read")]);
        let mut bytes = std::fs::read(file.path()).unwrap();
        let at = bytes.windows(4).position(|window| window == b"some").unwrap();
        bytes[at] ^= 1;
        std::fs::write(file.path(), &bytes).unwrap();
        assert!(unpack(file.path()).is_err(), "its sum is another one");
        std::fs::write(file.path(), &bytes[..bytes.len() / 2]).unwrap();
        assert!(unpack(file.path()).err().unwrap().detail.starts_with("it cannot be read: "));
    }
}
