//! A function as a host wants to find it: `function.toml` and the component that it names, in a folder of their own.
//!
//! Every file is put there whole, by its name being changed, and only where it differs: a host that looks meanwhile
//! sees the old one or the new one.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::short;

/// The largest `function.toml` that is read.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
const MANIFEST: &str = "function.toml";

/// Where a function comes from, and where it is laid out.
#[derive(Debug)]
pub(super) struct Layout {
    project: PathBuf,
    folder: PathBuf,
}

impl Layout {
    /// From a plugin's folder to a host's.
    pub(super) fn new(project: &Path, folder: &Path) -> Self {
        Self { project: project.to_owned(), folder: folder.to_owned() }
    }

    /// Lays out; whether anything is new. The component comes first, so that a new `function.toml` never stands beside
    /// an old one for longer than the host takes to look.
    pub(super) fn lay_out(&self, component: &Path) -> Result<bool, String> {
        let manifest = self.project.join(MANIFEST);
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", short(path, &self.project));
        let known = fs::metadata(&manifest).map_err(|error| failed(&manifest, error))?;
        if known.len() > MANIFEST_BYTES_MAX {
            return Err(format!("{MANIFEST} has more than {MANIFEST_BYTES_MAX} bytes"));
        }
        let text = fs::read(&manifest).map_err(|error| failed(&manifest, error))?;
        let name = component_name(&text)?;
        let bytes = fs::read(component).map_err(|error| failed(component, error))?;
        fs::create_dir_all(&self.folder).map_err(|error| failed(&self.folder, error))?;
        let mut changed = false;
        for (name, bytes) in [(name.as_str(), &bytes), (MANIFEST, &text)] {
            changed |= put(&self.folder, name, bytes).map_err(|error| failed(&self.folder.join(name), error))?;
        }
        Ok(changed)
    }
}

/// The file that `function.toml` names for the component. Everything else in it is judged by the host.
fn component_name(manifest: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(manifest).map_err(|_| format!("{MANIFEST} is not UTF-8"))?;
    let table: toml::Table = toml::from_str(text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let name = table.get("component").and_then(toml::Value::as_str).unwrap_or_default();
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if name != MANIFEST => Ok(name.to_owned()),
        _ => Err(format!("{MANIFEST}: `component` must name a file, such as \"words.wasm\"")),
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<bool> {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let partial = folder.join(format!(".{name}.partial"));
    fs::write(&partial, bytes)?;
    fs::rename(&partial, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_there_whole_and_written_when_they_differ() {
        let root = tempfile::tempdir().unwrap();
        let (project, folder) = (root.path().join("p"), root.path().join("p/target/tenon-dev/dev/f"));
        fs::create_dir(&project).unwrap();
        let built = root.path().join("built_name.wasm");
        let layout = Layout::new(&project, &folder);
        assert!(layout.lay_out(&built).unwrap_err().starts_with("function.toml: "));
        fs::write(project.join(MANIFEST), "component = \"f.wasm\"\n").unwrap();
        assert!(layout.lay_out(&built).unwrap_err().contains("built_name.wasm"));
        fs::write(&built, "one").unwrap();
        assert_eq!(layout.lay_out(&built), Ok(true));
        assert_eq!(layout.lay_out(&built), Ok(false), "nothing is new");
        fs::write(&built, "two").unwrap();
        assert_eq!(layout.lay_out(&built), Ok(true));
        assert_eq!(fs::read(folder.join("f.wasm")).unwrap(), b"two");
        assert_eq!(fs::read_to_string(folder.join(MANIFEST)).unwrap(), "component = \"f.wasm\"\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing partial is left");
    }

    #[test]
    fn a_component_stays_in_its_folder() {
        for name in ["", "../x.wasm", "a/b.wasm", "/x.wasm", "..", "function.toml"] {
            assert!(component_name(format!("component = {name:?}").as_bytes()).is_err(), "{name}");
        }
        assert!(component_name(b"component = ").unwrap_err().contains("line 1"));
    }
}
