//! The rooms' order, held by a test: which room may name which, which crate stays in which room, and how every source
//! file looks. Reads the sources; `layers/source.rs` knows how, this file knows what is allowed and why is in ARCHITECTURE.md.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "layers/source.rs"]
mod source;

/// What everybody may know, and what itself knows nobody else.
const VOCABULARY: [&str; 15] = [
    "access",
    "account",
    "allocator",
    "announce",
    "arrivals",
    "caching",
    "fair",
    "invocation",
    "known",
    "nearest",
    "rate",
    "reuse",
    "telemetry",
    "tenant",
    "tensor",
];

/// Rooms, and the rooms that each may name beside itself and the vocabulary.
const ROOMS: [(&str, &[&str]); 7] = [
    ("sandbox", &[]),
    ("engine", &[]),
    ("registry", &[]),
    ("handover", &[]),
    ("cache", &[]),
    ("function", &["sandbox", "engine", "registry", "cache"]),
    // What is in the registry is shown as it is: splits and settings are their own documents.
    ("http", &["function", "registry"]),
];

/// These put the rooms together and may know them all.
const COMPOSERS: [&str; 7] =
    ["boot.rs", "boot/ending.rs", "boot/listen.rs", "config.rs", "lib.rs", "main.rs", "build.rs"];

/// Crates that stay where they are named here (starts of paths).
const CRATES: [(&str, &[&str]); 44] = [
    ("axum", &["host/http/"]),
    ("hyper", &["host/http/", "host/telemetry/otlp/collector.rs", "host/cli/"]),
    ("hyper_util", &["host/http/", "host/telemetry/otlp/collector.rs", "host/cli/"]),
    ("hyper_rustls", &["host/telemetry/otlp/collector.rs"]),
    ("moka", &["host/cache/memory.rs"]),
    // Tests of both tiers ask it what it holds; the room's own module of that name is a path of its own.
    ("redis", &["host/cache/"]),
    (
        "rustls",
        &["host/cache/redis/", "host/http/", "host/registry/store.rs", "host/telemetry/otlp/collector.rs", "host/cli/"],
    ),
    ("tower", &["host/http/"]),
    ("tokio_rustls", &["host/http/", "host/cli/"]),
    ("http_body", &["host/http/"]),
    ("http_body_util", &["host/http/", "host/telemetry/otlp/collector.rs", "host/cli/bench/"]),
    ("wasmtime", &["host/sandbox/"]),
    ("wasmtime_wasi", &["host/sandbox/"]),
    ("tokenizers", &["host/sandbox/tokenizer.rs", "host/sandbox/host_calls/", "plugins/tagger/", "training/"]),
    ("image", &["host/sandbox/host_calls/images/", "plugins/", "training/"]),
    ("image_webp", &["host/sandbox/host_calls/images/"]),
    ("png", &["host/sandbox/host_calls/images/", "plugins/", "training/"]),
    ("jpeg_encoder", &["host/sandbox/host_calls/images/"]),
    ("zune_jpeg", &["host/sandbox/host_calls/images/"]),
    ("fast_image_resize", &["host/sandbox/host_calls/images/", "plugins/"]),
    ("tiny_skia", &["host/sandbox/host_calls/images/"]),
    ("noto_sans_mono_bitmap", &["host/sandbox/host_calls/images/"]),
    ("half", &["host/sandbox/host_calls/images/"]),
    ("tch", &["host/engine/torch/", "training/"]),
    ("nvml_wrapper", &["host/engine/torch/nvml.rs"]),
    ("zip", &["host/engine/torch/archive.rs", "training/"]),
    ("offset_allocator", &["host/engine/torch/staging.rs"]),
    ("prometheus", &["host/telemetry/"]),
    ("opentelemetry_proto", &["host/telemetry/otlp/"]),
    ("prost", &["host/telemetry/otlp/", "host/http/oip/"]),
    ("flate2", &["host/http/oip/coding.rs"]),
    ("histogram", &["host/telemetry/window.rs"]),
    ("tracing_subscriber", &["host/telemetry/logs.rs"]),
    ("rustix", &["host/boot.rs", "host/handover/", "host/function/aside.rs", "host/cli/bench/", "host/cli/dev/"]),
    ("listenfd", &["host/handover/activation.rs"]),
    ("rayon", &["host/function/aside.rs"]),
    ("object_store", &["host/registry/"]),
    ("jsonwebtoken", &["host/access/jwt"]),
    ("ring", &["host/access/jwt/", "host/http/tls.rs", "host/registry/store.rs"]),
    ("anyhow", &["host/main.rs", "host/boot.rs", "host/boot/", "training/"]),
    ("wasmparser", &["host/cli/inspect/"]),
    ("wit_parser", &["host/cli/inspect/"]),
    ("wit_component", &["host/cli/inspect/"]),
    ("clap", &["host/main.rs", "host/config.rs", "host/cli/", "training/"]),
];

/// Crates that no source of the host may name: it is called, it calls nobody.
const NEVER_IN_HOST: [&str; 4] = ["reqwest", "torch_sys", "tonic", "ureq"];

/// Folders whose sources are ours to keep in order.
const FOLDERS: [&str; 4] = ["host", "plugins", "training", "tests"];
const MAX_LINES: usize = 400;

/// All sources below a folder, as paths from the repository's root, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_symlink() || path.ends_with("target") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no source in {folder}");
    found.sort();
    found
}

/// The module that a source of the host is: `host/engine/torch/mod.rs` is `engine::torch`.
fn module(file: &str) -> Vec<String> {
    let path = PathBuf::from(file.strip_prefix("host/").unwrap_or(file)).with_extension("");
    let mut names: Vec<_> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&last[..])) {
        names.pop();
    }
    names
}

/// What a source of the host names that its room may not know.
fn trespasses(file: &str, text: &str) -> Vec<String> {
    let within = file.strip_prefix("host/").unwrap_or(file);
    // The command line is a package of its own, which has no rooms.
    if COMPOSERS.contains(&within) || within.starts_with("cli/") {
        return Vec::new();
    }
    let module = module(file);
    let own = &module[0][..];
    let allowed = ROOMS.iter().find(|(room, _)| *room == own).map(|(_, allowed)| *allowed);
    if allowed.is_none() && !VOCABULARY.contains(&own) {
        return vec![format!(
            "{file}: `{own}` is neither a room nor vocabulary: say in tests/layers.rs what it may know"
        )];
    }
    let allowed = allowed.unwrap_or_default();
    let module: Vec<_> = module.iter().map(String::as_str).collect();
    let paths = source::paths(text, &module, "tenon_host");
    let named = paths.iter().filter(|path| path[0] == "crate");
    // A path that ends at the crate's root (`use crate as host`, `use crate::*`) could lead anywhere.
    let rooms = named.map(|path| path.get(1).map_or("*", String::as_str));
    let wrong = rooms.filter(|room| *room != own && !VOCABULARY.contains(room) && !allowed.contains(room));
    wrong.map(|room| format!("{file} names crate::{room}, which `{own}` may not know")).collect()
}

/// Crates that a source names and that should stay elsewhere.
fn strays(file: &str, text: &str) -> Vec<String> {
    let paths = source::paths(text, &[], "crate");
    let names = |name: &str| paths.iter().any(|path| path[0] == name);
    let stay = CRATES.iter().filter(|(name, homes)| names(name) && !homes.iter().any(|home| file.starts_with(home)));
    let mut wrong: Vec<_> =
        stay.map(|(name, homes)| format!("{file} names {name}, which stays in {homes:?}")).collect();
    let never = NEVER_IN_HOST.iter().filter(|name| {
        // The command line is a client and a package of its own.
        file.starts_with("host/") && !file.starts_with("host/cli/") && names(name)
    });
    wrong.extend(never.map(|name| format!("{file} names {name}, which the host does not use")));
    wrong
}

/// What makes a source hard to keep.
fn untidy(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push(format!("{file} does not open with `//!`: what it owns, what it refuses to know, why"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!("{file} has {lines} lines, at most {MAX_LINES} read well"));
    }
    let tokens = source::tokens(text);
    let has = |wanted: &[&str]| tokens.windows(wanted.len()).any(|found| found == wanted);
    for unfinished in [&["todo", "!"][..], &["unimplemented", "!"], &["dbg", "!"], &["#", "[", "ignore"]] {
        if has(unfinished) {
            wrong.push(format!("{file} has `{}`", unfinished.concat()));
        }
    }
    wrong
}

fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn knowledge_flows_inward() {
    none(sources("host").iter().flat_map(|(file, text)| trespasses(file, text)).collect());
}

#[test]
fn each_crate_stays_in_its_room() {
    let all: Vec<_> = FOLDERS.iter().flat_map(|folder| sources(folder)).collect();
    // Tests and plugins build nothing into the host: a test may speak HTTP by whatever it likes.
    let ours = all.iter().filter(|(file, _)| !file.starts_with("tests/"));
    none(ours.flat_map(|(file, text)| strays(file, text)).collect());
    // A rule about a crate that nobody names would be a rule that guards nothing.
    for (name, homes) in CRATES {
        let mut at_home = all.iter().filter(|(file, _)| homes.iter().any(|home| file.starts_with(home)));
        let named = at_home.any(|(_, text)| source::paths(text, &[], "crate").iter().any(|path| path[0] == name));
        assert!(named, "nobody in {homes:?} names {name}");
    }
}

#[test]
fn every_file_is_tidy() {
    none(FOLDERS.iter().flat_map(|folder| sources(folder)).flat_map(|(file, text)| untidy(&file, &text)).collect());
}

#[test]
fn a_trespass_is_seen_in_every_form() {
    let seen = |file: &str, text: &str| !trespasses(file, text).is_empty();
    for text in [
        "use crate::engine::Model;",
        "use crate::{account::Account, engine};",
        "use crate::{\n    account::{Account, Charge},\n    engine::{self, queue::Queue as Q},\n};",
        "pub(crate) use crate :: engine as other;",
        "fn f(model: &crate::engine::Model) {}",
        "fn f() { let x = (crate::engine::start)(); }",
        "#[cfg(test)] mod tests { use super::super::super::engine; }",
        "#[cfg(test)] mod tests { fn f() { super::super::super::engine::fake(); } }",
        "mod a { mod b { use super::super::super::super::engine::X; } }",
        "use super::super::{limits, engine};",
        "use tenon_host::engine::Engine;",
        "m!({ \"a\": crate::engine::X });",
        "use crate as host;",
        "use crate::*;",
        "impl Trait for Vec<crate::engine::X> {}",
        "use crate::r#engine::X;",
        "let c = '\"'; use crate::engine; let d = '\"';",
        "let life: &'a str; use crate::engine;",
        "let raw = r#\" \" \"#; use crate::engine;",
    ] {
        assert!(seen("host/sandbox/host_calls/x.rs", text) || seen("host/sandbox/x.rs", text), "missed: {text}");
    }
    for text in [
        "use crate::{account::Account, sandbox::Config}; use super::store; use self::x;",
        "// use crate::engine;\n/* use crate::engine; /* twice */ crate::engine::x */",
        "let text = \"use crate::engine; \\\" crate::engine::x\"; let raw = r##\"crate::engine\"# x\"##;",
        "let c = '\\''; let s = \"crate::engine\"; let b = b\"crate::http\"; let d = '{';",
        "#[cfg(test)] mod tests { use super::*; use super::super::limits::X; }",
        "fn f<'a>(x: &'a str) -> impl Send + use<'a> { engine::start() }",
    ] {
        assert_eq!(trespasses("host/sandbox/x.rs", text), Vec::<String>::new(), "{text}");
    }
    assert!(
        seen("host/telemetry/metrics.rs", "use crate::http;")
            && seen("host/tensor/layout.rs", "use super::super::engine::X;")
    );
    assert!(
        seen("host/engine/queue.rs", "use crate::sandbox::X;") && seen("host/http/data.rs", "use crate::engine::X;")
    );
    assert!(
        seen("host/function/step.rs", "use crate::http::X;") && seen("host/function/step.rs", "use crate::config::X;")
    );
    assert!(!seen("host/function/step.rs", "use crate::{engine::X, sandbox::Y};"));
    assert!(seen("host/kitchen/mod.rs", ""), "a new room has no rule yet");
}

#[test]
fn a_stray_crate_and_an_untidy_file_are_seen() {
    for text in [
        "use axum::Router;",
        "use {std::fs, axum};",
        "fn f(r: ::axum::Router) {}",
        "extern crate axum as web;",
        "use axum as web;",
    ] {
        assert_eq!(strays("host/function/x.rs", text).len(), 1, "missed: {text}");
        assert!(strays("host/http/x.rs", text).is_empty());
    }
    assert!(strays("host/function/x.rs", "// axum::Router\nuse crate::axum; use my::axum; let axum = 1;").is_empty());
    assert_eq!(strays("host/http/x.rs", "use reqwest::Client;").len(), 1);
    let long = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
    for text in [
        "",
        "fn f() {}",
        "//! x\nfn f() { todo!() }",
        "//! x\nfn f() { dbg!(1); }",
        "//! x\n#[ignore = \"slow\"]",
        &long,
    ] {
        assert_eq!(untidy("x.rs", text).len(), 1, "missed: {text:?}");
    }
    assert!(untidy("x.rs", "//! x\n// todo!()\nlet ignore = \"dbg!(1)\";").is_empty());
}
