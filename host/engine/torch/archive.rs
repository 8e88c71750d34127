//! Archives of AOTInductor (`model.pt2`): what of them is unpacked, and what they tell of themselves.
//!
//! Owns where that goes and that it goes again, whatever becomes of it: libtorch's own loader has a place for it that nobody
//! can choose, leaves it there when loading fails, and would run a compiler for an archive without code. Refuses to judge
//! whether the code is for this machine.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
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
/// Read at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// An ELF file's table lies at its beginning.
const HEAD_BYTES: u64 = 64 << 10;
/// In that table: the entry that is about stacks, and the bit of it by which they can be run.
const STACKS: u32 = 0x6474_e551;
const RUN: u8 = 1;
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

    /// It has been opened: its code, which is mapped, need not lie there any more, so that who is killed leaves little behind.
    /// All of it goes but where the rest is read later.
    pub(super) fn read(self, rest_later: bool) -> Option<Self> {
        if let Err(error) = std::fs::remove_file(&self.code) {
            tracing::warn!(%error, file = %self.code.display(), "what was unpacked could not be removed");
        }
        rest_later.then_some(self)
    }

    /// What it tells under a key; empty where it tells nothing.
    pub(super) fn tells(&self, key: &str) -> &str {
        self.told.get(key).map_or("", String::as_str)
    }
}

/// Unpacks a file into a folder among the temporary ones.
pub(super) fn unpack(file: &Path) -> Result<Unpacked, BackendError> {
    let source = File::open(file).map_err(|error| broken(&error))?;
    let mut room = source.metadata().map_or(0, |metadata| metadata.len()) + GROWN_BYTES;
    let mut archive = ZipArchive::new(source).map_err(|error| broken(&error))?;
    let folder = tempfile::Builder::new().prefix("tenon-package-").tempdir().map_err(|error| no_room(&error))?;
    let mut names: Vec<String> = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(&error))?;
        let Some(name) = entry.name().split_once(INSIDE).map(|(_, name)| name.to_owned()) else { continue };
        if name.is_empty() || name == ".." || name.contains(['/', '\\', '\0']) {
            return Err(broken(&format!("`{}` is no name of a file in it", name.escape_debug())));
        }
        if names.contains(&name) {
            return Err(broken(&format!("`{name}` is in it twice")));
        }
        let size = entry.size();
        room = room.checked_sub(size).ok_or_else(|| broken(&"it says that it has more than it can have"))?;
        let copied = copy(&mut entry.by_ref().take(size + 1), &folder.path().join(&name))?;
        if copied != size {
            return Err(broken(&format!("`{name}` has {copied} bytes and should have {size}")));
        }
        names.push(name);
    }
    let code = names.iter().find(|name| name.ends_with(CODE));
    let code = code.ok_or_else(|| broken(&format!("it has no {CODE} in {INSIDE}: it is no package of AOTInductor")))?;
    let place = folder.path().join(code);
    forbid_running_stacks(&place).map_err(|error| no_room(&error))?;
    let told = folder.path().join(format!("{}{TOLD}", code.trim_end_matches(CODE)));
    let told = std::fs::read(told).map_err(|_| broken(&"it does not tell what it was compiled for"))?;
    let told = serde_json::from_slice(&told).map_err(|error| broken(&error))?;
    Ok(Unpacked { code: place, folder, told })
}

/// It is the archive's fault.
fn broken(error: &dyn std::fmt::Display) -> BackendError {
    BackendError::threw(format!("it cannot be read: {error}"))
}

/// It is the fault of where it goes.
fn no_room(error: &io::Error) -> BackendError {
    let folder = std::env::temp_dir();
    BackendError::threw(format!("it cannot be unpacked into {}: {error}; TMPDIR names another", folder.display()))
}

/// Writes a new file, and tells how many bytes it has. By hand, because it matters which side an error is of.
fn copy(source: &mut impl io::Read, to: &Path) -> Result<u64, BackendError> {
    let mut target = File::create_new(to).map_err(|error| no_room(&error))?;
    let (mut block, mut copied) = (vec![0; BLOCK_BYTES], 0);
    loop {
        match source.read(&mut block).map_err(|error| broken(&error))? {
            0 => return Ok(copied),
            length => {
                target.write_all(&block[..length]).map_err(|error| no_room(&error))?;
                copied += length as u64;
            }
        }
    }
}

/// PyTorch's packages ask for stacks that can be run, because their weights come from an assembler's file that does not say
/// otherwise. A loader before glibc 2.41 then makes all stacks of the process so, and a later one refuses. Nothing in them
/// needs it.
fn forbid_running_stacks(code: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(code)?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
    match flags_of_stacks(&head) {
        Some(at) => file.write_all_at(&[head[at] & !RUN], at as u64),
        None => Ok(()),
    }
}

/// Where a 64-bit ELF file of this machine's order says what stacks it wants; `None` where it says nothing.
fn flags_of_stacks(elf: &[u8]) -> Option<usize> {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let (size, count) = (short(54)?, short(56)?);
    let entries = (0..count).map_while(|index| table.checked_add(index * size));
    let stacks = entries.into_iter().find(|at| word(*at) == Some(STACKS))?;
    word(stacks + 4).map(|_| stacks + 4)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(twice, "it cannot be read: `a` is in it twice");
    }

    #[test]
    fn stacks_are_not_to_be_run() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 2);
        elf[64] = 1;
        elf[120..124].copy_from_slice(&STACKS.to_le_bytes());
        elf[124] = 7;
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &elf).unwrap();
        forbid_running_stacks(file.path()).unwrap();
        elf[124] = 6;
        assert_eq!(std::fs::read(file.path()).unwrap(), elf);
        assert_eq!(flags_of_stacks(&elf[..123]), None, "it is cut off");
        elf[32..40].fill(0xff);
        assert_eq!(flags_of_stacks(&elf), None, "its table lies nowhere");
        assert_eq!(flags_of_stacks(b"text"), None);
    }

    #[test]
    fn damaged_bytes_are_found() {
        let file = archive(&[("m/data/aotinductor/model/abc.wrapper.so", "some code that is read")]);
        let mut bytes = std::fs::read(file.path()).unwrap();
        let at = bytes.windows(4).position(|window| window == b"some").unwrap();
        bytes[at] ^= 1;
        std::fs::write(file.path(), &bytes).unwrap();
        let said = unpack(file.path()).err().unwrap().detail;
        assert_eq!(said, "it cannot be read: Invalid checksum");
        std::fs::write(file.path(), &bytes[..bytes.len() / 2]).unwrap();
        assert!(unpack(file.path()).err().unwrap().detail.starts_with("it cannot be read: "));
    }
}
