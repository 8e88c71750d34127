//! Plugins that no SDK would make: core modules by hand, turned into components by the tool that the SDK uses too. What
//! comes out of such a guest is answered as a broken contract, and what happens before any stage is bounded like one.

use std::{fmt::Write as _, path::Path};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::support::{Served, TestHost};

/// Two worlds of this file's own: one stage, and one stage beside a resource that the guest makes itself.
const WORLDS: &str = "package test:crafted;
    world stage { include tenon:plugin/stage-preprocessing@1.0.0; }
    world things {
        include tenon:plugin/stage-preprocessing@1.0.0;
        export extra: interface { resource thing { constructor(); } }
    }";

/// A core module that exports `preprocess`. Its answer lies at 1024; `body` runs before it is given.
struct Core {
    world: &'static str,
    imports: &'static str,
    items: &'static str,
    body: &'static str,
    answer: Vec<u8>,
}

impl Core {
    fn new() -> Self {
        Self { world: "stage", imports: "", items: "", body: "", answer: rejected(400, (2048, 1), 0) }
    }

    fn component(&self) -> Vec<u8> {
        let answer = self.answer.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").unwrap();
            text
        });
        let Self { imports, items, body, .. } = self;
        let text = format!(
            r#"(module
                (import "tenon:plugin/request@1.0.0" "[resource-drop]request" (func $let-go (param i32)))
                {imports}
                (memory (export "memory") 4)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 131072)
                {items}
                (func (export "tenon:plugin/preprocessing@1.0.0#preprocess") (param $request i32) (result i32)
                    {body}
                    (call $let-go (local.get $request))
                    (i32.const 1024))
                (data (i32.const 1024) "{answer}")
                (data (i32.const 2048) "a\ff\ff"))"#
        );
        let mut resolve = Resolve::default();
        resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("wit")).unwrap();
        let package = resolve.push_str("crafted.wit", WORLDS).unwrap();
        let world = resolve.select_world(&[package], Some(self.world)).unwrap();
        let mut module = wat::parse_str(&text).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }
}

/// Little-endian words as `result<step, rejection>` lies in memory.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A rejection with a code at `code` and as many headers, which lie where zeros are.
fn rejected(status: u32, code: (u32, u32), headers: u32) -> Vec<u8> {
    words(&[1, status, code.0, code.1, 2048, 1, 0, 0, 0, 4096, headers, 0, 0, 0, 0, 0])
}

/// A step: `infer` of so many inferences at 4096, or `respond` with a handle.
fn infer(count: u32) -> Vec<u8> {
    words(&[0, 0, 4096, count])
}

fn respond(handle: u32) -> Vec<u8> {
    words(&[0, 1, handle])
}

const CONTRACT: (u16, &str) = (502, "plugin-contract");
const TRAP: (u16, &str) = (502, "plugin-trap");
const MEMORY: (u16, &str) = (502, "plugin-memory");
const CPU: (u16, &str) = (504, "plugin-deadline");

/// What each guest does, and what its caller is told.
fn cases() -> Vec<(&'static str, Core, (u16, &'static str))> {
    let start = |items| Core { items, ..Core::new() };
    let answer = |answer| Core { answer, ..Core::new() };
    let encode = r#"(import "tenon:plugin/text@1.0.0" "encode"
            (func $encode (param i32 i32 i32 i32 i32 i32)))
        (import "tenon:plugin/text@1.0.0" "[constructor]options" (func $options (result i32)))"#;
    let path = r#"(import "tenon:plugin/request@1.0.0" "[method]request.path" (func $path (param i32 i32)))"#;
    let response = r#"(import "tenon:plugin/response@1.0.0" "[constructor]response"
            (func $response (param i32 i32 i32) (result i32)))
        (import "tenon:plugin/tensors@1.0.0" "[method]tensor.size" (func $size (param i32) (result i64)))
        (import "tenon:plugin/response@1.0.0" "[resource-drop]response" (func $drop-response (param i32)))"#;
    let thing = Core {
        world: "things",
        imports: r#"(import "[export]extra" "[resource-new]thing" (func $new (param i32) (result i32)))"#,
        items: r#"(func (export "extra#[constructor]thing") (result i32) (call $new (i32.const 1)))"#,
        body: "(loop (drop (call $new (i32.const 1))) (br 0))",
        ..Core::new()
    };
    vec![
        ("nothing-wrong", Core::new(), (400, "a")),
        // Before any stage: instantiation runs guest code too.
        ("start-loops", start("(func $s (loop (br 0))) (start $s)"), CPU),
        ("start-traps", start("(func $s unreachable) (start $s)"), TRAP),
        ("start-recurses", start("(func $s (call $s)) (start $s)"), TRAP),
        (
            "start-hoards",
            start("(func $s (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable) (start $s)"),
            MEMORY,
        ),
        ("loop-of-tables", Core { items: "(table $t 1 funcref)", body: "(loop (drop (table.grow $t (ref.null func) (i32.const 9))) (br 0))", ..Core::new() }, CPU),
        // What a stage gives.
        ("answer-far-away", Core { body: "(call $let-go (local.get $request)) (return (i32.const -16))", ..Core::new() }, CONTRACT),
        ("answer-unaligned", Core { body: "(call $let-go (local.get $request)) (return (i32.const 1025))", ..Core::new() }, CONTRACT),
        ("no-such-case", answer(words(&[7])), CONTRACT),
        ("no-such-step", answer(words(&[0, 9, 0, 0])), CONTRACT),
        ("no-such-response", answer(respond(77)), CONTRACT),
        ("request-as-response", Core { body: "(i32.store (i32.const 1032) (local.get $request)) (return (i32.const 1024))", answer: respond(0), ..Core::new() }, CONTRACT),
        ("inferences-far-away", answer(infer(1 << 20)), CONTRACT),
        ("inferences-overflow", answer(infer(u32::MAX)), CONTRACT),
        ("not-utf-8", answer(rejected(400, (2049, 2), 0)), CONTRACT),
        ("text-far-away", answer(rejected(400, (u32::MAX, 9), 0)), CONTRACT),
        ("headers-overflow", answer(rejected(400, (2048, 1), u32::MAX)), CONTRACT),
        ("headers-without-names", answer(rejected(400, (2048, 1), 1)), CONTRACT),
        ("thousands-of-headers", answer(rejected(400, (2048, 1), 7000)), CONTRACT),
        ("status-of-a-server", answer(rejected(500, (2048, 1), 0)), CONTRACT),
        ("status-of-nothing", answer(rejected(65_535, (2048, 1), 0)), CONTRACT),
        ("request-kept", Core { body: "(return (i32.const 1024))", ..Core::new() }, CONTRACT),
        // What a host call is given.
        ("no-such-request", Core { imports: path, body: "(call $path (i32.const 99) (i32.const 3000))", ..Core::new() }, CONTRACT),
        ("path-to-far-away", Core { imports: path, body: "(call $path (local.get $request) (i32.const -8))", ..Core::new() }, CONTRACT),
        ("let-go-twice", Core { body: "(call $let-go (local.get $request))", ..Core::new() }, CONTRACT),
        ("response-as-tensor", Core { imports: response, body: "(drop (call $size (call $response (i32.const 200) (i32.const 2048) (i32.const 1))))", ..Core::new() }, CONTRACT),
        ("dropped-response", Core { imports: response, body: "(call $drop-response (i32.const 1))", ..Core::new() }, CONTRACT),
        // Eight thousand texts that lie in one place: little memory for the guest, a gigabyte for the host.
        (
            "one-text-many-times",
            Core {
                imports: encode,
                body: "(local $i i32)
                    (loop
                        (i32.store (i32.add (i32.const 65540) (i32.mul (local.get $i) (i32.const 20))) (i32.const 2048))
                        (i32.store (i32.add (i32.const 65544) (i32.mul (local.get $i) (i32.const 20))) (i32.const 131072))
                        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 8000))))
                    (i32.store8 (i32.const 2049) (i32.const 0)) (i32.store8 (i32.const 2050) (i32.const 0))
                    (call $encode (i32.const 2048) (i32.const 1) (i32.const 65536) (i32.const 8000) (call $options)
                        (i32.const 3000))",
                ..Core::new()
            },
            CONTRACT,
        ),
        // Handles of the guest's own making never come by a host call.
        ("a-million-things", thing, CONTRACT),
    ]
}

async fn host(cases: &[(&str, Core, (u16, &str))]) -> Served {
    let mut test = TestHost::new().functions(&["empty"]);
    for (name, core, _) in cases {
        test = test.function_as("test", name, "empty");
        let folder = test.function_folder(name);
        std::fs::write(folder.join("empty.wasm"), core.component()).unwrap();
        let limits = "component = \"empty.wasm\"\n[limits]\ncpu_ms = 300\nmemory_bytes = 8388608\ntimeout_ms = 30000\n";
        std::fs::write(folder.join("function.toml"), limits).unwrap();
    }
    test.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_by_hand_hurt_only_themselves() {
    let cases = cases();
    let host = host(&cases).await;
    for (name, _, (status, code)) in cases {
        assert_eq!(host.listed(name).await["state"], "ready", "{name}: {}", host.listed(name).await);
        let answer = host.in_time(name).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{name}: {}", answer.text());
        host.all_back_to_zero().await;
        assert_eq!(host.call("empty", "").await.status, 200, "after {name}");
    }
}

/// A component by hand whose one export is a function without parameters and results.
fn export(interface: &str, function: &str) -> String {
    format!(
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $e (export "{function}" (func $f))) (export "{interface}" (instance $e)))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_do_not_fit_are_refused_by_name() {
    let import = |name: &str| format!(r#"(component (import "{name}" (instance (export "get" (func)))))"#);
    let cases = [
        ("wrong-type", export("tenon:plugin/preprocessing@1.0.0", "preprocess"), "`preprocess`"),
        ("wrong-validation", export("tenon:plugin/validation@1.0.0", "validate"), "`validate`"),
        ("wrong-policy", export("tenon:plugin/caching@1.0.0", "policy"), "`policy`"),
        ("wrong-postprocess", export("tenon:plugin/postprocessing@1.0.0", "postprocess"), "`postprocess`"),
        ("no-function", export("tenon:plugin/preprocessing@1.0.0", "process"), "without `preprocess`"),
        ("next-version", export("tenon:plugin/preprocessing@9.0.0", "preprocess"), "preprocessing@9.0.0"),
        ("other-stage", export("tenon:plugin/training@1.0.0", "train"), "tenon:plugin/training"),
        ("wrong-import", import("tenon:plugin/config@1.0.0"), "tenon:plugin/config"),
        ("web", import("wasi:http/outgoing-handler@0.2.0"), "wasi:http/outgoing-handler"),
        ("keys", import("wasi:keyvalue/store@0.2.0"), "wasi:keyvalue/store"),
        ("foreign", import("evil:host/net@1.0.0"), "evil:host/net"),
        ("bare", r#"(component (import "run" (func)))"#.to_owned(), "`run`"),
    ];
    let mut test = TestHost::new();
    for (name, text, _) in &cases {
        test = test.function_as("test", name, "empty");
        std::fs::write(test.function_folder(name).join("empty.wasm"), wat::parse_str(text).unwrap()).unwrap();
    }
    let host = test.start().await;
    for (name, _, told) in cases {
        let listed = host.listed(name).await;
        assert_eq!(listed["state"], "refused", "{name}: {listed}");
        assert!(listed["error"].as_str().unwrap().contains(told), "{name} does not tell of {told}: {listed}");
        host.call(name, "").await.is_problem(404, "function-not-found");
    }
}
