//! Who calls and what they may do.
//!
//! Vocabulary: the registry keeps what `key` and `scope` name, http reads headers and turns them into a [`Caller`].
//! Refuses to know either. One type answers every "may they?", so that a route cannot forget half of the question.

pub mod jwt;
pub mod key;
mod scope;
mod token;

use std::sync::Arc;

pub use scope::{Scope, Scopes, UnknownScope};
pub use token::{Token, TokenError};

/// Bytes of the name by which logs and histories call somebody; what is longer is cut.
const MAX_BY_BYTES: usize = 128;

/// Somebody who sent a request, after their key or token was found good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Nobody said who they are. Here they may nothing; whether the host is open is for http to know.
    #[default]
    Anonymous,
    /// Holds the host's own token: may everything.
    Operator {
        /// What logs and histories call them.
        by: String,
    },
    /// Holds a key of a tenant, or a token of its identity provider.
    Tenant(Member),
}

/// Somebody who acts for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The tenant.
    pub tenant: Arc<str>,
    /// What they may do there.
    pub scopes: Scopes,
    /// A key's id or a token's subject: what logs and histories call them.
    pub by: String,
    /// The same number each time for the same caller, so that traffic can keep them on one revision.
    pub sticky: u64,
}

impl Caller {
    /// The holder of the host's own token.
    pub fn operator(by: &str) -> Self {
        Self::Operator { by: bounded(by) }
    }

    /// Who holds a key of this tenant, after its hash was found equal to the one kept.
    pub fn of_key(tenant: Arc<str>, scopes: Scopes, presented: &key::Presented) -> Self {
        let by = presented.id.to_string();
        Self::Tenant(Member { tenant, scopes, by, sticky: presented.hash.number() })
    }

    /// Who sent a token that was found good.
    pub fn of_claims(claims: &jwt::Claims) -> Self {
        // Not the token itself, which is a new one every hour.
        let mut hasher = blake3::Hasher::new();
        hasher.update(claims.tenant.as_bytes()).update(&[0]).update(claims.subject.as_bytes());
        // Told from keys and from the host itself, whatever a provider calls its people.
        let by = bounded(&format!("jwt:{}", claims.subject));
        let sticky = key::KeyHash::from(hasher.finalize()).number();
        Self::Tenant(Member { tenant: claims.tenant.clone(), scopes: claims.scopes, by, sticky })
    }

    /// The tenant they act for, where they act for one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tenant(member) => Some(&member.tenant),
            Self::Anonymous | Self::Operator { .. } => None,
        }
    }

    /// What logs and histories call them.
    pub fn by(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Operator { by } => by,
            Self::Tenant(member) => &member.by,
        }
    }

    /// What keeps them on one revision, where they said who they are.
    pub fn sticky(&self) -> Option<u64> {
        match self {
            Self::Tenant(member) => Some(member.sticky),
            Self::Anonymous | Self::Operator { .. } => None,
        }
    }

    /// Whether they hold this scope, for whichever tenant. No scope implies another: who deploys from a pipeline need
    /// not invoke, and who manages keys need do neither.
    pub fn may(&self, scope: Scope) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Operator { .. } => true,
            Self::Tenant(member) => member.scopes.has(scope),
        }
    }

    /// Whether they may do this to what is a tenant's.
    pub fn may_for(&self, tenant: &str, scope: Scope) -> bool {
        self.may(scope) && self.tenant().is_none_or(|own| own == tenant)
    }
}

/// A name cut to what logs take, without control characters: subjects come from outside.
fn bounded(name: &str) -> String {
    let mut kept = String::new();
    for char in name.chars().map(|char| if char.is_control() { '?' } else { char }) {
        if kept.len() + char.len_utf8() > MAX_BY_BYTES {
            break;
        }
        kept.push(char);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(scopes: &str) -> Caller {
        let key = key::NewKey::make().unwrap();
        Caller::of_key("shop".into(), scopes.parse().unwrap(), &key::Presented::parse(&key.text).unwrap())
    }

    #[test]
    fn a_scope_implies_no_other_and_holds_for_one_tenant() {
        let all = [Scope::Invoke, Scope::Deploy, Scope::Admin];
        for scope in all {
            let caller = member(scope.name());
            for asked in all {
                assert_eq!(caller.may(asked), asked == scope, "{scope:?} {asked:?}");
                assert_eq!(caller.may_for("shop", asked), asked == scope, "{scope:?} {asked:?}");
                assert!(
                    !caller.may_for("other", asked) && !caller.may_for("", asked) && !caller.may_for("shop2", asked)
                );
                assert!(!Caller::Anonymous.may(asked) && !Caller::Anonymous.may_for("shop", asked));
                assert!(Caller::operator("root").may(asked) && Caller::operator("root").may_for("shop", asked));
            }
        }
        assert!(!member("").may(Scope::Invoke));
    }

    #[test]
    fn a_caller_has_a_name_and_stays_on_a_revision() {
        let key = key::NewKey::make().unwrap();
        let presented = key::Presented::parse(&key.text).unwrap();
        let caller = Caller::of_key("shop".into(), "invoke".parse().unwrap(), &presented);
        assert_eq!((caller.tenant(), caller.by()), (Some("shop"), key.id.as_str()));
        assert_eq!(caller, Caller::of_key("shop".into(), "invoke".parse().unwrap(), &presented));
        assert_ne!(caller.sticky(), member("invoke").sticky());
        assert_eq!((Caller::Anonymous.sticky(), Caller::Anonymous.by()), (None, "anonymous"));
    }

    #[test]
    fn a_name_from_outside_is_cut_between_characters() {
        assert_eq!(Caller::operator("a\nb\u{1b}[2J").by(), "a?b?[2J");
        let long = Caller::operator(&"é".repeat(100));
        assert_eq!(long.by(), "é".repeat(64));
        let odd = Caller::operator(&format!("x{}", "é".repeat(100)));
        assert_eq!(odd.by().len(), 127);
    }
}
