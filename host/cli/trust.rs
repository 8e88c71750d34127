//! Whom to believe that a host is the one that was asked: the authorities that everybody knows, or those of a file.
//!
//! It reads certificates and says why a connection was not trusted; it knows nothing of what is asked. There is no way
//! to believe everybody: whoever has the host's certificate can name it, and needs no such way.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore, crypto};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::failure::{Exit, Failure};

/// The largest file of certificates that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whom to believe.
#[derive(Clone, Debug)]
pub(crate) struct Trust(RootCerts);

impl Default for Trust {
    /// The authorities that browsers know.
    fn default() -> Self {
        Self(RootCerts::WebPki)
    }
}

impl Trust {
    /// Reads the certificates of a PEM file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |reason: String| {
            Failure::new(Exit::Usage, format!("cannot use {} as certificates: {reason}", path.display()))
                .hint("give a PEM file of the authority's certificates with --ca or TENON_CA")
        };
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
        read.map_err(|error| refuse(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(refuse(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let mut certificates = Vec::new();
        for item in parse_pem(&text) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| refuse(error.to_string()))? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(refuse("there is no certificate in it".to_owned()));
        }
        Ok(Self(RootCerts::new_with_certs(&certificates)))
    }

    /// As the client wants it.
    pub(crate) fn tls(&self) -> TlsConfig {
        TlsConfig::builder().root_certs(self.0.clone()).build()
    }

    /// The same for connections that somebody else makes, to speak `protocol` (its name in ALPN) over them.
    pub(crate) fn client(&self, protocol: &[u8]) -> Result<ClientConfig, Failure> {
        let mut roots = RootCertStore::empty();
        match &self.0 {
            // What is no certificate of an authority is left out, as ureq does it: then nobody is believed on its word.
            RootCerts::Specific(given) => {
                roots.add_parsable_certificates(given.iter().map(|given| CertificateDer::from(given.der())));
            }
            _ => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(Exit::Tenon, format!("TLS could not be set up: {error}")))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// What a failed question says about TLS, where that is why it failed.
pub(crate) fn failure(error: &ureq::Error, base: &str) -> Option<Failure> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<TlsError>()?,
        _ => return None,
    };
    Some(told(error, base))
}

/// What a handshake that failed says.
pub(crate) fn handshake(error: &io::Error, base: &str) -> Failure {
    match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
        Some(error) => told(error, base),
        None => Failure::new(Exit::Environment, format!("no TLS connection to {base}: {error}"))
            .hint("check the address and the port, and whether TLS is spoken there"),
    }
}

fn told(error: &TlsError, base: &str) -> Failure {
    let failure = |message: String| Failure::new(Exit::Environment, message);
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => failure(format!(
            "the certificate of {base} is from an authority that is not known here"
        ))
        .hint("give that authority's certificate (or the host's own, if it signed itself) with --ca or TENON_CA"),
        TlsError::InvalidCertificate(
            reason @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => failure(format!("the certificate of {base} is for another name: {reason}"))
            .hint("ask by a name or address that is in the certificate (subjectAltName)"),
        TlsError::InvalidCertificate(reason) => failure(format!("the certificate of {base} is not believed: {reason}"))
            .hint("look at it with `openssl x509 -noout -text`; the host takes a new one without a restart"),
        TlsError::InvalidMessage(_) => {
            failure(format!("what answers at {base} does not speak TLS")).hint("try http:// instead, or check the port")
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            failure(format!("{base} and this program have no kind of TLS in common: {error}"))
                .hint("hosts and clients of Tenon speak TLS 1.2 and 1.3")
        }
        TlsError::NoApplicationProtocol | TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            failure(format!("what answers at {base} does not speak this version of HTTP over TLS"))
                .hint("ask for the other one: with --http2, or without it")
        }
        error => failure(format!("no TLS connection to {base}: {error}")).hint("check the address and the port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for (text, part) in [("", "no certificate in it"), ("-----BEGIN CERTIFICATE-----\n???", "PEM")] {
            std::fs::write(&file, text).unwrap();
            let failure = Trust::read(&file).expect_err(text);
            assert!(failure.message.contains("ca.pem") && failure.message.contains(part), "{failure}");
        }
        assert!(Trust::read(&folder.path().join("gone.pem")).is_err());
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, pair.cert.pem()).unwrap();
        assert!(Trust::read(&file).is_ok());
    }
}
