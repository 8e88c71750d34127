//! `tenon inspect` as its users run it: what is shown, which stream has it, and how it ends. Whether its verdicts are the
//! host's is tested beside the host (`tests/it/inspect.rs`), with every plugin there is.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

/// The smallest component there is, and the smallest core module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn inspect(arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    let output = command.arg("inspect").args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

#[test]
fn a_refusal_is_named_and_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wasm");
    let file = path.to_str().unwrap();
    for (bytes, part) in [
        (COMPONENT, "refused (no-preprocessing): the component exports no `preprocessing`"),
        (MODULE, "refused (not-a-component): this is not a WebAssembly component: it is a core module"),
        (b"", "it is empty"),
        (b"\x7fELF", "it does not begin as WebAssembly does"),
        (&COMPONENT[..6], "refused (not-a-component)"),
    ] {
        fs::write(&path, bytes).unwrap();
        let (output, said) = inspect(&[file]);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(4), 0), "{said}");
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn a_huge_file_is_refused_without_being_read() {
    const GIB: u64 = 1 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.wasm");
    File::create(&path).unwrap().set_len(200 * GIB).unwrap();
    let (output, said) = inspect(&[path.to_str().unwrap(), "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((output.status.code(), &said["refusals"][0]["code"]), (Some(4), &"too-large".into()), "{said}");
    assert_eq!(said["deploys"], false);
}

#[test]
fn function_toml_is_judged_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, toml) = (folder.path().join("x.wasm"), folder.path().join("function.toml"));
    fs::write(&plugin, COMPONENT).unwrap();
    fs::write(&toml, "component = \"y.wasm\"\n[limits]\ntimeout = 3\n").unwrap();
    let (plugin, toml) = (plugin.to_str().unwrap(), toml.to_str().unwrap());
    let (output, said) = inspect(&[plugin, "--function", toml]);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("refused (function-toml)") && said.contains("did you mean `timeout_ms`"), "{said}");
    fs::write(toml, "component = \"y.wasm\"\n[models.a]\nmodel = \"m@serving\"\n").unwrap();
    let (_, said) = inspect(&[plugin, "--function", toml]);
    assert!(said.contains("function.toml names y.wasm") && said.contains("model a: m@serving"), "{said}");
}

#[test]
fn what_cannot_be_read_is_a_matter_of_usage() {
    for arguments in [&["/nonexistent/x.wasm"][..], &["/dev/null", "--function", "/nonexistent/function.toml"], &[]] {
        let (output, said) = inspect(arguments);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty() && said.contains("error: "), "{said}");
    }
}
