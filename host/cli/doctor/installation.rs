//! What the host brings or is given: its binary, libtorch, models, a place to write.
//!
//! It reads model.toml only far enough to say that it is TOML; what the keys mean is the host's to judge when it
//! loads them (`tenon serve --check`, `tenon models`).

use std::fs;
use std::io;
use std::path::Path;

use super::{Check, DoctorFlags};
use crate::libtorch::Places;
use crate::serve;

/// All checks of this file.
pub(super) fn checks(flags: &DoctorFlags) -> Vec<Check> {
    let binary_dir = serve::binary_dir();
    let host = match &binary_dir {
        Ok(dir) => match serve::find_host(dir) {
            Ok(host) => Check::ok("host binary", host.display().to_string()),
            Err(failure) => Check::fail("host binary", failure.message, failure.hint.unwrap_or_default()),
        },
        Err(failure) => Check::fail("host binary", failure.message.clone(), "install both binaries together"),
    };
    let libtorch = match Places::here(binary_dir.ok()).find() {
        Ok(found) => {
            let text = format!("{} in {} ({})", found.version, found.lib.display(), found.found_by);
            Check::ok("libtorch", text)
        }
        Err(failure) => Check::fail("libtorch", failure.message, failure.hint.unwrap_or_default()),
    };
    vec![host, libtorch, models(&flags.models), writable(&flags.data)]
}

/// Each folder of the repository is a model: readable model.toml, at least one version with a file.
fn models(root: &Path) -> Check {
    const NAME: &str = "models";
    let advice = "`make demo` lays one out; --models names another folder";
    let folders = match subfolders(root) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Check::warn(NAME, format!("no folder {}", root.display()), advice);
        }
        Err(error) => return Check::fail(NAME, format!("cannot read {}: {error}", root.display()), advice),
    };
    if folders.is_empty() {
        return Check::warn(NAME, format!("no model in {}", root.display()), advice);
    }
    let faults: Vec<_> = folders.iter().filter_map(|name| model_fault(&root.join(name))).collect();
    if faults.is_empty() {
        return Check::ok(NAME, format!("{} in {}: {}", folders.len(), root.display(), folders.join(", ")));
    }
    Check::fail(NAME, faults.join("; "), "correct it, or export the model again (`make demo`)")
}

fn model_fault(folder: &Path) -> Option<String> {
    let file = folder.join("model.toml");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => return Some(format!("cannot read {}: {error}", file.display())),
    };
    let manifest = match text.parse::<toml::Table>() {
        Ok(manifest) => manifest,
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
            return Some(format!("{} line {line}: {}", file.display(), error.message()));
        }
    };
    let format = manifest.get("model").and_then(|model| model.get("format")).and_then(toml::Value::as_str);
    let wanted = if format == Some("aoti") { "model.pt2" } else { "model.pt" };
    let versions = subfolders(folder).unwrap_or_default();
    let numbered = versions.iter().filter(|name| name.parse::<u64>().is_ok());
    if numbered.into_iter().any(|version| folder.join(version).join(wanted).is_file()) {
        return None;
    }
    Some(format!("{} has no version with a {wanted} (such as 1/{wanted})", folder.display()))
}

fn subfolders(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the host could write to its data folder, or make it.
fn writable(data: &Path) -> Check {
    const NAME: &str = "data folder";
    let shown = data.display();
    let existing = data.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let Some(folder) = existing.into_iter().find(|path| path.exists()) else {
        return Check::fail(NAME, format!("nothing of {shown} exists"), "--data names another folder");
    };
    let advice = format!("make {} a folder that this user may write to, or name another with --data", folder.display());
    if !folder.is_dir() {
        return Check::fail(NAME, format!("{} is not a folder", folder.display()), advice);
    }
    // Only writing tells: permissions, read-only mounts and quotas all have their say.
    let probe = folder.join(format!(".tenon-doctor-{}", std::process::id()));
    let tried = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried.and_then(|_| fs::remove_file(&probe)) {
        Ok(()) if folder == data => Check::ok(NAME, format!("{shown} is writable")),
        Ok(()) => Check::ok(NAME, format!("{shown} will be made at the first start")),
        Err(error) => Check::fail(NAME, format!("cannot write to {}: {error}", folder.display()), advice),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::Level;
    use super::*;

    #[test]
    fn models_are_looked_at_one_by_one() {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        assert_eq!(models(&at("absent")).level, Level::Warn);
        assert_eq!(models(root.path()).level, Level::Warn);

        fs::create_dir_all(at("minilm/1")).unwrap();
        assert!(models(root.path()).found.contains("cannot read"));
        fs::write(at("minilm/model.toml"), "[dimensions]\nseq = = 3\n").unwrap();
        assert!(models(root.path()).found.contains("model.toml line 2"), "{:?}", models(root.path()));
        fs::write(at("minilm/model.toml"), "[dimensions]\nseq = { max = 3 }\n").unwrap();
        assert!(models(root.path()).found.contains("no version with a model.pt"));
        fs::write(at("minilm/1/model.pt"), "").unwrap();
        let check = models(root.path());
        assert_eq!((check.level, check.advice), (Level::Ok, None));
        fs::write(at("minilm/model.toml"), "[model]\nformat = \"aoti\"\n").unwrap();
        assert!(models(root.path()).found.contains("no version with a model.pt2 (such as 1/model.pt2)"));
    }

    #[test]
    fn the_data_folder_is_tried_and_left_as_it_was() {
        let root = TempDir::new().unwrap();
        assert_eq!(writable(root.path()).level, Level::Ok);
        assert_eq!(writable(&root.path().join("a/b")).level, Level::Ok);
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(writable(&root.path().join("file")).level, Level::Fail);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
