//! Whose tokens a host takes, as it is configured.
//!
//! Owns the keys of the table, their defaults and their bounds. Refuses to know how a token is checked. Every issuer has
//! its own names for claims, so these are told; which kinds of signature are safe is not up to anybody's taste.

use std::path::PathBuf;

use serde::Deserialize;

/// Clocks that differ by more are broken, and what tolerates them would keep revoked tokens alive.
const MAX_LEEWAY_S: u64 = 300;
/// Names of issuers and audiences are URLs.
const MAX_NAME_BYTES: usize = 512;

/// Whose tokens are taken, and where in them things are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Who must have made them: `iss`.
    pub issuer: String,
    /// Whom they must be for: one of `aud`.
    pub audience: String,
    /// The file with the issuer's public keys, a JWK set. It is read again whenever it changes.
    pub jwks: PathBuf,
    /// The claim with the tenant's name.
    #[serde(default = "tenant_claim")]
    pub tenant_claim: String,
    /// The claim with the scopes: a text with spaces, or a list.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// By how much the issuer's clock may differ from ours.
    #[serde(default = "leeway_s")]
    pub leeway_s: u64,
    /// The signatures that are taken.
    #[serde(default = "Algorithm::all")]
    pub algorithms: Vec<Algorithm>,
}

fn tenant_claim() -> String {
    "tenant".into()
}

fn scope_claim() -> String {
    "scope".into()
}

fn leeway_s() -> u64 {
    30
}

/// How a token is signed. Others exist, and none is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    fn all() -> Vec<Self> {
        vec![Self::Rs256, Self::Es256, Self::EdDsa]
    }

    pub(super) fn wire(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl Jwt {
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        let names = [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("tenant_claim", &self.tenant_claim),
            ("scope_claim", &self.scope_claim),
        ];
        for (key, name) in names {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(format!("{key} must have 1 to {MAX_NAME_BYTES} bytes, not {}", name.len()));
            }
        }
        if self.jwks.as_os_str().is_empty() {
            return Err("jwks must be the path of a file with the issuer's public keys".into());
        }
        if self.leeway_s > MAX_LEEWAY_S {
            return Err(format!("leeway_s must be at most {MAX_LEEWAY_S}, not {}; set the clocks", self.leeway_s));
        }
        if self.algorithms.is_empty() {
            return Err("algorithms must have one of RS256, ES256 and EdDSA at least".into());
        }
        Ok(())
    }
}
