//! Checks signatures with *ring*, which the host's TLS uses already.
//!
//! Owns the step from the JWT library's keys to *ring*'s. Refuses to sign. The library's own choices would bring forty
//! crates with a second implementation of everything, or one that needs a C build.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error as Wrong, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library use it.
pub(super) fn install() {
    // An error says that one is installed already: this one, by an earlier verifier.
    let _ = PROVIDER.install_default();
}

struct Checks {
    algorithm: Algorithm,
    key: Public,
}

enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Bytes(&'static dyn VerificationAlgorithm, Vec<u8>),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let key = match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => Public::Rsa { n: n.clone(), e: e.clone() },
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
            Public::Bytes(&ECDSA_P256_SHA256_FIXED, point.clone())
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => Public::Bytes(&ED25519, point.clone()),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(Checks { algorithm: *algorithm, key }))
}

impl JwtVerifier for Checks {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Checks {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Wrong> {
        let checked = match &self.key {
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Public::Bytes(algorithm, key) => UnparsedPublicKey::new(*algorithm, key).verify(message, signature),
        };
        checked.map_err(|_| Wrong::new())
    }
}
