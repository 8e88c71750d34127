//! Scopes: what a key or a token lets its holder do.
//!
//! Owns their names and sets of them. Refuses to know whose they are. A set is a byte, so that it is copied with every
//! request; written out it is a list of names, so that files and answers can be read.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that somebody may do for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Call its functions.
    Invoke,
    /// Put revisions of its functions there and move their traffic.
    Deploy,
    /// Make and revoke its keys.
    Admin,
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

/// A name that no scope has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such scope; the scopes are invoke, deploy and admin")]
pub struct UnknownScope;

impl Scope {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Invoke, Self::Deploy, Self::Admin];

    /// The name in files, answers and tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(scope.bit())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or(UnknownScope)
    }
}

impl Scopes {
    /// None: whoever holds these may nothing.
    pub const NONE: Self = Self(0);

    /// Whether this one is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// Those of a text that are ours. Tokens carry the scopes of others too (`openid`, `profile`), which say nothing here.
    pub(super) fn known_in(text: &str) -> Self {
        split(text).filter_map(|name| name.parse().ok()).collect()
    }
}

/// Names apart by spaces, as OAuth writes them, or commas, as people type them.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|name| !name.is_empty())
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        split(text).map(str::parse).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            write!(to, "{}{}", if index == 0 { "" } else { " " }, scope.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written() {
        for (text, written, json) in [
            ("", "", "[]"),
            (" , ", "", "[]"),
            ("invoke", "invoke", r#"["invoke"]"#),
            ("deploy invoke", "invoke deploy", r#"["invoke","deploy"]"#),
            ("admin,deploy, invoke", "invoke deploy admin", r#"["invoke","deploy","admin"]"#),
            ("deploy deploy", "deploy", r#"["deploy"]"#),
        ] {
            let scopes: Scopes = text.parse().unwrap();
            assert_eq!(scopes.to_string(), written, "{text}");
            assert_eq!(serde_json::to_string(&scopes).unwrap(), json, "{text}");
            assert_eq!(serde_json::from_str::<Scopes>(json).unwrap(), scopes, "{text}");
        }
    }

    #[test]
    fn a_name_that_no_scope_has_is_refused_in_keys_and_passed_over_in_tokens() {
        for text in ["Invoke", "invoke;deploy", "openid", "invoke openid", "*"] {
            assert_eq!(text.parse::<Scopes>(), Err(UnknownScope), "{text}");
        }
        assert!(serde_json::from_str::<Scopes>(r#"["invoke","all"]"#).is_err());
        assert_eq!(Scopes::known_in("openid invoke Deploy profile").to_string(), "invoke");
    }

    #[test]
    fn none_are_none() {
        assert!(Scopes::NONE.is_empty() && !"admin".parse::<Scopes>().unwrap().is_empty());
    }
}
