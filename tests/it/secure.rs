//! TLS as a caller speaks it: certificates that sign themselves, connections that believe exactly the named ones, and
//! requests over them by HTTP/1.1 and HTTP/2. Knows nothing of a host but its addresses.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::{raw::Raw, support::Answer};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate for this machine, signed by its own key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

impl Pair {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    /// Puts both files in their place, each whole, one after the other.
    pub fn write(&self, folder: &Path) {
        place(&folder.join("certificate.pem"), &self.certificate);
        place(&folder.join("key.pem"), &self.key);
    }
}

/// Writes a file under another name, then gives it its own.
pub fn place(path: &Path, text: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).unwrap();
    std::fs::rename(partial, path).unwrap();
}

/// Connects to `https://address`, believing `pairs` alone and offering these protocols.
pub async fn connect(base: &str, pairs: &[&Pair], protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.der.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(base.strip_prefix("https://").expect("TLS")).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, connected).await.expect("a handshake ends")
}

/// One request by HTTP/1.1 on a connection of its own.
pub async fn get(base: &str, pair: &Pair, head: &str) -> Answer {
    let mut raw = Raw::over(connect(base, &[pair], &["http/1.1"]).await.unwrap());
    raw.send(format!("GET {head}\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await;
    raw.answer().await.expect("an answer")
}

/// One request by HTTP/2 on a connection of its own.
pub async fn get_http_2(base: &str, pair: &Pair, path: &str, headers: HeaderMap) -> Answer {
    let stream = connect(base, &[pair], &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = http::Request::get(format!("https://localhost{path}")).body(()).unwrap();
    *request.headers_mut() = headers;
    let (response, _) = client.send_request(request, true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, read(response.await.unwrap())).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    answer
}

/// Reads an answer of HTTP/2 to its end.
pub async fn read(response: http::Response<h2::RecvStream>) -> Answer {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece: Bytes = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}
