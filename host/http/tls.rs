//! TLS of one plane: certificate and key from two files, and from new ones when the files change.
//!
//! Connections that are open keep what they began with; a new handshake takes what is there at that moment, one atomic
//! load. A new pair that cannot be used is told in the log and changes nothing. Refuses to know what is spoken inside.

use std::{
    fmt, fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use super::server::{Phase, past};

/// How HTTP/2 and HTTP/1.1 are called when a handshake chooses.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a plane's certificate and key lie, both as PEM.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The plane's certificate, then those between it and the authority that its callers know.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Names the key that is missing from `section`.
    pub(super) fn validate(&self, section: &str) -> Result<(), String> {
        for (key, path) in [("certificate", &self.certificate), ("key", &self.key)] {
            if path.as_os_str().is_empty() {
                return Err(format!("{section}.{key} must name a PEM file"));
            }
        }
        Ok(())
    }
}

/// Why there is no TLS, or no other than before.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TlsError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{} is not the key of the certificate in {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("TLS could not be set up: {0}")]
    Setup(rustls::Error),
}

/// A plane's TLS, and what its files looked like when they were last read.
pub struct Tls {
    files: TlsFiles,
    pair: Arc<Pair>,
    server: Arc<ServerConfig>,
    seen: Print,
    /// Told at the next look if the files are still the same: two files are not replaced at once.
    complaint: Option<TlsError>,
    /// The last attempt could not even read them. That may pass without a trace in the files.
    unreadable: bool,
}

/// What tells that a file is another one: when it was written, when anything else about it changed (who may read it, too),
/// how long it is, and which it is.
type Print = [Option<(SystemTime, (i64, i64), u64, u64)>; 2];

/// The pair that new handshakes take.
struct Pair(ArcSwap<CertifiedKey>);

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pair")
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Reads certificate and key. Blocks for as long as two small files take.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let seen = print(&files);
        let pair = Arc::new(Pair(ArcSwap::from_pointee(read_pair(&files, &provider)?)));
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut server = server.map_err(TlsError::Setup)?.with_no_client_auth().with_cert_resolver(pair.clone());
        server.alpn_protocols = vec![HTTP_2.into(), HTTP_1.into()];
        Ok(Self { files, pair, server: Arc::new(server), seen, complaint: None, unreadable: false })
    }

    /// What turns a connection's bytes into a caller's.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.server.clone())
    }

    /// Looks at the files for as long as there are new handshakes.
    pub(super) async fn follow(mut self, mut phase: watch::Receiver<Phase>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = past(Phase::Serving, &mut phase) => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            self = match looked.await {
                Ok(tls) => tls,
                Err(error) => return tracing::error!("the certificate is no longer followed: {error}"),
            };
        }
    }

    /// Takes a new pair into use, where there is one.
    fn look(&mut self) {
        let now = print(&self.files);
        let certificate = self.files.certificate.display();
        let changed = std::mem::replace(&mut self.seen, now) != now;
        if changed || self.unreadable {
            match read_pair(&self.files, self.server.crypto_provider()) {
                Ok(pair) => {
                    self.pair.0.store(Arc::new(pair));
                    tracing::info!(%certificate, "new handshakes get the new certificate");
                    (self.complaint, self.unreadable) = (None, false);
                    return;
                }
                Err(error) => {
                    let unreadable = matches!(error, TlsError::Unreadable { .. });
                    // What is tried again at every look is complained of once.
                    if changed || unreadable != self.unreadable {
                        self.complaint = Some(error);
                    }
                    self.unreadable = unreadable;
                }
            }
        }
        if !changed && let Some(error) = self.complaint.take() {
            tracing::warn!(%certificate, "the new certificate is refused, the one before goes on serving: {error}");
        }
    }
}

fn print(files: &TlsFiles) -> Print {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, (file.ctime(), file.ctime_nsec()), file.len(), file.ino()))
    })
}

fn read_pair(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| not_pem(&files.certificate, &error))?;
    let wrong = |path: &Path, reason: String| TlsError::File { path: path.into(), reason };
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "has no certificate in it (PEM, `BEGIN CERTIFICATE`)".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            wrong(&files.key, "has no private key in it (PEM, `BEGIN PRIVATE KEY`; encrypted keys are not read)".into())
        }
        error => not_pem(&files.key, &error),
    })?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| wrong(&files.key, format!("has a private key that cannot be used: {error}")))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        // Kinds of keys that cannot tell are taken at their word, as rustls does.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() })
        }
        Err(error) => Err(wrong(&files.certificate, format!("has a certificate that cannot be used: {error}"))),
    }
}

/// In words of our own: the reader's quote what it stumbled over, which in a file of a private key is the key.
fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "is not PEM: a section has no `-----END …-----` on a line of its own",
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a line with `-----BEGIN` does not end in `-----`",
        pem::Error::Base64Decode(_) => "is not PEM: a section is not base64",
        pem::Error::SectionTooLarge => "is not PEM: a section is too large",
        _ => "is not PEM",
    };
    TlsError::File { path: path.into(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |reason: String| TlsError::Unreadable { path: path.into(), reason };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate and its key.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn write(folder: &Path, (certificate, key): (&str, &str)) -> TlsFiles {
        let files = TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    #[test]
    fn no_message_has_the_key_in_it() {
        let (folder, (certificate, key)) = (tempfile::tempdir().unwrap(), pair());
        let secret = key.lines().nth(1).unwrap();
        let decimal = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        let broken = [
            key.replace('\n', " "),
            key.replace('\n', "\\n"),
            key.replacen("-----\n", "", 1),
            key.replace("-----END", "-----STOP"),
            format!("-----BEGIN {secret}\n{key}"),
            key.replacen(secret, &format!("?{secret}"), 1),
        ];
        for key in broken {
            let refused = Tls::load(write(folder.path(), (&certificate, &key))).err();
            let Some(refused) = refused else { panic!("taken: {key}") };
            let told = format!("{refused} {refused:?}");
            assert!(told.contains("key.pem"), "{told}");
            for part in secret.as_bytes().chunks_exact(8).map(|part| std::str::from_utf8(part).unwrap()) {
                assert!(!told.contains(part) && !told.contains(&decimal(part)), "{told}");
            }
        }
    }

    #[test]
    fn what_could_not_be_read_is_tried_again_and_complained_of_once() {
        let (folder, (old, new)) = (tempfile::tempdir().unwrap(), (pair(), pair()));
        let mut tls = Tls::load(write(folder.path(), (&old.0, &old.1))).unwrap();
        let shown = |tls: &Tls| tls.pair.0.load().cert[0].to_vec();
        let before = shown(&tls);
        fs::remove_file(&tls.files.key).unwrap();
        tls.look();
        assert!(tls.unreadable && tls.complaint.is_some(), "not told yet: the files may be on their way");
        tls.look();
        tls.look();
        assert!(tls.unreadable && tls.complaint.is_none(), "told");
        assert_eq!(shown(&tls), before);
        write(folder.path(), (&new.0, &new.1));
        // As if the files had been like this when they could not be read.
        tls.seen = print(&tls.files);
        tls.look();
        assert!(!tls.unreadable && shown(&tls) != before);
    }
}
