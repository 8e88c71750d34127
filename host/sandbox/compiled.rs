//! Compiled components that outlive the process: made by this host, kept in its data folder, and taken from nowhere else.
//!
//! Owns the files, the key that marks them as this host's own, and how much they may take. Refuses to know what a
//! component is for. Machine code is trusted completely by whoever runs it, so every file carries a keyed BLAKE3 of its
//! name and content under a key that only the host's user can read, and a file that was changed, cut short, put in the place
//! of another or brought from another host is compiled anew. It is read into memory before it is judged: what is mapped could still change, or be cut short,
//! behind the judge's back.

use std::{
    fs,
    hash::{Hash as _, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use wasmtime::{Engine, component::Component};

/// The file's name for the key.
const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
/// What files of this cache end with.
const SUFFIX: &str = "compiled";
/// What files end with until they are whole.
const PARTIAL: &str = "-partial";
/// How old one of these must be to be nobody's: in a handover another host still writes to this folder.
const PARTIAL_AGE: Duration = Duration::from_secs(600);
/// The largest compiled component that is kept: some ten times the largest component.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What all of them may take together; beyond it, those that were used longest ago go.
const MAX_BYTES: u64 = 4 << 30;

/// The folder of compiled components.
pub struct Compiled {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    /// Held while old ones are cleared away.
    clearing: Mutex<()>,
}

/// Why there is no folder for compiled components.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CompiledError {
    #[error("the folder for compiled components, {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no random bytes for the key of compiled components")]
    Random,
}

impl Compiled {
    /// Opens the folder, or makes it, with a key of its own.
    pub fn open(folder: &Path) -> Result<Self, CompiledError> {
        let path = folder.join(KEY_FILE);
        let failed = |source| CompiledError::File { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        clear_partial(folder).map_err(failed)?;
        let kept = fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0);
        let key = fs::read(&path).ok().filter(|_| kept).and_then(|bytes| bytes.try_into().ok());
        let key = match key {
            Some(key) => key,
            None => {
                // A key that others could read, or half of one: what it marked is not trusted any more.
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(|_| CompiledError::Random)?;
                put(&path, &[&key]).map_err(failed)?;
                key
            }
        };
        Ok(Self { folder: folder.into(), key, clearing: Mutex::default() })
    }

    /// The component that `wasm` compiles to, where it is there.
    pub(super) fn find(&self, engine: &Engine, wasm: &[u8]) -> Option<Component> {
        self.read(&self.path(engine, wasm)).and_then(|code| deserialize(engine, &code))
    }

    /// Whether there is a file for it, good or not.
    pub(super) fn has(&self, engine: &Engine, wasm: &[u8]) -> bool {
        self.path(engine, wasm).is_file()
    }

    /// Keeps what `wasm` was compiled to. Nothing depends on it: the next start is slower without.
    pub(super) fn keep(&self, engine: &Engine, wasm: &[u8], component: &Component) {
        let kept = component.serialize().map_err(io::Error::other).and_then(|code| {
            let path = self.path(engine, wasm);
            put(&path, &[&code, self.mark(&path, &code).as_bytes()])?;
            self.clear()
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "a compiled component could not be kept");
        }
    }

    /// Named after the component and after all that makes compiled code fit: wasmtime's release, its settings, the
    /// processor.
    fn path(&self, engine: &Engine, wasm: &[u8]) -> PathBuf {
        let mut compatibility = Blake3::default();
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        let (wasm, engine) = (blake3::hash(wasm).to_hex(), compatibility.finish());
        self.folder.join(format!("{wasm}-{engine:016x}.{SUFFIX}"))
    }

    /// What only this host could write under code. The name is in it: it says which component, settings and processor the
    /// code is for.
    fn mark(&self, path: &Path, code: &[u8]) -> blake3::Hash {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(code);
        hasher.finalize()
    }

    /// The code in a file of this host's own.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let file = fs::File::open(path).ok()?;
        let mut bytes = Vec::new();
        (&file).take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
        let end = bytes.len().checked_sub(blake3::OUT_LEN)?;
        let mark: [u8; blake3::OUT_LEN] = bytes[end..].try_into().ok()?;
        bytes.truncate(end);
        if self.mark(path, &bytes) != mark {
            tracing::warn!(file = ?path.file_name(), "a compiled component was not made by this host, and is made anew");
            return None;
        }
        // For whoever clears away; a clock that cannot be set costs a compilation later.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Keeps the folder within its bound.
    fn clear(&self) -> io::Result<()> {
        let Ok(_clearing) = self.clearing.try_lock() else { return Ok(()) };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == SUFFIX)
                && let Ok(meta) = entry.metadata()
            {
                files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), path));
            }
        }
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, bytes, path) in files {
            if total <= MAX_BYTES {
                break;
            }
            fs::remove_file(path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// Removes what hosts left that ended in the middle of a file: nobody would look at it again.
fn clear_partial(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let partial =
            path.extension().is_some_and(|extension| extension.as_encoded_bytes().ends_with(PARTIAL.as_bytes()));
        let modified = || fs::metadata(&path).and_then(|meta| meta.modified());
        let young = || modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < PARTIAL_AGE));
        if partial && !young() {
            // Another host may have done so, and what cannot be removed only takes room.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Writes a file whole under another name, so that no reader sees half of it.
fn put(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let partial = path.with_extension(format!("{}{PARTIAL}", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

#[expect(unsafe_code, reason = "machine code is trusted by whoever runs it; there is no safe way to load some")]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: the bytes carry the mark of this host's key, so `serialize` gave them in a process of this host, and
    // wasmtime itself checks that its release, settings and processor are the same.
    let component = unsafe { Component::deserialize(engine, code) };
    component.inspect_err(|error| tracing::warn!("a compiled component is made anew: {error:#}")).ok()
}

/// A hash that is the same in every process, as the standard library's is not promised to be.
#[derive(Default)]
struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with nothing in it: the magic number and the version of the form.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    /// Whether the component is in the folder; if not, it is put there.
    fn came_from(compiled: &Compiled, engine: &Engine) -> bool {
        let found = compiled.find(engine, EMPTY).is_some();
        if !found {
            compiled.keep(engine, EMPTY, &Component::new(engine, EMPTY).unwrap());
        }
        found
    }

    fn the_file(folder: &Path) -> PathBuf {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut found = files.filter(|path| path.extension().is_some_and(|it| it == SUFFIX));
        let file = found.next().unwrap();
        assert!(found.next().is_none());
        file
    }

    #[test]
    fn what_this_host_compiled_is_there_the_next_time_and_nothing_else() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        assert!(!came_from(&Compiled::open(folder.path()).unwrap(), &engine));
        let again = Compiled::open(folder.path()).unwrap();
        assert!(came_from(&again, &engine));
        let file = the_file(folder.path());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // Changed, cut short, empty.
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        changed[100] ^= 1;
        for other in [&changed, &whole[..whole.len() - 1], &[]] {
            fs::write(&file, other).unwrap();
            assert!(!came_from(&again, &engine), "{} bytes", other.len());
            assert!(came_from(&again, &engine), "it was made anew");
        }
        // Made by another host.
        let (foreign, mine) = (tempfile::tempdir().unwrap(), file);
        came_from(&Compiled::open(foreign.path()).unwrap(), &engine);
        fs::copy(the_file(foreign.path()), &mine).unwrap();
        assert!(!came_from(&again, &engine));
        // Other settings ask for other code.
        let mut settings = wasmtime::Config::new();
        let other = Engine::new(settings.epoch_interruption(true)).unwrap();
        assert!(!came_from(&again, &other) && came_from(&again, &other));
    }

    #[test]
    fn a_file_that_takes_anothers_place_is_no_use() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let compiled = Compiled::open(folder.path()).unwrap();
        // The same with a section of its own, whose name is `a`.
        let other = [EMPTY, b"\0\x02\x01a"].concat();
        assert!(!came_from(&compiled, &engine));
        fs::copy(compiled.path(&engine, EMPTY), compiled.path(&engine, &other)).unwrap();
        assert!(compiled.find(&engine, &other).is_none() && compiled.has(&engine, &other));
        compiled.keep(&engine, &other, &Component::new(&engine, &other).unwrap());
        assert!(compiled.find(&engine, &other).is_some() && came_from(&compiled, &engine));
    }

    #[test]
    fn what_was_never_finished_is_cleared_away_unless_somebody_may_be_writing_it() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old.1-partial", "new.2-partial"].map(|name| folder.path().join(name));
        for path in [&old, &new] {
            fs::write(path, "half").unwrap();
        }
        let then = SystemTime::now() - PARTIAL_AGE;
        fs::File::options().write(true).open(&old).unwrap().set_modified(then).unwrap();
        Compiled::open(folder.path()).unwrap();
        assert!(!old.exists() && new.exists() && folder.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_replaced() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        came_from(&Compiled::open(folder.path()).unwrap(), &engine);
        fs::set_permissions(folder.path().join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let renewed = Compiled::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!came_from(&renewed, &engine));
    }
}
