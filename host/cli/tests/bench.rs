//! `tenon bench` as its users run it, against servers that do on purpose what a bench must not hide: stall, refuse, close
//! connections.
//!
//! The servers are in `bench_server`, interrupts in `bench_interrupt.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod bench_server;

use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bench_server::{http, ms, serving, tenon, wait};
use serde_json::Value;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs against a server and reads what was measured.
fn measured(address: SocketAddr, arguments: &[&str]) -> (Value, Output) {
    let url = format!("http://{address}/x");
    let output = tenon(&[&[url.as_str(), "--json", "-"], arguments].concat()).output().unwrap();
    let saved = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    (saved, output)
}

#[test]
fn every_client_sends_its_share_of_a_matrix() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let address = serving(move |asked| {
        log.lock().unwrap().push(asked.clone());
        http("200 OK", "", "1234567")
    });
    let folder = tempfile::tempdir().unwrap();
    let bodies = folder.path().join("bodies.jsonl");
    fs::write(&bodies, "{\"n\":1}\n\n{\"n\":2}\n{\"n\":3}\n").unwrap();
    let arguments = ["--clients", "1,3", "-n", "60", "--jsonl", bodies.to_str().unwrap(), "--key", "k", "-H", "X-Y: z"];
    let (saved, output) = measured(address, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((&saved["format"], &saved["target"]["bodies"]), (&"tenon-bench/1".into(), &3.into()));
    for (cell, clients) in saved["cells"].as_array().unwrap().iter().zip([1, 3]) {
        let figures =
            ["clients", "requests", "errors", "connections", "bytes_in"].map(|name| cell[name].as_u64().unwrap());
        assert_eq!(figures, [clients, 60, 0, clients, 420]);
        assert_eq!(cell["statuses"]["200"], 60);
        assert!(ms(cell, "p50") > 0.0 && ms(cell, "p50") <= ms(cell, "p99") && ms(cell, "p99") <= ms(cell, "max"));
        assert!(cell["requests_per_second"].as_f64().unwrap() > 0.0);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 120);
    assert!(seen.iter().all(|(head, _)| head.starts_with("post /x http/1.1\r\n")), "{:?}", seen[0]);
    for header in ["x-y: z\r\n", "authorization: bearer k\r\n", "content-type: application/json\r\n"] {
        assert!(seen.iter().all(|(head, _)| head.contains(header)), "{header} in {:?}", seen[0]);
    }
    // The first cell's one client sends the lines in turn.
    let first: Vec<_> = seen[..4].iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(first, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":1}"]);
}

/// A server that stalls once, for everybody, for a second.
fn stalling() -> SocketAddr {
    const BEFORE: Duration = Duration::from_millis(500);
    const STALL: Duration = Duration::from_secs(1);
    let began = Mutex::new(None);
    serving(move |_| {
        let began = *began.lock().unwrap().get_or_insert_with(Instant::now);
        let passed = began.elapsed();
        if (BEFORE..BEFORE + STALL).contains(&passed) {
            wait(BEFORE + STALL - passed);
        }
        http("200 OK", "", "")
    })
}

#[test]
fn a_stall_is_charged_for_everybody_who_would_have_come() {
    // The same server as a closed loop sees it: one slow answer among thousands.
    let closed = thread::spawn(|| {
        let (saved, _) = measured(stalling(), &["--clients", "1", "--duration", "2500ms"]);
        let closed = &saved["cells"][0];
        assert!(ms(closed, "max") > 850.0 && ms(closed, "p90") < 500.0, "{closed}");
    });
    // Two connections: most of what is due during the stall finds none free, and its wait counts all the same.
    let (saved, _) = measured(stalling(), &["--rate", "100", "--duration", "2500ms", "--max-in-flight", "2"]);
    let open = &saved["cells"][0];
    assert_eq!((open["requests"].as_u64(), open["errors"].as_u64()), (Some(250), Some(0)), "{open}");
    // 100 of 250 requests were due in the stall and waited for between nothing and a second.
    assert!(ms(open, "p90") > 500.0 && ms(open, "p99") > 850.0, "{open}");
    assert!(open["held_back"].as_u64().unwrap() > 50, "{open}");
    closed.join().unwrap();
}

#[test]
fn what_could_not_begin_in_time_is_counted_and_not_forgotten() {
    let address = serving(|_| {
        wait(Duration::from_millis(100));
        http("200 OK", "", "")
    });
    let arguments = ["--rate", "200", "--duration", "1s", "--max-in-flight", "2", "--max-errors", "0.5"];
    let (saved, output) = measured(address, &arguments);
    let cell = &saved["cells"][0];
    let missed = cell["missed"]["not-started"].as_u64().unwrap();
    assert_eq!(cell["requests"], 200, "all that were due: {cell}");
    assert!(missed >= 150 && cell["errors"].as_u64() == Some(missed), "two at a time, ten a second: {cell}");
    assert!(ms(cell, "p50") > 200.0, "those that wait longest are the slowest: {cell}");
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("more than 0.5 of them") && stderr(&output).contains("not-started"));
}

#[test]
fn refusals_have_their_codes_and_clients_wait_as_told() {
    let problem = r#"{"code":"queue-full"}"#;
    let headers = "content-type: application/problem+json\r\nretry-after: 1\r\n";
    let address = serving(move |_| http("429 Too Many Requests", headers, problem));
    let (saved, output) = measured(address, &["--clients", "2", "-n", "4", "--honour-retry-after"]);
    let cell = &saved["cells"][0];
    assert_eq!((&cell["requests"], &cell["errors"]), (&4.into(), &4.into()), "{cell}");
    assert!(cell["seconds"].as_f64().unwrap() >= 1.0, "two at once, two a second later: {cell}");
    assert_eq!((&cell["statuses"]["429"], &cell["codes"]["queue-full"]), (&4.into(), &4.into()));
    assert!(cell["latency_ms"].is_null() && cell["error_latency_ms"]["p50"].as_f64().is_some());
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("none of 4 requests succeeded") && stderr(&output).contains("queue-full"));
}

#[test]
fn a_server_that_closes_connections_loses_none() {
    let address = serving(|_| http("200 OK", "connection: close\r\n", "x"));
    let (saved, output) = measured(address, &["--clients", "2", "-n", "40"]);
    let cell = &saved["cells"][0];
    assert_eq!((&cell["errors"], &cell["connections"]), (&0.into(), &40.into()), "{cell}");
    assert_eq!(output.status.code(), Some(0));
    let address = serving(|_| "nonsense\r\n\r\n".to_owned());
    let (saved, output) = measured(address, &["--clients", "2", "-n", "4"]);
    assert_eq!(saved["cells"][0]["missed"]["connection-lost"], 4, "{saved}");
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn timeouts_and_limits_fail_a_run() {
    let address = serving(|_| {
        wait(Duration::from_millis(300));
        http("200 OK", "", "")
    });
    let (saved, output) = measured(address, &["--clients", "1", "-n", "2", "--timeout", "100ms"]);
    assert_eq!(saved["cells"][0]["missed"]["timeout"], 2, "{saved}");
    assert!(ms(&saved["cells"][0], "p50") >= 99.0, "a wait in vain is a wait: {saved}");
    assert_eq!(output.status.code(), Some(5));
    let (_, output) = measured(address, &["--clients", "1", "-n", "2", "--fail-if", "p99>100ms"]);
    assert_eq!(output.status.code(), Some(5));
    let said = stderr(&output);
    let found = said.split_once("1 client: p99 is ").and_then(|(_, rest)| rest.split_once(" ms, over 100 ms"));
    assert!(found.is_some_and(|(ms, _)| ms.parse::<f64>().unwrap() >= 299.0), "{said}");
}

#[test]
fn saved_runs_are_compared_and_drawn() {
    let address = serving(|_| http("200 OK", "", ""));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let url = format!("http://{address}/<x>");
    let url = url.replace('<', "%3C").replace('>', "%3E");
    let (old, new, once, page) = (file("old.json"), file("new.json"), file("once.json"), file("page.html"));
    for (path, repeat) in [(&old, "3"), (&new, "3"), (&once, "1")] {
        let arguments =
            [url.as_str(), "--clients", "1,2", "-n", "50", "--repeat", repeat, "--json", path, "--report", &page];
        let output = tenon(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains("CLIENTS") && table.contains("P99.9") && output.stderr.is_empty(), "{table}");
    }
    let saved: Value = serde_json::from_slice(&fs::read(&old).unwrap()).unwrap();
    assert_eq!(saved["cells"][1]["repetitions"].as_array().unwrap().len(), 3);
    assert_eq!(saved["cells"][1]["requests"], 150);

    let output = tenon(&["--compare", &old, &new]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("2 clients") && said.contains('×') && !said.contains("--repeat"), "{said}");
    // A run against itself is the same in every figure.
    let output = tenon(&["--compare", &old, &old, "--json", "-"]).output().unwrap();
    let same: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pair = &same["cells"][0]["requests_per_second"];
    assert_eq!((&pair["ratio"], &pair["meaning"]), (&1.0.into(), &"within-noise".into()), "{same}");
    let output = tenon(&["--compare", &old, &once]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("measure both with --repeat"));

    let page = fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("90 %"));
    for fetched in ["<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

#[test]
fn http_2_is_spoken_where_it_is_asked_for() {
    use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    async fn hello(request: Request<Incoming>) -> Result<Response<String>, hyper::Error> {
        let there = request.version() == hyper::Version::HTTP_2 && request.uri().path() == "/x";
        Ok(Response::builder().status(if there { 200 } else { 400 }).body("hello".to_owned()).unwrap())
    }
    let (send, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let socket = TokioIo::new(listener.accept().await.unwrap().0);
                let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(socket, service_fn(hello));
                tokio::spawn(serving);
            }
        });
    });
    let address = address.recv().unwrap();
    let (saved, output) = measured(address, &["--http2", "--clients", "3", "-n", "90"]);
    let cell = &saved["cells"][0];
    assert_eq!((&cell["statuses"]["200"], &cell["connections"]), (&90.into(), &3.into()), "{}", stderr(&output));
    assert_eq!(saved["target"]["http"], "2");
}

#[test]
fn the_variables_key_goes_to_the_host_alone() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let address = serving(move |asked| {
        log.lock().unwrap().push(asked.0.clone());
        http("200 OK", "", "")
    });
    let (host, url) = (format!("http://{address}"), format!("http://{address}/v1/functions/demo/x"));
    for (arguments, key) in [
        (&["demo/x", "--host", &host][..], Some("variable")),
        (&["demo/x", "--host", &host, "--key", "flag"], Some("flag")),
        (&[&url], None),
        (&[&url, "--key", "flag"], Some("flag")),
    ] {
        let output = tenon(&[arguments, &["-n", "1"]].concat()).env("TENON_KEY", "variable").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let head = seen.lock().unwrap().pop().unwrap();
        let sent = head.lines().find_map(|line| line.strip_prefix("authorization: bearer "));
        assert_eq!(sent, key, "{arguments:?}");
    }
}

#[test]
fn credentials_in_an_address_are_refused_and_not_repeated() {
    for arguments in [&["http://me:secret@127.0.0.1:1/x"][..], &["demo/x", "--host", "http://secret@127.0.0.1:1"]] {
        let output = tenon(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--key") && said.contains("--header") && !said.contains("secret"), "{said}");
    }
}

#[test]
fn usage_is_refused_before_anything_is_sent() {
    for (arguments, exit, part) in [
        (&["demo/x", "--clients", "0"][..], 2, "--clients"),
        (&["demo/x", "--clients", "10001"], 2, "10000"),
        (&["demo/x", "--clients", "1", "--rate", "1"], 2, "--rate"),
        (&["demo/x", "--rate", "-1"], 2, "-1"),
        (&["demo/x", "--rate", "1e-300"], 2, "0.001"),
        (&["demo/x", "--rate", "nan"], 2, "0.001"),
        (&["demo/x", "--duration", "fast"], 2, "write 10s"),
        (&["demo/x", "--data", "x", "--body", "y"], 2, "--body"),
        (&["demo/x", "--jsonl", "/nonexistent/file"], 2, "/nonexistent/file"),
        (&["demo/x", "--shuffle", "1"], 2, "--jsonl"),
        (&["demo/x", "--fail-if", "p98>1s"], 2, "p99.9"),
        (&["ftp://x/"], 2, "only http://"),
        (&["--compare", "/nonexistent/a", "/nonexistent/b"], 2, "/nonexistent/a"),
        (&[], 2, "TARGET"),
        (&["http://127.0.0.1:1/"], 6, "nothing listens at 127.0.0.1:1"),
    ] {
        let output = tenon(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("error: ") && stderr(&output).contains(part),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}
