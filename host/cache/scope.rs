//! What can be invalidated at once. Owns the scopes and the short names that entries carry for them; refuses to know
//! which of them were invalidated: that is in `invalidations`.
//!
//! An entry lists the scopes it belongs to, except the one it cannot escape: [`Scope::Everything`]. The names are hashes,
//! so that an entry carries 16 bytes for each, whatever tags a plugin makes up, and Redis tells nobody what they are.

use std::{fmt, sync::LazyLock};

use super::key::{frame, hex};

/// What the hash is made for; other scopes below take another one.
const CONTEXT: &str = "tenon cache scope 1";

/// What an entry depends on: all entries of a scope can be made void with one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope<'a> {
    /// All entries there are.
    Everything,
    /// All of a tenant.
    Tenant(&'a str),
    /// All of a tenant's function.
    Function(&'a str, &'a str),
    /// Those to which the tenant's plugin gave this tag.
    Tag {
        /// Whose tag it is.
        tenant: &'a str,
        /// The tag.
        tag: &'a str,
    },
    /// All that a model computed.
    Model(&'a str),
    /// All that one version of a model computed.
    ModelVersion(&'a str, u64),
}

/// A scope as entries and hosts tell it each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId([u8; ScopeId::BYTES]);

impl ScopeId {
    /// How long it is.
    pub const BYTES: usize = 16;

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The scope that has these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The scope of all entries.
    pub fn everything() -> Self {
        static EVERYTHING: LazyLock<ScopeId> = LazyLock::new(|| ScopeId::from(&Scope::Everything));
        *EVERYTHING
    }
}

impl fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl From<&Scope<'_>> for ScopeId {
    fn from(scope: &Scope<'_>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut add = |kind: u8, parts: &[&[u8]]| {
            hasher.update(&[kind]);
            parts.iter().for_each(|part| frame(&mut hasher, part));
        };
        match *scope {
            Scope::Everything => add(0, &[]),
            Scope::Tenant(tenant) => add(1, &[tenant.as_bytes()]),
            Scope::Function(tenant, function) => add(2, &[tenant.as_bytes(), function.as_bytes()]),
            Scope::Tag { tenant, tag } => add(3, &[tenant.as_bytes(), tag.as_bytes()]),
            Scope::Model(model) => add(4, &[model.as_bytes()]),
            Scope::ModelVersion(model, version) => add(5, &[model.as_bytes(), &version.to_le_bytes()]),
        }
        let mut id = [0; Self::BYTES];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

impl From<Scope<'_>> for ScopeId {
    fn from(scope: Scope<'_>) -> Self {
        Self::from(&scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_differ_by_kind_and_by_where_names_end() {
        let scopes = [
            Scope::Everything,
            Scope::Tenant("ab"),
            Scope::Tenant("a"),
            Scope::Function("a", "bc"),
            Scope::Function("ab", "c"),
            Scope::Tag { tenant: "a", tag: "bc" },
            Scope::Tag { tenant: "ab", tag: "c" },
            Scope::Model("ab"),
            Scope::ModelVersion("ab", 1),
            Scope::ModelVersion("ab", 2),
        ];
        let ids: std::collections::HashSet<_> = scopes.iter().map(ScopeId::from).collect();
        assert_eq!(ids.len(), scopes.len());
        assert!(ids.contains(&ScopeId::everything()) && ids.contains(&Scope::Tenant("a").into()));
    }

    /// Hosts of different builds tell each other scopes.
    #[test]
    fn a_scope_is_the_same_in_every_build() {
        assert_eq!(format!("{:?}", ScopeId::everything()), "1d272342d96ac03cabc7be486cdf11ca");
        let id = ScopeId::from(Scope::Tag { tenant: "acme", tag: "prices" });
        assert_eq!(format!("{id:?}"), "d27f168181e404093b0f7fc0012efc88");
        assert_eq!(ScopeId::from_bytes(*id.as_bytes()), id);
    }
}
