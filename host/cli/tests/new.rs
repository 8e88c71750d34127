//! `tenon new`, as its users run it: the project that it writes passes its own tests and becomes a component that a host
//! takes, with nothing of the repository beside it.
//!
//! What differs here: no network, and the repository's lock file, so that crates are used that are there already.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tenon(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenon")).args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Cargo in the project, its results kept from one run of this test to the next.
fn cargo(arguments: &[&str], project: &Path) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-target");
    let mut command = Command::new("cargo");
    command.args(arguments).arg("--offline").current_dir(project).env("CARGO_TARGET_DIR", target);
    let output = command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Whether components can be built here; `make test` sees to it.
fn has_target() -> bool {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output().unwrap();
    output.status.success() && Path::new(String::from_utf8(output.stdout).unwrap().trim()).is_dir()
}

/// An empty folder whose path is always the same: cargo knows packages by their paths.
fn empty_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new");
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    fs::create_dir_all(&root).unwrap();
    root
}

#[test]
fn a_new_project_is_tested_and_built_and_a_host_would_take_it() {
    if !has_target() {
        return; // Nothing can be built here, and `make test` installs the target before it runs this.
    }
    let root = empty_folder();
    let output = tenon(&["new", "my-words"], &root);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("my-words is a plugin in rust"), "{}", said(&output));
    let project = root.join("my-words");
    assert!(!project.join("sdk/wit").is_symlink() && project.join("sdk/wit/worlds.wit").is_file());
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    fs::copy(lock, project.join("Cargo.lock")).unwrap();

    let tests = cargo(&["test", "--lib"], &project);
    assert!(tests.contains("2 passed"), "{tests}");
    cargo(&["build", "--release", "--target", "wasm32-wasip2"], &project);
    let component = "../../new-target/wasm32-wasip2/release/my_words.wasm";
    let output = tenon(&["inspect", component, "--json"], &project);
    let inspected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inspected["deploys"], true, "{inspected:#}");
    assert_eq!(inspected["stages"], serde_json::json!(["validate", "preprocess"]));
}

#[test]
fn what_is_there_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let output = tenon(&["new", "words", "--dir", "there", "--json"], root.path());
    let written: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&written["folder"], &written["files"][0]), (&"there".into(), &"Cargo.toml".into()));
    let again = tenon(&["new", "words", "--dir", "there"], root.path());
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("is there already, and is not overwritten"), "{}", said(&again));
    for wrong in [&["new", "My Words"][..], &["new", "words", "--lang", "cobol"], &["new"]] {
        assert_eq!(tenon(wrong, root.path()).status.code(), Some(2), "{wrong:?}");
    }
}
