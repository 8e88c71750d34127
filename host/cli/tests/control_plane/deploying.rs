//! `tenon deploy`: what is refused here, what is sent, and how it is followed to its end.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::server::{Answer, Told, against, ok, problem, tenon};

/// A component that holds nothing, and a core module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn files(component: &[u8], manifest: &str) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, toml) = (folder.path().join("f.wasm"), folder.path().join("function.toml"));
    fs::write(&plugin, component).unwrap();
    fs::write(&toml, manifest).unwrap();
    (folder, plugin, toml)
}

/// Deploys a component that is judged by the script alone.
fn deploy(script: Vec<Answer>, further: &[&str]) -> Told {
    let (_folder, plugin, toml) = files(COMPONENT, "component = \"f.wasm\"\n");
    let arguments = ["deploy", "a/f", plugin.to_str().unwrap(), "-f", toml.to_str().unwrap(), "--no-check"];
    against(script, &[&arguments[..], further].concat())
}

fn accepted(body: &str) -> Answer {
    Answer::Json("202 Accepted", body.to_owned())
}

#[test]
fn a_deployment_is_followed_until_it_is_ready() {
    let script = vec![
        accepted(r#"{"id":"d-1","state":"queued"}"#),
        ok(r#"{"id":"d-1","state":"cases","done":1,"total":2}"#),
        ok(r#"{"id":"d-1","state":"ready","revision":3,"digest":"0123456789abcdef","promoted":false,"took_ms":1234}"#),
    ];
    let told = deploy(script, &["--why", "a & b"]);
    let expected = "a/f revision 3 is ready (digest 0123456789ab, 1.2 s)\n\
        it has no traffic yet: `tenon promote a/f 3`, or a share with `tenon traffic a/f --set`\n";
    assert_eq!((told.exit, &told.stdout[..]), (Some(0), expected), "{}", told.stderr);
    assert_eq!(told.stderr, "a/f: sending\na/f: queued\na/f: cases, 1 of 2\n");
    let sent = &told.asked[0];
    assert!(sent.starts_with("POST /admin/v1/functions/a/f/revisions?why=a%20%26%20b HTTP/1.1\r\n"), "{sent}");
    for part in [
        "ontent-type: multipart/form-data; boundary=----tenon-boundary-0\r\n",
        "name=\"manifest\"; filename=\"function.toml\"\r\ncontent-type: application/toml\r\n\r\ncomponent = \"f.wasm\"\n\r\n",
        "name=\"component\"; filename=\"f.wasm\"\r\ncontent-type: application/wasm\r\n\r\n\0asm",
    ] {
        assert!(sent.contains(part), "{part:?} in {sent:?}");
    }
    assert!(told.asked[1].starts_with("GET /admin/v1/functions/a/f/deployments/d-1 "), "{}", told.asked[1]);
}

#[test]
fn a_refusal_says_whose_fault_it_is() {
    for (code, exit) in [("case", 4), ("component", 4), ("quota", 3), ("model-not-granted", 3), ("unheard-of", 4)] {
        let refused = format!(r#"{{"id":"d-1","state":"refused","error":{{"code":"{code}","detail":"because"}}}}"#);
        let told = deploy(vec![accepted(r#"{"id":"d-1","state":"queued"}"#), ok(&refused)], &[]);
        assert_eq!((told.exit, &told.stdout[..]), (Some(exit), ""), "{}", told.stderr);
        let said = format!("error: a/f was refused: {code}: because\n  deployment d-1\n");
        assert!(told.stderr.contains(&said), "{}", told.stderr);
        let told = deploy(vec![accepted(&refused)], &["--json"]);
        assert_eq!((told.exit, &told.stderr[..]), (Some(exit), ""));
        assert!(told.stdout.starts_with(r#"{"error":{"code":"#), "{}", told.stdout);
    }
    let told = deploy(vec![problem("413 Content Too Large", "body-too-large", "too much")], &[]);
    assert_eq!(told.exit, Some(3), "{}", told.stderr);
}

#[test]
fn one_may_promote_at_once_or_not_wait() {
    let ready = r#"{"id":"d","state":"ready","revision":2,"digest":"ab","promoted":true}"#;
    let told = deploy(vec![ok(ready)], &["--promote"]);
    assert!(told.asked[0].starts_with("POST /admin/v1/functions/a/f/revisions?promote=true "), "{}", told.asked[0]);
    assert!(told.stdout.contains("it has all traffic"), "{}", told.stdout);
    let told = deploy(vec![accepted(r#"{"id":"d-1","state":"queued"}"#)], &["--no-wait"]);
    assert_eq!((told.exit, told.asked.len()), (Some(0), 1));
    assert!(told.stdout.starts_with("a/f deployment d-1 is queued\n"), "{}", told.stdout);
    let queued = || ok(r#"{"id":"d-1","state":"compiling"}"#);
    let told = deploy(vec![queued(), queued(), queued()], &["--timeout", "30ms"]);
    assert_eq!(told.exit, Some(5));
    assert!(told.stderr.contains("deployment d-1 is still compiling after 30ms"), "{}", told.stderr);
}

#[test]
fn a_look_that_fails_is_not_the_end_of_a_deployment() {
    let busy = || problem("503 Service Unavailable", "host-memory", "full");
    let ready = r#"{"id":"d-1","state":"ready","revision":2,"digest":"ab"}"#;
    let script = vec![accepted(r#"{"id":"d-1","state":"queued"}"#), busy(), ok(ready)];
    let told = deploy(script, &[]);
    assert_eq!((told.exit, told.asked.len()), (Some(0), 3), "{}", told.stderr);
    let gone = problem("404 Not Found", "deployment-not-found", "no d-1");
    let told = deploy(vec![accepted(r#"{"id":"d-1","state":"queued"}"#), gone], &[]);
    assert_eq!(told.exit, Some(3));
    assert!(told.stderr.contains("a/f was sent: `tenon functions a/f`"), "{}", told.stderr);
}

#[test]
fn a_function_is_removed() {
    let told = against(vec![Answer::Json("204 No Content", String::new())], &["undeploy", "a/f"]);
    assert_eq!(told.stdout, "a/f is gone, with all its revisions\n", "{}", told.stderr);
    assert!(told.asked[0].starts_with("DELETE /admin/v1/functions/a/f HTTP/1.1\r\n"), "{}", told.asked[0]);
}

#[test]
fn what_is_wrong_here_is_not_sent() {
    let good = "component = \"f.wasm\"\n";
    for (component, manifest, exit, part) in [
        (MODULE, good, 4, "f.wasm would be refused (not-a-component)"),
        (b"\x7fELF", good, 4, "does not begin as WebAssembly does"),
        (COMPONENT, good, 4, "exports no `preprocessing`"),
        (COMPONENT, "component = \"f.wasm\"\n[limits]\ntimeout = 3\n", 4, "function.toml would be refused"),
    ] {
        let (_folder, plugin, toml) = files(component, manifest);
        let arguments = ["deploy", "a/f", plugin.to_str().unwrap(), "-f", toml.to_str().unwrap()];
        let told = against(vec![], &arguments);
        assert_eq!(told.exit, Some(exit), "{}", told.stderr);
        assert!(told.stderr.contains(part) && told.stderr.contains("--no-check"), "{part} in {}", told.stderr);
    }
    let (_folder, plugin, toml) = files(COMPONENT, good);
    fs::File::create(&plugin).unwrap().set_len((64 << 20) + 1).unwrap();
    let large = ["deploy", "a/f", plugin.to_str().unwrap(), "-f", toml.to_str().unwrap(), "--no-check"];
    let told = against(vec![], &large);
    assert!(told.exit == Some(4) && told.stderr.contains("67108865 bytes, at most 67108864"), "{}", told.stderr);
    for wrong in [&["deploy", "a/f", "/nonexistent/f.wasm"][..], &["deploy", "a", plugin.to_str().unwrap()]] {
        assert_eq!(tenon(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}
