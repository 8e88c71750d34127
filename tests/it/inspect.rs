//! What `tenon inspect` says beforehand is what a host says: every plugin there is, and components that are broken in one
//! way each, judged by both.
//!
//! The two share names and sentences (`sandbox/contract.rs`) and nothing else: the command line compares types by the
//! rules of WebAssembly's text, the host by wasmtime's linker.

use std::{path::Path, process::Command, sync::Arc};

use serde_json::Value;
use tenon_host::{
    function::{self, Manifest},
    sandbox::{Config, Sandbox},
    tensor::HeapStaging,
};

use crate::support::made;

/// All that WASI offers here, so that nothing is linked under a name that the other does not know.
const WASI: [&str; 24] = [
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "filesystem/types",
    "filesystem/preopens",
    "sockets/network",
    "sockets/instance-network",
    "sockets/tcp",
    "sockets/udp",
];

/// A component whose export `preprocessing` holds `what`, around a function `$f` of no parameters.
fn preprocessing(what: &str) -> String {
    format!(
        "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
         (func $f (canon lift (core func $i \"f\"))) (instance $none) (instance $s {what})
         (export \"tenon:plugin/preprocessing@1.0.0\" (instance $s))"
    )
}

fn import(name: &str, of: &str) -> String {
    format!("(import \"{name}\" (instance {of}))")
}

/// A component around one core module.
fn core(module: &str) -> String {
    format!("(core module $m {module}) (core instance (instantiate $m))")
}

/// Name, text, and the code of the refusal that both have to give.
fn texts() -> Vec<(&'static str, String, &'static str)> {
    let wasi: String = WASI.iter().map(|name| import(&format!("wasi:{name}@0.2.3"), "")).collect();
    let config = "tenon:plugin/config@1.0.0";
    let lookup = "(export \"get\" (func (param \"key\" string) (result (option string))))";
    let all = (0..21).map(|_| "(core instance (instantiate $m))").collect::<String>();
    vec![
        ("nothing", String::new(), "no-preprocessing"),
        ("wasi", wasi, "no-preprocessing"),
        ("wasi-http", import("wasi:http/types@0.2.3", ""), "foreign-imports"),
        ("wasi-unheard-of", import("wasi:cli/unheard-of@0.2.3", ""), "foreign-imports"),
        ("wasi-unstable", import("wasi:clocks/timezone@0.2.3", ""), "foreign-imports"),
        ("wasi-next", import("wasi:cli/stdin@0.3.0", ""), "foreign-imports"),
        ("wasi-without-version", import("wasi:cli/stdin", ""), "foreign-imports"),
        ("function", "(import \"run\" (func))".into(), "foreign-imports"),
        ("resource", "(import \"r\" (type (sub resource)))".into(), "foreign-imports"),
        ("type", "(type $t (list u8)) (import \"t\" (type (eq $t)))".into(), "no-preprocessing"),
        ("two-foreign", import("a:b/c", "") + &import("a:b/d@1.0.0", ""), "foreign-imports"),
        ("unknown-interface", import("tenon:plugin/sounds@1.0.0", ""), "foreign-imports"),
        ("import-before-release", import("tenon:plugin/config@1.0.0-rc.2", ""), "foreign-imports"),
        ("newer-import", import("tenon:plugin/config@1.1.0", ""), "foreign-imports"),
        ("import-of-a-patch", import("tenon:plugin/config@1.0.9", ""), "no-preprocessing"),
        ("import", import(config, lookup), "no-preprocessing"),
        ("import-differs", import(config, "(export \"get\" (func))"), "differs-from-contract"),
        ("import-has-more", import(config, "(export \"set\" (func))"), "differs-from-contract"),
        (
            "unknown-stage",
            "(instance $i) (export \"tenon:plugin/cleaning@1.0.0\" (instance $i))".into(),
            "unknown-exports",
        ),
        (
            "newer-stage",
            "(instance $i) (export \"tenon:plugin/validation@1.1.0\" (instance $i))".into(),
            "unknown-exports",
        ),
        ("other-export", "(instance $i) (export \"a:b/c\" (instance $i))".into(), "no-preprocessing"),
        ("stage-without-function", preprocessing(""), "differs-from-contract"),
        ("stage-of-another-type", preprocessing("(export \"preprocess\" (func $f))"), "differs-from-contract"),
        ("stage-no-function", preprocessing("(export \"preprocess\" (instance $none))"), "differs-from-contract"),
        ("memory", core("(memory 1)"), "no-preprocessing"),
        ("two-memories", core("(memory 1) (memory 1)"), "not-a-component"),
        ("large-memory", core("(memory 10000)"), "not-a-component"),
        ("memory64", core("(memory i64 1)"), "no-preprocessing"),
        ("shared-memory", core("(memory 1 1 shared)"), "not-a-component"),
        ("tables", core(&"(table 1 funcref)".repeat(9)), "not-a-component"),
        ("large-table", core("(table 50000 funcref)"), "not-a-component"),
        ("garbage-collected", core("(type (struct (field i32)))"), "not-a-component"),
        ("exceptions", core("(tag (param i32))"), "not-a-component"),
        ("instances", format!("(core module $m) {all}"), "not-a-component"),
        ("asynchronous", "(type (stream u8))".into(), "not-a-component"),
    ]
}

/// Everything that both judge: name, bytes, and the refusal where it is known beforehand.
fn components() -> Vec<(String, Vec<u8>, Option<&'static str>)> {
    let mut all = Vec::new();
    for (name, text, code) in texts() {
        // What has no text is no case.
        let Ok(bytes) = wat::parse_str(format!("(component {text})")) else {
            panic!("{name} is not WebAssembly's text")
        };
        all.push((name.to_owned(), bytes, Some(code)));
    }
    let empty = std::fs::read(made(".tenon/test-functions/test/empty/empty.wasm")).unwrap();
    let swapped = |from: &str, to: &str| {
        let mut bytes = empty.clone();
        let places: Vec<_> =
            (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty() && from.len() == to.len());
        places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
        bytes
    };
    let not_a_component = Some("not-a-component");
    all.push(("core-module".into(), wat::parse_str("(module)").unwrap(), not_a_component));
    all.push(("empty-file".into(), Vec::new(), not_a_component));
    all.push(("zeros".into(), vec![0; 4096], not_a_component));
    all.push(("garbage".into(), (0..4096_u32).map(|n| (n * 31 % 251) as u8).collect(), not_a_component));
    for part in [4, 9, 100, empty.len() / 2, empty.len() - 1] {
        all.push((format!("first-{part}-bytes"), empty[..part].to_vec(), not_a_component));
    }
    all.push(("other-contract".into(), swapped("@1.0.0", "@2.0.0"), Some("foreign-imports")));
    all.push(("misspelt-stage".into(), swapped("plugin/validation", "plugin/validatiom"), Some("unknown-exports")));
    all.push(("too-large".into(), vec![0; Config::default().max_component_bytes as usize + 1], Some("too-large")));
    all.extend(built());
    all
}

/// Every plugin of this repository. What else lies beside them (the page's test builds there too) is not ours to judge.
fn built() -> impl Iterator<Item = (String, Vec<u8>, Option<&'static str>)> {
    let of_folder = |(folder, package): (&str, &'static str)| {
        let below = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        // Those in other languages are built by `make test-languages`.
        let in_rust = below.map(Result::unwrap).filter(|entry| {
            let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml"));
            // The others are libraries of theirs.
            manifest.is_ok_and(|manifest| manifest.contains("cdylib"))
        });
        let names = in_rust.map(|entry| entry.file_name().into_string().unwrap().replace('-', "_"));
        names.map(move |name| format!("{package}_{name}.wasm"))
    };
    let files = [("plugins", "tenon"), ("tests/plugins", "test")].into_iter().flat_map(of_folder);
    files.map(|file| (file.clone(), std::fs::read(made("target/wasm32-wasip2/plugin").join(file)).unwrap(), None))
}

/// The command line, built beside the host by whatever built these tests.
pub fn tenon(arguments: &[&str]) -> Value {
    let program = Path::new(env!("CARGO_BIN_EXE_tenon-host")).with_file_name("tenon");
    assert!(program.exists(), "{} is missing: run `cargo build --workspace --bins`", program.display());
    let output = Command::new(program).arg("inspect").args(arguments).arg("--json").output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(error.is_empty(), "{arguments:?}: {error}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
}

#[test]
fn the_command_line_says_what_a_host_would_say() {
    let config = Config { max_instances: 1, ..Config::default() };
    let sandbox = Sandbox::new(config, Arc::new(HeapStaging)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    let mut wrong = Vec::new();
    let mut taken = 0;
    for (name, bytes, expected) in components() {
        std::fs::write(&file, &bytes).unwrap();
        let inspected = tenon(&[file.to_str().unwrap()]);
        let said = (inspected["refusals"][0]["code"].as_str(), inspected["refusals"][0]["message"].as_str());
        let host = sandbox.compile(&bytes);
        let refusal = host.as_ref().err();
        let host = (refusal.map(|refusal| refusal.code()), refusal.map(ToString::to_string));
        taken += u32::from(refusal.is_none());
        // Where validation or types fail, each has its own library's words.
        let own_words = matches!(host.0, Some("not-a-component" | "differs-from-contract"));
        let same = said.0 == host.0 && (own_words || said.1 == host.1.as_deref());
        let known = expected.is_none_or(|code| host.0 == Some(code));
        if !same || !known || inspected["deploys"] != refusal.is_none() {
            wrong.push(format!("{name}: the host {host:?}, inspect {said:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
    assert!(taken >= 5, "only {taken} of the plugins that are built here were taken");
}

#[test]
fn the_limits_and_the_rules_of_function_toml_are_the_hosts() {
    let plugin = made(".tenon/test-functions/test/empty/empty.wasm");
    let plugin = plugin.to_str().unwrap();
    let limits = &tenon(&[plugin])["limits"];
    let (sandbox, host) = (Config::default(), function::Config::default());
    let expected = serde_json::json!({
        "sandbox": { "component_bytes": sandbox.max_component_bytes, "memory_bytes": sandbox.max_memory_bytes },
        "function": {
            "tenant_memory_bytes": host.tenant_memory_bytes,
            "max_timeout_ms": host.max_timeout_ms,
            "max_body_bytes": host.max_body_bytes,
        },
    });
    assert_eq!(*limits, expected);
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in
        ["component = \"empty.wasm\"", "component = \"../x\"", "component = \"x\"\n[limit]", "[limits]\ncpu_ms = 0"]
    {
        std::fs::write(file.path(), text).unwrap();
        let inspected = tenon(&[plugin, "--function", file.path().to_str().unwrap()]);
        let host = Manifest::read(text, &host).err().map(|error| error.to_string());
        assert_eq!(inspected["refusals"][0]["message"].as_str(), host.as_deref(), "{text}");
        assert_eq!(inspected["deploys"], host.is_none(), "{text}");
    }
}
