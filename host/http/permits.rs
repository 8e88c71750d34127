//! Who may ask what of the control plane: one table, asked before anything else is told, even whether a path exists.
//!
//! Also where a bearer token stands in a request. Refuses to know routes: a path that is in no line of the table is for
//! operators.

use axum::http::{HeaderMap, Method};

use super::handle::text;
use crate::access::{Caller, Scope};

/// The token of an `authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a caller may send this to the control plane.
pub(super) fn permits(caller: &Caller, method: &Method, path: &str) -> bool {
    if matches!(caller, Caller::Operator { .. }) {
        return true;
    }
    // A tenant's name has no characters that a path would write otherwise, so what is not written plainly is not theirs.
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match &segments[..] {
        ["openapi.json"] => caller.tenant().is_some(),
        ["admin", "v1", "hosts"] => caller.may(Scope::Deploy),
        // Whose entries, the body or the query says: there it is asked again.
        ["admin", "v1", "cache", "invalidate" | "stats"] => caller.may(Scope::Deploy),
        ["admin", "v1", "functions", tenant, ..] => caller.may_for(tenant, Scope::Deploy),
        ["admin", "v1", "tenants", tenant] => {
            method == Method::GET && (caller.may_for(tenant, Scope::Deploy) || caller.may_for(tenant, Scope::Admin))
        }
        // Keys of any scope, its own among them or not: who manages a tenant's keys decides who may what there.
        ["admin", "v1", "tenants", tenant, "keys", ..] => caller.may_for(tenant, Scope::Admin),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Scopes, key};

    fn of(tenant: &str, scopes: &str) -> Caller {
        let presented = key::Presented::parse(&key::NewKey::make().unwrap().text).unwrap();
        Caller::of_key(tenant.into(), scopes.parse::<Scopes>().unwrap(), &presented)
    }

    #[test]
    fn the_table() {
        // Path, method; then whether a key of the tenant `a` with `invoke`, `deploy`, `admin` may.
        for (path, method, may) in [
            ("/admin/v1/functions", Method::GET, [false, false, false]),
            ("/admin/v1/functions/a", Method::GET, [false, true, false]),
            ("/admin/v1/functions/a/f/traffic", Method::PUT, [false, true, false]),
            ("/admin/v1/functions/a/f/revisions", Method::POST, [false, true, false]),
            ("/admin/v1/functions/b/f/traffic", Method::GET, [false, false, false]),
            ("/admin/v1/functions//f", Method::GET, [false, false, false]),
            ("/admin/v1/functions/%61/f", Method::GET, [false, false, false]),
            ("/admin/v1/tenants", Method::GET, [false, false, false]),
            ("/admin/v1/tenants/a", Method::GET, [false, true, true]),
            ("/admin/v1/tenants/a", Method::PUT, [false, false, false]),
            ("/admin/v1/tenants/a", Method::DELETE, [false, false, false]),
            ("/admin/v1/tenants/a/keys", Method::POST, [false, false, true]),
            ("/admin/v1/tenants/a/keys/x/rotate", Method::POST, [false, false, true]),
            ("/admin/v1/tenants/b/keys", Method::POST, [false, false, false]),
            ("/admin/v1/keys", Method::GET, [false, false, false]),
            ("/admin/v1/hosts", Method::GET, [false, true, false]),
            ("/admin/v1/cache/stats", Method::GET, [false, true, false]),
            ("/admin/v1/cache/invalidate", Method::POST, [false, true, false]),
            ("/admin/v1/cache", Method::GET, [false, false, false]),
            ("/admin/v1/cache/stats/a", Method::GET, [false, false, false]),
            ("/admin/v1/models", Method::GET, [false, false, false]),
            ("/admin/v1/models/m/load", Method::POST, [false, false, false]),
            ("/admin/v1/drain", Method::POST, [false, false, false]),
            ("/metrics", Method::GET, [false, false, false]),
            ("/health", Method::GET, [false, false, false]),
            ("/openapi.json", Method::GET, [true, true, true]),
            ("/nothing", Method::GET, [false, false, false]),
        ] {
            let scopes = ["invoke", "deploy", "admin"];
            let found = scopes.map(|scope| permits(&of("a", scope), &method, path));
            assert_eq!(found, may, "{method} {path}");
            assert!(permits(&Caller::operator("o"), &method, path));
            assert!(!permits(&Caller::Anonymous, &method, path));
        }
    }

    #[test]
    fn a_token_is_read_from_its_header_alone() {
        let of = |value: &str| HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(bearer(&of("Bearer x")), Some("x"));
        assert_eq!(bearer(&of("bearer  x ")), Some("x"));
        for none in ["", "Bearer", "x", "Basic x"] {
            assert_eq!(bearer(&of(none)), None, "{none}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
