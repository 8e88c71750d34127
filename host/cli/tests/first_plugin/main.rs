//! Follows `docs/first-plugin.md` to the letter: writes its files, runs its commands, compares its answers, with the
//! real `tenon serve` beside the program under test.
//!
//! What is on the page is `page`'s to read and `shell`'s to run; here is what differs for a test, all of it: free
//! ports, no network, crates and profile of this repository's components (so that what is built already is used), and a
//! model with more patience. The checkout that the page speaks of is a folder of links, without the workspace's
//! manifest: a plugin needs `plugins/sdk` and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod page;
mod shell;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use page::{Part, same};
use shell::Shell;

const PAGE: &str = "docs/first-plugin.md";
/// Where the page's host listens, unless told otherwise.
const ADDRESS: &str = "127.0.0.1:8080";
/// The page's folder is in nobody's repository; the test's is.
const WORKSPACE: &str = "\n[workspace]\n";
/// How often an answer may differ before it counts as wrong, a fifth of a second apart: the host looks at its folder
/// every second, and a machine may be busy.
const ATTEMPTS: u32 = 150;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A file or folder that `make test` makes before it runs tests.
fn made(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `make test` once", path.display());
    path
}

/// An empty folder with the checkout beside which the page works, always the same: cargo knows packages by their paths.
fn lay_out() -> PathBuf {
    let (repository, root) = (repository(), Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-plugin"));
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    let [checkout, minilm, plugin] = ["tenon", "tenon/models/minilm", "intent"].map(|folder| root.join(folder));
    for folder in [&checkout.join("target"), &checkout.join(".tenon/demo-data"), &minilm, &plugin] {
        fs::create_dir_all(folder).unwrap();
    }
    for name in ["plugins", "rust-toolchain.toml"] {
        symlink(repository.join(name), checkout.join(name)).unwrap();
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_tenon")).parent().unwrap();
    made(binaries.join("tenon-host"));
    symlink(binaries, checkout.join("target/debug")).unwrap();

    // Measured once, for all tests of this repository.
    let profiles = repository.join(".tenon/test-data/profiles");
    fs::create_dir_all(&profiles).unwrap();
    symlink(profiles, checkout.join(".tenon/demo-data/profiles")).unwrap();
    let model = made(repository.join("models/minilm"));
    symlink(model.join("1"), minilm.join("1")).unwrap();
    let manifest = fs::read_to_string(model.join("model.toml")).unwrap();
    let patient = manifest.replace("queue_timeout_ms = 2000", "queue_timeout_ms = 60000");
    fs::write(minilm.join("model.toml"), patient).unwrap();

    symlink(binaries.parent().unwrap(), plugin.join("target")).unwrap();
    fs::copy(repository.join("Cargo.lock"), plugin.join("Cargo.lock")).unwrap();
    fs::create_dir(root.join(".cargo")).unwrap();
    fs::write(root.join(".cargo/config.toml"), cargo_config(&repository)).unwrap();
    root
}

/// Settings for the page's packages: no network, and the profile with which `make test` has built what components need.
fn cargo_config(repository: &Path) -> String {
    let workspace = fs::read_to_string(repository.join("Cargo.toml")).unwrap();
    let workspace: toml::Table = workspace.parse().unwrap();
    let plugin = toml::to_string(&workspace["profile"]["plugin"]).unwrap();
    format!("[net]\noffline = true\n\n[profile.plugin]\n{plugin}")
}

/// The page's commands, as they can run here.
fn adapted(commands: &str, address: &str) -> String {
    let profile = commands.replace("--release", "--profile plugin").replace("/release/", "/plugin/");
    profile.replace(ADDRESS, address)
}

/// Writes a file, or a part of one that was written before.
fn write(file: &Path, in_place_of: Option<&str>, text: &str) {
    let text = match in_place_of {
        None => text.to_owned(),
        Some(start) => page::replaced(&fs::read_to_string(file).unwrap(), start, text),
    };
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Runs commands until they answer what the page says.
fn ask(shell: &mut Shell, commands: &str, answer: &str, line: usize) {
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        said = shell.try_run(commands);
        if same(answer, &said) {
            return;
        }
        shell.run("sleep 0.2");
    }
    panic!("{PAGE}, line {line}: the page says\n{answer}\nand what came is\n{said}");
}

#[test]
fn the_page_is_true() {
    let text = fs::read_to_string(repository().join(PAGE)).unwrap();
    let root = lay_out();
    let mut shell = Shell::start(&root);
    let mut address = ADDRESS.to_owned();
    let (mut files, mut answers) = (0, 0);
    for (line, part) in page::parts(&text) {
        match part {
            Part::File { path, in_place_of, text } => {
                let text = if path == "Cargo.toml" { text + WORKSPACE } else { text };
                write(&root.join("intent").join(path), in_place_of, &text);
                files += 1;
            }
            Part::Commands { text: "kill %1\n", .. } => shell.end_host(),
            // The one program that Tenon does not bring and the page can do without.
            Part::Commands { text, .. } if text.starts_with("curl") && !shell.has("curl") => {}
            Part::Commands { text, answer: Some(answer) } => {
                ask(&mut shell, &adapted(text, &address), answer, line);
                answers += 1;
            }
            Part::Commands { text, answer: None } => {
                shell.run(&adapted(text, &address));
                if text.starts_with("tenon serve") {
                    address = shell.host_serves(&root.join("intent/host.log"));
                }
            }
        }
    }
    // A page whose blocks are no longer found would be true for nothing.
    assert!(files >= 5 && answers >= 10, "{PAGE} has {files} files and {answers} answers");
}
