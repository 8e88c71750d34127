//! The program as its users run it: exit codes, what is on which stream, and the host that it becomes.
//!
//! The other end is a socket that answers once with fixed bytes, so what is tested is this program and not a host.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

/// The program with nothing of this environment that could change what it does.
fn tenon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    command
        .args(arguments)
        .env_remove("TENON_HOST")
        .env_remove("TENON_CONTROL")
        .env_remove("TENON_LIBTORCH")
        .stdin(Stdio::null());
    command
}

/// Answers one request with `answer` and gives back what was asked.
fn answering(answer: &[u8]) -> (SocketAddr, JoinHandle<String>) {
    let answer = answer.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let asked = read_request(&mut socket);
        socket.write_all(&answer).unwrap();
        asked
    });
    (address, server)
}

fn read_request(socket: &mut impl Read) -> String {
    let mut asked = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&asked).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8(asked).unwrap();
            }
        }
        let read = socket.read(&mut piece).unwrap();
        assert!(read > 0, "the request ended early: {text}");
        asked.extend_from_slice(&piece[..read]);
    }
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nx-request-id: r-1\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Runs the program against one answer; what it said, and what was asked.
fn against(answer: &[u8], arguments: &[&str]) -> (Output, String) {
    let (address, server) = answering(answer);
    let output = tenon(arguments).env("TENON_HOST", address.to_string()).output().unwrap();
    (output, server.join().unwrap())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_body_goes_out_and_its_answer_comes_back_as_they_are() {
    let bytes = [0xff, 0x00, b'x'];
    let arguments = ["invoke", "demo/echo/a b", "--data", "{\"a\": 1}", "-H", "X-Y: z", "--timeout-ms", "900"];
    let (output, asked) = against(&http("200 OK", "", &bytes), &arguments);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &bytes[..]), "{}", stderr(&output));
    let asked = asked.to_ascii_lowercase();
    assert!(asked.starts_with("post /v1/functions/demo/echo/a%20b http/1.1\r\n"), "{asked}");
    for header in ["content-type: application/json", "x-y: z", "x-tenon-timeout-ms: 900"] {
        assert!(asked.contains(header), "{header} in {asked}");
    }
    assert!(asked.ends_with("{\"a\": 1}"), "{asked}");
}

#[test]
fn a_get_has_no_body_and_json_has_everything() {
    let headers = "content-type: application/json\r\nx-process-time: 1.5\r\nserver-timing: infer;dur=1.25\r\n";
    let arguments = ["invoke", "demo/info", "--get", "--json"];
    let (output, asked) = against(&http("200 OK", headers, b"{\"ok\":true}"), &arguments);
    assert!(asked.starts_with("GET /v1/functions/demo/info HTTP/1.1\r\n"), "{asked}");
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(whole["body"]["ok"], true);
    assert_eq!(whole["timing"]["process_time_ms"], 1.5);
    assert_eq!(whole["timing"]["stages"][0]["name"], "infer");
    assert_eq!(whole["request_id"], "r-1");
}

#[test]
fn standard_input_can_be_the_body() {
    let (address, server) = answering(&http("200 OK", "", b"fine"));
    let mut command = tenon(&["invoke", "demo/echo", "-"]);
    command.env("TENON_HOST", address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"fine");
    assert!(server.join().unwrap().ends_with("from a pipe"));
}

#[test]
fn exit_codes_say_whose_fault_it_was() {
    for (status, code, exit) in [
        ("422 Unprocessable Content", "no-documents", 3),
        ("404 Not Found", "function-not-found", 3),
        ("502 Bad Gateway", "plugin-trap", 4),
        ("504 Gateway Timeout", "plugin-deadline", 4),
        ("429 Too Many Requests", "queue-full", 5),
        ("503 Service Unavailable", "draining", 5),
        ("500 Internal Server Error", "internal", 1),
    ] {
        let body = format!(r#"{{"code":"{code}","detail":"because \u001b[2J","pointer":"/a","request_id":"r-1"}}"#);
        let answer = http(status, "content-type: application/problem+json\r\n", body.as_bytes());
        let (output, _) = against(&answer, &["invoke", "demo/echo", "--data", "x"]);
        let said = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(exit), 0), "{said}");
        for part in ["error: ", code, "because", "at /a", "request id r-1", "hint: "] {
            assert!(said.contains(part), "{part:?} in {said}");
        }
        assert!(!said.contains('\u{1b}'), "{said}");
        let (output, _) = against(&answer, &["invoke", "demo/echo", "--data", "x", "--json"]);
        assert_eq!(output.status.code(), Some(exit));
        assert!(output.stdout.starts_with(b"{") && output.stderr.is_empty());
    }
}

#[test]
fn usage_is_refused_before_anything_is_sent() {
    for arguments in [
        &["invoke", "demo"][..],
        &["invoke", "demo/x", "-", "--data", "y"],
        &["invoke", "demo/x", "--header", "nonsense"],
        &["invoke", "demo/x", "--body", "/nonexistent/file"],
        &["invoke", "demo/x", "--timeout-ms", "0"],
        &["--host", "ftp://example", "models"],
        &["frobnicate"],
    ] {
        let output = tenon(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("error: "));
    }
}

#[test]
fn nobody_there_and_somebody_else_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = tenon(&["models"]).env("TENON_HOST", free.to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("nothing listens at") && stderr(&output).contains("tenon serve"));

    let (output, _) = against(b"HTTP/1.1 200 OK\r\nserver: nginx\r\ncontent-length: 0\r\n\r\n", &["models"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("is not a Tenon: status 200 OK (server: nginx)"), "{}", stderr(&output));
}

#[test]
fn lists_are_tables_and_empty_ones_say_what_to_do() {
    let json = "content-type: application/json\r\n";
    let body = br#"{"models":[{"name":"minilm","version":1,"state":"failed","error":"model.pt is damaged"}]}"#;
    let (output, asked) = against(&http("200 OK", json, body), &["models"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(asked.starts_with("GET /v1/models "));
    assert!(said.contains("minilm@1  failed") && said.contains("minilm@1 failed: model.pt is damaged"), "{said}");

    let (output, _) = against(&http("200 OK", json, br#"{"functions":[]}"#), &["functions"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("--dev-functions"));
    let (output, _) = against(&http("200 OK", json, b"[]"), &["functions"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
}

/// Runs `tenon models …` against one answer of a control plane; what it said, and what was asked.
fn ordered(answer: &[u8], arguments: &[&str]) -> (Output, String) {
    let (address, server) = answering(answer);
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("admin-token"), "tenon_admin_7\n").unwrap();
    let mut command = tenon(&[&["models"], arguments].concat());
    command.env_remove("TENON_ADMIN_TOKEN").env("TENON_CONTROL", address.to_string()).env("TENON_DATA", data.path());
    (command.output().unwrap(), server.join().unwrap())
}

#[test]
fn models_are_changed_by_the_control_plane_with_its_token() {
    let models = br#"{"models":[{"name":"m","version":1,"state":"ready","serving":false,"instances":2,"device":"cpu"},
        {"name":"m","version":2,"state":"ready","serving":true,"instances":2,"device":"cpu"}]}"#;
    let (output, asked) = ordered(&http("200 OK", "", models), &["load", "m", "--version", "2"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "m@1 ready, 2 lanes on cpu\nm@2 ready, serving, 2 lanes on cpu\n", "{}", stderr(&output));
    assert!(asked.starts_with("POST /admin/v1/models/m/load HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("authorization: bearer tenon_admin_7\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{\"version\":2}"), "{asked}");
    let (output, asked) = ordered(&http("200 OK", "", br#"{"models":[]}"#), &["unload", "m", "--force", "--json"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"models\":[]}\n");
    assert!(asked.starts_with("POST /admin/v1/models/m/unload ") && asked.ends_with("{\"force\":true}"), "{asked}");
    let problem = br#"{"code":"model-in-use","detail":"functions would be left without `m`: a/b (m)"}"#;
    let (output, _) = ordered(&http("409 Conflict", "", problem), &["unload", "m"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("a/b (m)") && stderr(&output).contains("--force"), "{}", stderr(&output));
    let (output, _) = ordered(&http("401 Unauthorized", "", br#"{"code":"unauthenticated"}"#), &["load", "m"]);
    assert!(stderr(&output).contains("--data") && !stderr(&output).contains("tenon_admin_7"), "{}", stderr(&output));
    let nobody = tenon(&["models", "load", "a/b"]).env("TENON_ADMIN_TOKEN", "t").output().unwrap();
    assert_eq!(nobody.status.code(), Some(2), "{}", stderr(&nobody));
}

#[test]
fn an_explanation_is_asked_of_the_control_plane_with_the_token() {
    let explain = |answer: &[u8], arguments: &[&str]| {
        let (address, server) = answering(answer);
        let address = address.to_string();
        let mut command = tenon(&["explain"]);
        command.args(arguments).args(["--control", &address]).env("TENON_ADMIN_TOKEN", "tenon_admin_0");
        (command.output().unwrap(), server.join().unwrap())
    };
    let json = "content-type: application/json\r\n";
    let body = br#"{"model":"minilm","version":3,"batches":[],"advice":[{"code":"no-batches","says":"No batch.","next":"Invoke."}]}"#;
    let (output, asked) = explain(&http("200 OK", json, body), &["minilm@3"]);
    assert!(asked.starts_with("GET /admin/v1/models/minilm/explain?version=3 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("uthorization: Bearer tenon_admin_0\r\n"), "{asked}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("minilm@3 on ") && said.ends_with("* No batch.\n  Invoke.\n"), "{said}");

    let problem =
        br#"{"code":"model-not-found","detail":"there is no model `x`; there are: minilm","request_id":"r-1"}"#;
    let problem = http("404 Not Found", "content-type: application/problem+json\r\n", problem);
    let (output, _) = explain(&problem, &["x", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("there are: minilm") && stderr(&output).contains("`tenon models`"), "{output:?}");

    let output = tenon(&["explain", "minilm@3", "--version", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = tenon(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// A moved pair of binaries, the host being a script that tells what it was started with.
#[cfg(unix)]
fn installed(root: &Path, version: &str) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    let (bin, torch) = (root.join("bin"), root.join("lib/tenon/libtorch/site/torch"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(torch.join("lib")).unwrap();
    fs::write(torch.join("version.py"), format!("__version__ = '{version}'\n")).unwrap();
    fs::write(torch.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::copy(env!("CARGO_BIN_EXE_tenon"), bin.join("tenon")).unwrap();
    let host = bin.join("tenon-host");
    fs::write(&host, "#!/bin/sh\necho \"$$ $LD_LIBRARY_PATH $*\"\nexit 9\n").unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(bin.join("tenon"));
    command.env_remove("TENON_LIBTORCH").env("LD_LIBRARY_PATH", "/elsewhere");
    command
}

#[cfg(unix)]
#[test]
fn serve_becomes_the_host_beside_it() {
    let root = TempDir::new().unwrap();
    let mut command = installed(root.path(), "2.11.0+cpu");
    let child = command.args(["serve", "--models", "m"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9), "the host's own exit status");
    let lib = root.path().canonicalize().unwrap().join("lib/tenon/libtorch/site/torch/lib");
    let expected = format!("{pid} {}:/elsewhere --models m\n", lib.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[cfg(unix)]
#[test]
fn serve_refuses_another_libtorch_by_name() {
    let root = TempDir::new().unwrap();
    let output = installed(root.path(), "2.10.0").arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("libtorch 2.10.0 does not fit: the host needs 2.11.0"), "{}", stderr(&output));
    fs::remove_file(root.path().join("bin/tenon-host")).unwrap();
    let output = installed(root.path(), "2.11.0").env("TENON_LIBTORCH", "/nowhere").arg("serve").output().unwrap();
    assert!(stderr(&output).contains("TENON_LIBTORCH=/nowhere holds no torch/version.py"), "{}", stderr(&output));
}
