//! Tokens of an identity provider (JWT, RFC 7519): is this one good, and for whom?
//!
//! Owns what is asked of a token. Refuses to know the provider: its keys come as a file, which somebody else keeps
//! fresh, so that a host makes no calls of its own and a provider that is down locks nobody out. Signatures are of
//! public keys only: a shared secret here could be used to make tokens, too.

mod config;
mod keys;
mod signatures;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Validation, errors::ErrorKind};
use serde_json::{Map, Value};

use super::Scopes;
pub use config::{Algorithm, Jwt};
pub use keys::KeysError;
use keys::{Key, KeyFile};

/// Providers with many claims write 2 KiB; whatever takes more is not looked at.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// A tenant's name fits in a path, a label and a folder.
const MAX_TENANT_BYTES: usize = 64;

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// For which tenant its holder acts.
    pub tenant: Arc<str>,
    /// What they may do; nothing where the token does not say.
    pub scopes: Scopes,
    /// Who they are, in the issuer's words.
    pub subject: String,
    /// When it is good no longer.
    pub expires: SystemTime,
}

/// A token is not good. Callers learn no more than that: what is wrong with it would help who forges one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct JwtError(Refusal);

impl JwtError {
    /// What is wrong, for the log only.
    pub fn reason(&self) -> &Refusal {
        &self.0
    }
}

/// What is wrong with a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Refusal {
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes")]
    Long,
    #[error("it is not a signed JWT, or not one with a signature that this host knows")]
    Malformed,
    #[error("its header demands extensions, of which none is supported")]
    Critical,
    #[error("no key has its `kid` {kid:?} and its algorithm; is the key file older than the issuer's keys?")]
    UnknownKey { kid: Option<String> },
    #[error("its signature is wrong")]
    Signature,
    #[error("it is from another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("its claim `{claim}` is missing or malformed")]
    Claim { claim: String },
    #[error("it expired {ago_s} s ago")]
    Expired { ago_s: u64 },
    #[error("it is good in {in_s} s only; are the clocks right?")]
    Early { in_s: u64 },
}

/// Tells good tokens from others.
#[derive(Debug)]
pub struct Verifier {
    config: Jwt,
    keys: KeyFile,
}

impl Verifier {
    /// Reads the keys. Here a file without a usable key is an error; one that is broken later leaves the keys as they are.
    pub fn load(config: Jwt, now: SystemTime) -> Result<Self, KeysError> {
        signatures::install();
        let keys = KeyFile::load(&config.jwks, &config.algorithms, now)?;
        Ok(Self { config, keys })
    }

    /// Whether the token is good, and what it says. May look at the key file: once a second, a microsecond; when it has
    /// changed, it is read.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, JwtError> {
        self.keys.look(&self.config.algorithms, now);
        self.claims(token, now).map_err(JwtError)
    }

    fn claims(&self, token: &str, now: SystemTime) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Long);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let keys = self.keys.current();
        let key = keys.find(header.kid.as_deref(), header.alg).ok_or_else(|| unknown_key(header.kid))?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &self.asked(key));
        let claims = decoded.map_err(|error| refusal(error.into_kind()))?.claims;
        let expires = self.in_time(&claims, now)?;
        let subject = text(&claims, "sub").filter(|subject| !subject.is_empty()).ok_or_else(|| missing("sub"))?;
        Ok(Claims { tenant: self.tenant(&claims)?, scopes: self.scopes(&claims)?, subject: subject.into(), expires })
    }

    /// What the library is to look at. Not the times: it would read the clock itself.
    fn asked(&self, key: &Key) -> Validation {
        let mut asked = Validation::new(key.algorithm);
        asked.set_required_spec_claims(&["iss", "aud", "exp"]);
        asked.set_issuer(&[&self.config.issuer]);
        asked.set_audience(&[&self.config.audience]);
        (asked.validate_exp, asked.validate_nbf) = (false, false);
        asked
    }

    fn in_time(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<SystemTime, Refusal> {
        let (expires, leeway) = (time(claims, "exp")?, Duration::from_secs(self.config.leeway_s));
        // At the very second of `exp` it is good no longer (RFC 7519, 4.1.4).
        if let Ok(ago) = now.duration_since(expires)
            && ago >= leeway
        {
            return Err(Refusal::Expired { ago_s: ago.as_secs() });
        }
        if claims.contains_key("nbf")
            && let Ok(early) = time(claims, "nbf")?.duration_since(now)
            && early > leeway
        {
            return Err(Refusal::Early { in_s: early.as_secs() });
        }
        Ok(expires)
    }

    fn tenant(&self, claims: &Map<String, Value>) -> Result<Arc<str>, Refusal> {
        let claim = &self.config.tenant_claim;
        text(claims, claim).filter(|name| is_tenant(name)).map(Arc::from).ok_or_else(|| missing(claim))
    }

    fn scopes(&self, claims: &Map<String, Value>) -> Result<Scopes, Refusal> {
        let claim = &self.config.scope_claim;
        match claims.get(claim) {
            None => Ok(Scopes::NONE),
            Some(Value::String(names)) => Ok(Scopes::known_in(names)),
            Some(Value::Array(names)) => {
                let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
                Ok(Scopes::known_in(&names.ok_or_else(|| missing(claim))?.join(" ")))
            }
            Some(_) => Err(missing(claim)),
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a str> {
    claims.get(claim)?.as_str()
}

/// Seconds since 1970, which may have a fraction. What no clock can show is malformed.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<SystemTime, Refusal> {
    let seconds = claims.get(claim).and_then(Value::as_f64).and_then(|at| Duration::try_from_secs_f64(at).ok());
    seconds.and_then(|since| UNIX_EPOCH.checked_add(since)).ok_or_else(|| missing(claim))
}

fn is_tenant(name: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: &u8| first(byte) || matches!(byte, b'-' | b'_');
    name.len() <= MAX_TENANT_BYTES && name.as_bytes().first().is_some_and(first) && name.as_bytes().iter().all(allowed)
}

fn missing(claim: &str) -> Refusal {
    Refusal::Claim { claim: claim.into() }
}

/// What the log shows of a `kid`, which anybody can send.
fn unknown_key(kid: Option<String>) -> Refusal {
    Refusal::UnknownKey { kid: kid.map(|kid| kid.chars().take(keys::MAX_KID_SHOWN).collect()) }
}

fn refusal(kind: ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => Refusal::Claim { claim },
        _ => Refusal::Malformed,
    }
}
