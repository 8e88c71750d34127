//! `tenon dev`, as its users run it: what is laid out, built again, shown, and how both it and the host end.
//!
//! Cargo and the host are scripts here: the one "builds" what the source holds, the other tells its flags and waits for
//! the signal that ends it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Whatever is waited for has happened by then, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Copies the source as the component; a source that says `error` does not build.
const CARGO: &str = r#"#!/bin/sh
if grep -q error src/lib.rs; then echo 'error[E0001]: no' >&2; exit 101; fi
mkdir -p target && cp src/lib.rs target/words.wasm
echo "{\"reason\":\"compiler-artifact\",\"manifest_path\":\"$(pwd -P)/Cargo.toml\",\"filenames\":[\"$(pwd -P)/target/words.wasm\"]}"
"#;
const HOST: &str = "#!/bin/sh\necho \"host $*\"\ntrap 'echo host-ends; exit 0' TERM\nwhile :; do sleep 0.05; done\n";

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// One test at a time: a program that is being written when another test starts one is still open there for writing for
/// a moment, and cannot be started then.
static ALONE: Mutex<()> = Mutex::new(());

/// A moved pair of binaries, a plugin's folder, and cargo in the path.
struct Place(TempDir, #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Place {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Self(tempfile::tempdir().unwrap(), alone);
        let root = place.0.path();
        let torch = root.join("lib/tenon/libtorch/site/torch");
        fs::create_dir_all(torch.join("lib")).unwrap();
        fs::write(torch.join("version.py"), "__version__ = '2.11.0+cpu'\n").unwrap();
        fs::write(torch.join("lib/libtorch_cpu.so"), "").unwrap();
        script(&root.join("bin/tenon-host"), HOST);
        script(&root.join("path/cargo"), CARGO);
        fs::copy(env!("CARGO_BIN_EXE_tenon"), root.join("bin/tenon")).unwrap();
        fs::create_dir_all(root.join("words/src")).unwrap();
        fs::write(root.join("words/Cargo.toml"), "[package]\nname = \"words\"\n").unwrap();
        fs::write(root.join("words/function.toml"), "component = \"w.wasm\"\n").unwrap();
        place.source("one");
        place
    }

    fn source(&self, text: &str) {
        fs::write(self.0.path().join("words/src/lib.rs"), text).unwrap();
    }

    fn laid_out(&self) -> PathBuf {
        self.0.path().join("words/target/tenon-dev/dev/words")
    }

    fn dev(&self, arguments: &[&str]) -> Dev {
        let path = format!("{}:{}", self.0.path().join("path").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.0.path().join("bin/tenon"));
        command.args([&["dev", "words", "--json"], arguments].concat()).current_dir(self.0.path()).env("PATH", path);
        command.env_remove("TENON_LIBTORCH").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Dev { child, lines }
    }
}

/// The program, which does not outlive a test that fails.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    /// Waits for a line that holds this.
    fn says(&self, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {part:?} in {seen:?}"),
            }
        }
    }

    fn interrupt(&mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn sources_are_built_served_and_built_again() {
    let place = Place::new();
    let mut dev = place.dev(&["--models", "m", "--listen", "127.0.0.1:0", "--", "--new-flag"]);
    dev.says("\"event\":\"built\"");
    assert_eq!(fs::read_to_string(place.laid_out().join("w.wasm")).unwrap(), "one");
    let host = dev.says("host ");
    let functions = place.0.path().canonicalize().unwrap().join("words/target/tenon-dev");
    for part in
        ["--models m", &format!("--dev-functions {}", functions.display()), "--listen 127.0.0.1:0", "--new-flag"]
    {
        assert!(host.contains(part), "{part} in {host}");
    }
    place.source("an error");
    assert!(dev.says("\"event\":\"failed\"").contains("the build failed"));
    assert_eq!(fs::read_to_string(place.laid_out().join("w.wasm")).unwrap(), "one", "what served goes on serving");
    place.source("three");
    dev.says("\"event\":\"built\"");
    assert_eq!(fs::read_to_string(place.laid_out().join("w.wasm")).unwrap(), "three");
    assert_eq!(dev.interrupt(), Some(0));
    dev.says("host-ends");
}

#[test]
fn a_host_that_runs_already_is_told_where_to_look() {
    let place = Place::new();
    place.source("error at first");
    let mut dev = place.dev(&["--no-serve"]);
    assert!(dev.says("\"event\":\"folder\"").contains("--dev-functions "));
    dev.says("\"event\":\"failed\"");
    assert!(!place.laid_out().join("w.wasm").exists());
    place.source("mended");
    dev.says("\"event\":\"built\"");
    assert!(place.laid_out().join("function.toml").exists());
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn a_host_that_ends_ends_it() {
    let place = Place::new();
    script(&place.0.path().join("bin/tenon-host"), "#!/bin/sh\nexit 9\n");
    let mut dev = place.dev(&[]);
    assert_eq!(dev.child.wait().unwrap().code(), Some(6));
    let nowhere = Command::new(env!("CARGO_BIN_EXE_tenon")).args(["dev", "/nonexistent"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("tenon new"), "{nowhere:?}");
}
