//! The program against a host that speaks TLS: whom it believes, and what it says where it does not.
//!
//! The other end answers once with fixed bytes over a real handshake, or, where `tenon bench` drives it, as a server does
//! that speaks both versions of HTTP; its certificate signs itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n\
    {\"functions\":[]}";

fn certified(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

/// TLS as the owner of `pair`.
fn owning(pair: &CertifiedKey<KeyPair>) -> ServerConfig {
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    config.with_single_cert(vec![pair.cert.der().clone()], key).unwrap()
}

/// Shakes hands as the owner of `pair` and answers, where the other side still wants to know.
fn answering(pair: &CertifiedKey<KeyPair>) -> (SocketAddr, JoinHandle<()>) {
    let config = Arc::new(owning(pair));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
            stream.write_all(ANSWER).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    (address, server)
}

fn tenon(host: &str, authority: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    command.args(["functions", "--json", "--host", host]).env_remove("TENON_HOST").env_remove("TENON_CA");
    if let Some(file) = authority {
        command.env("TENON_CA", file);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

fn write(folder: &Path, name: &str, pair: &CertifiedKey<KeyPair>) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, pair.cert.pem()).unwrap();
    file
}

#[test]
fn a_host_is_believed_on_the_word_of_the_named_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, stranger) = (certified("localhost"), certified("gpu-1.example"));
    let (ca, other) = (write(folder.path(), "ca.pem", &pair), write(folder.path(), "other.pem", &stranger));
    for (name, authority, exit, told) in [
        ("localhost", Some(&ca), 0, ""),
        ("localhost", None, 6, "--ca"),
        ("localhost", Some(&other), 6, "not believed"),
        ("127.0.0.1", Some(&ca), 6, "another name"),
    ] {
        let (address, server) = answering(&pair);
        let host = format!("https://{name}:{}", address.port());
        let output = tenon(&host, authority.map(PathBuf::as_path));
        server.join().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{name} {authority:?}: {said}");
        assert!(said.contains(told) && (exit == 0 || said.contains(&host)), "{said}");
    }
}

#[test]
fn a_host_without_tls_and_a_file_without_certificates_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let output = tenon(&host, None);
    server.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(6) && said.contains("does not speak TLS"), "{said}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let output = tenon(&host, Some(file.path()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("no certificate"), "{said}");
}

/// A server that never ends and speaks what ALPN agrees on; 400 is for requests of another version of HTTP.
fn serving(pair: &CertifiedKey<KeyPair>, protocols: &[&[u8]]) -> SocketAddr {
    async fn answer(request: Request<Incoming>, agreed: Version) -> Result<Response<String>, hyper::Error> {
        let status = if request.version() == agreed { 200 } else { 400 };
        Ok(Response::builder().status(status).body("hello".to_owned()).unwrap())
    }
    let mut config = owning(pair);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (send, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let agreed = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        Version::HTTP_2
                    } else {
                        Version::HTTP_11
                    };
                    let (stream, service) = (TokioIo::new(stream), service_fn(move |asked| answer(asked, agreed)));
                    let _ = if agreed == Version::HTTP_2 {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                    } else {
                        http1::Builder::new().serve_connection(stream, service).await
                    };
                });
            }
        });
    });
    address.recv().unwrap()
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    command.args(["bench", "--json", "-", "-n", "60"]).args(arguments);
    command.env_remove("TENON_HOST").env_remove("TENON_CA").env_remove("TENON_KEY").stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn both_versions_of_http_are_driven_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pair = certified("127.0.0.1");
    let ca = write(folder.path(), "ca.pem", &pair);
    let address = serving(&pair, &[b"h2", b"http/1.1"]);
    let (host, url) = (format!("https://{address}"), format!("https://{address}/x"));
    let function = format!("{host}/v1/functions/demo/echo");
    for (target, http, asked) in [
        (&["demo/echo", "--host", &host, "-c", "3"][..], "1.1", &function),
        (&["demo/echo", "--host", &host, "-c", "3", "--http2"], "2", &function),
        (&[&url, "-c", "1,3"], "1.1", &url),
        (&[&url, "--http2", "--rate", "300", "--max-in-flight", "3"], "2", &url),
    ] {
        let output = bench(&[target, &["--ca", ca.to_str().unwrap()]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let saved: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let cell = &saved["cells"][0];
        assert_eq!((&cell["statuses"]["200"], &cell["errors"]), (&60.into(), &0.into()), "{target:?}: {cell}");
        assert!(cell["connections"].as_u64().is_some_and(|made| (1..=3).contains(&made)), "{target:?}: {cell}");
        assert_eq!((&saved["target"]["http"], &saved["target"]["url"]), (&http.into(), &asked[..].into()));
    }
}

#[test]
fn a_bench_of_somebody_who_is_not_believed_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, stranger) = (certified("127.0.0.1"), certified("gpu-1.example"));
    let (ca, other) = (write(folder.path(), "ca.pem", &pair), write(folder.path(), "other.pem", &stranger));
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let without_tls = plain.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = plain.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let (known, elsewhere) = (serving(&pair, &[b"http/1.1"]), serving(&stranger, &[]));
    let (ca, other) = (["--ca", ca.to_str().unwrap()], ["--ca", other.to_str().unwrap()]);
    for (address, arguments, told) in [
        (known, &[][..], "an authority that is not known here"),
        (elsewhere, &other, "another name"),
        (known, &[ca[0], ca[1], "--http2"], "does not speak this version of HTTP"),
        (elsewhere, &ca, "not believed"),
        (without_tls, &ca, "does not speak TLS"),
    ] {
        let output = bench(&[&[&format!("https://{address}/x")[..]], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(6), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.matches(told).count() == 1, "{told}: {said}");
        assert!(said.contains(&format!("https://{address}")), "{said}");
    }
    server.join().unwrap();
}
