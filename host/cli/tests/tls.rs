//! The program against a host that speaks TLS: whom it believes, and what it says where it does not.
//!
//! The other end answers once with fixed bytes over a real handshake; its certificate signs itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n\
    {\"functions\":[]}";

fn certified(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

/// Shakes hands as the owner of `pair` and answers, where the other side still wants to know.
fn answering(pair: &CertifiedKey<KeyPair>) -> (SocketAddr, JoinHandle<()>) {
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![pair.cert.der().clone()], key).unwrap());
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
