//! Who calls: a bearer token becomes a [`Caller`], and a caller may ask for a function or not.
//!
//! Owns the order in which tokens are tried and the rules of the data plane. Refuses to know headers, and what operators
//! and tenants may order: that is a table of the control plane.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use serde::Deserialize;

use crate::{
    access::{
        Caller, Scope, Token,
        jwt::{self, Jwt, Verifier},
        key::Presented,
    },
    registry::Registry,
};

use super::{Call, orders::now_ms};

/// What is asked of callers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Whether every request of the data plane needs a key or token. Without it, whoever reaches the data plane may call
    /// every function.
    pub required: bool,
    /// Whether the data plane may be open to a network without keys. Only said where something else keeps others out.
    pub open_to_network: bool,
    /// Tokens of an identity provider, beside keys.
    pub jwt: Option<Jwt>,
}

impl AuthConfig {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        self.jwt.as_ref().map_or(Ok(()), |jwt| jwt.validate().map_err(|error| format!("auth.jwt.{error}")))
    }

    /// Whether a data plane may listen there: what others can reach asks for keys, unless somebody insists.
    pub fn suits(&self, listen: SocketAddr) -> Result<(), String> {
        if listen.ip().is_loopback() || self.required || self.open_to_network {
            return Ok(());
        }
        Err(format!(
            "http.listen is {listen}, which others can reach, and nobody would have to say who they are: set \
             auth.required = true and make keys with `tenon keys`, or auth.open_to_network = true if something else \
             keeps others out"
        ))
    }
}

/// Why somebody is not let in. Neither tells whether what was asked for exists.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum AccessError {
    #[error("send `authorization: Bearer` with a key or token")]
    Missing,
    #[error("the key or token is not valid here, or not any more")]
    Invalid,
    #[error("this key may not do that: {0}")]
    Forbidden(&'static str),
}

/// Knows everybody.
pub struct Identity {
    required: bool,
    operator: Token,
    registry: Arc<Registry>,
    tokens: Option<Verifier>,
}

impl Identity {
    /// `operator` is the host's own token.
    pub fn new(config: &AuthConfig, operator: Token, registry: Arc<Registry>) -> Result<Self, jwt::KeysError> {
        let tokens = config.jwt.clone().map(|jwt| Verifier::load(jwt, SystemTime::now())).transpose()?;
        Ok(Self { required: config.required, operator, registry, tokens })
    }

    /// What a start would find wrong with the files that a configuration names.
    pub fn check(config: &AuthConfig) -> Result<(), jwt::KeysError> {
        config.jwt.clone().map_or(Ok(()), |jwt| Verifier::load(jwt, SystemTime::now()).map(drop))
    }

    /// Whether callers must say who they are.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Who sends this bearer token.
    pub fn identify(&self, bearer: Option<&str>) -> Result<Caller, AccessError> {
        let bearer = bearer.ok_or(AccessError::Missing)?;
        if self.operator.is(bearer) {
            return Ok(Caller::operator("operator"));
        }
        if Presented::is_meant(bearer) {
            return Presented::parse(bearer).and_then(|presented| self.holder(&presented)).ok_or(AccessError::Invalid);
        }
        let Some(tokens) = &self.tokens else { return Err(AccessError::Invalid) };
        match tokens.verify(bearer, SystemTime::now()) {
            Ok(claims) => Ok(Caller::of_claims(&claims)),
            Err(error) => {
                tracing::debug!("a token was refused: {}", error.reason());
                Err(AccessError::Invalid)
            }
        }
    }

    fn holder(&self, presented: &Presented) -> Option<Caller> {
        let state = self.registry.state();
        let key = state.keys.get(presented.id.as_str())?;
        // Compared whether or not it has ended, and in constant time.
        let same = key.hash == presented.hash;
        if !same || key.expired(now_ms()) {
            return None;
        }
        Some(match &key.tenant {
            Some(tenant) => Caller::of_key(tenant.as_str().into(), key.scopes, presented),
            None => Caller::operator(&key.id),
        })
    }

    /// Who calls on the data plane. Where nobody must say who they are, a token that is not known says nothing: clients
    /// of other services send some as a habit.
    pub fn caller(&self, bearer: Option<&str>) -> Result<Caller, AccessError> {
        match self.identify(bearer) {
            Err(error) if self.required => Err(error),
            caller => Ok(caller.unwrap_or(Caller::Anonymous)),
        }
    }

    /// Whether a call may be made.
    pub fn may_call(&self, call: &Call) -> Result<(), AccessError> {
        if !self.required {
            return Ok(());
        }
        if !call.caller.may_for(&call.tenant, Scope::Invoke) {
            return Err(AccessError::Forbidden("it needs the scope `invoke`, of the tenant whose function it is"));
        }
        // What is out of traffic is for those who may put it there.
        if call.revision.is_some() && !call.caller.may_for(&call.tenant, Scope::Deploy) {
            return Err(AccessError::Forbidden("a revision by its number needs the scope `deploy`"));
        }
        Ok(())
    }

    /// Whether models may be asked without a function between, and in whose name: that of the caller's tenant.
    pub fn may_ask(&self, caller: &Caller) -> Result<(), AccessError> {
        match !self.required || caller.may(Scope::Invoke) {
            true => Ok(()),
            false => Err(AccessError::Forbidden("it needs the scope `invoke`")),
        }
    }

    /// Whether a caller sees what is this tenant's.
    pub fn sees(&self, caller: &Caller, tenant: &str) -> bool {
        !self.required || caller.tenant().map_or(matches!(caller, Caller::Operator { .. }), |own| own == tenant)
    }
}
