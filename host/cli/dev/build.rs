//! Cargo, asked for a plugin's component: where it lies is told by cargo and not guessed, its errors go to the terminal.
//!
//! It knows the target and the profile, and nothing of hosts.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The target of every component.
const TARGET: &str = "wasm32-wasip2";
/// The largest Cargo.toml that is read.
const PACKAGE_BYTES_MAX: u64 = 1 << 20;
/// Cargo's messages of one build.
const MESSAGES_BYTES_MAX: u64 = 256 << 20;

/// The name of the package in a folder.
pub(super) fn package(folder: &Path) -> Result<String, String> {
    let path = folder.join("Cargo.toml");
    let mut text = String::new();
    let read = fs::File::open(&path).and_then(|file| file.take(PACKAGE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    name.map(str::to_owned).ok_or_else(|| format!("{} names no package", path.display()))
}

/// Builds; the component's file.
pub(super) fn component(folder: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let messages = cargo.stdout.take().map(|out| BufReader::new(out.take(MESSAGES_BYTES_MAX)));
    let mut found = None;
    // Read to the end: cargo would wait for ever for somebody to take its messages.
    for line in messages.into_iter().flat_map(|lines| lines.lines().map_while(Result::ok)) {
        found = artifact(&line, folder).or(found);
    }
    let status = cargo.wait().map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the build failed ({status})"));
    }
    found.ok_or_else(|| {
        "the build made no component: [lib] in Cargo.toml needs crate-type = [\"cdylib\", \"rlib\"]".to_owned()
    })
}

/// The component that a message of cargo's tells of, if it does.
fn artifact(line: &str, folder: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact"
        || message["manifest_path"].as_str()? != folder.join("Cargo.toml").to_str()?
    {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folders_own_component_counts() {
        let folder = Path::new("/p");
        let message = |reason: &str, manifest: &str, file: &str| {
            format!(r#"{{"reason":"{reason}","manifest_path":"{manifest}","filenames":["/t/libx.rlib","{file}"]}}"#)
        };
        let own = message("compiler-artifact", "/p/Cargo.toml", "/t/x.wasm");
        assert_eq!(artifact(&own, folder), Some(PathBuf::from("/t/x.wasm")));
        for other in [
            message("compiler-artifact", "/p/sdk/Cargo.toml", "/t/sdk.wasm"),
            message("compiler-artifact", "/p/Cargo.toml", "/t/x.rmeta"),
            message("build-script-executed", "/p/Cargo.toml", "/t/x.wasm"),
            "Compiling x".to_owned(),
        ] {
            assert_eq!(artifact(&other, folder), None, "{other}");
        }
    }

    #[test]
    fn a_package_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(package(folder.path()).is_err());
        fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"words\"\n").unwrap();
        assert_eq!(package(folder.path()), Ok("words".to_owned()));
        fs::write(folder.path().join("Cargo.toml"), "[workspace]\n").unwrap();
        assert!(package(folder.path()).unwrap_err().contains("names no package"));
    }
}
