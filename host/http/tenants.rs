//! Tenants and keys. A key's text is in one answer alone: the one to whoever had it made.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{Response, StatusCode, header},
    response::IntoResponse as _,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    control::Control,
    functions::Why,
    handle::Head,
    orders::{Answer, answered, author, document, order, refused},
    problem::Problem,
};
use crate::{
    access::{Caller, Scope, Scopes},
    function::MadeKey,
    registry::TenantSettings,
};

/// The longest that a key may be made for: ten years. Without a time it lasts until it is revoked.
const MAX_KEY_S: u64 = 10 * 366 * 86_400;
/// The longest that an old key may go on beside the one in its place.
const MAX_GRACE_S: u64 = 30 * 86_400;

/// What a tenant may have.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Set {
    settings: TenantSettings,
    why: Option<String>,
}

/// A key that is wanted.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    scopes: Option<Scopes>,
    expires_in_s: Option<u64>,
    why: Option<String>,
}

/// How an old key ends.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rotation {
    grace_s: u64,
    why: Option<String>,
}

/// Parts of a path: whose keys, and which.
type Parts<T> = Result<Path<T>, PathRejection>;

fn part<T>(parts: Parts<T>, head: &Head) -> Result<T, Box<Problem>> {
    let Path(part) =
        parts.map_err(|rejection| Box::new(Problem::new("bad-request", rejection.body_text(), &head.id)))?;
    Ok(part)
}

fn invalid(detail: impl Into<String>, head: &Head) -> Box<Problem> {
    Box::new(Problem::new("invalid", detail, &head.id))
}

fn no_tenant(tenant: &str, head: &Head) -> Box<Problem> {
    Box::new(Problem::new("tenant-not-found", format!("nothing is known of a tenant `{tenant}`"), &head.id))
}

/// All tenants.
pub(super) async fn all(State(control): State<Arc<Control>>) -> Response<Body> {
    answered(document(&json!({ "tenants": control.overview.tenants() })))
}

/// One of them.
pub(super) async fn one(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    tenant: Parts<String>,
) -> Response<Body> {
    answered(part(tenant, &head).and_then(|tenant| told(&control, &tenant, &head)))
}

fn told(control: &Control, tenant: &str, head: &Head) -> Answer {
    document(&control.overview.tenant(tenant).ok_or_else(|| no_tenant(tenant, head))?)
}

/// Says what it may have.
pub(super) async fn set(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    tenant: Parts<String>,
    body: Body,
) -> Response<Body> {
    let set = async || {
        let tenant = part(tenant, &head)?;
        let Set { settings, why } = order(body, &head).await?;
        let set = control.orders.set_tenant(&tenant, settings, author(&caller, why)).await;
        set.map_err(|error| refused(&error, &head))?;
        told(&control, &tenant, &head)
    };
    answered(set().await)
}

/// Forgets it.
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    tenant: Parts<String>,
    body: Body,
) -> Response<Body> {
    let remove = async || {
        let tenant = part(tenant, &head)?;
        let Why { why } = order(body, &head).await?;
        let removed = control.orders.remove_tenant(&tenant, author(&caller, why)).await;
        removed.map_err(|error| refused(&error, &head))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answered(remove().await)
}

/// A tenant's keys.
pub(super) async fn keys(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    tenant: Parts<String>,
) -> Response<Body> {
    answered(part(tenant, &head).and_then(|tenant| document(&json!({ "keys": control.overview.keys(Some(&tenant)) }))))
}

/// Operators' keys.
pub(super) async fn own_keys(State(control): State<Arc<Control>>) -> Response<Body> {
    answered(document(&json!({ "keys": control.overview.keys(None) })))
}

/// Makes a key of a tenant.
pub(super) async fn make_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    tenant: Parts<String>,
    body: Body,
) -> Response<Body> {
    let make = async || {
        let tenant = part(tenant, &head)?;
        make(&control, (&head, &caller), Some(&tenant), body).await
    };
    answered(make().await)
}

/// Makes a key of an operator.
pub(super) async fn make_own_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Response<Body> {
    answered(make(&control, (&head, &caller), None, body).await)
}

async fn make(control: &Control, (head, caller): (&Head, &Caller), tenant: Option<&str>, body: Body) -> Answer {
    let Wanted { name, scopes, expires_in_s, why } = order(body, head).await?;
    let wanted = scopes.unwrap_or(if tenant.is_some() { Scope::Invoke.into() } else { Scope::Admin.into() });
    if wanted.is_empty() {
        return Err(invalid("scopes: at least one of invoke, deploy, admin", head));
    }
    if tenant.is_none() && wanted != Scope::Admin.into() {
        return Err(invalid("scopes: an operator's key has the scope `admin` and may everything", head));
    }
    if expires_in_s.is_some_and(|seconds| seconds == 0 || seconds > MAX_KEY_S) {
        return Err(invalid(format!("expires_in_s must be 1 to {MAX_KEY_S}"), head));
    }
    let expires_in = expires_in_s.map(Duration::from_secs);
    let made = control.orders.make_key(tenant, (&name, wanted), expires_in, author(caller, why)).await;
    shown(&made.map_err(|error| refused(&error, head))?)
}

/// A key with its text, which no cache on the way may keep.
fn shown(MadeKey { record, text }: &MadeKey) -> Answer {
    let document = json!({
        "id": record.id,
        "key": text,
        "name": record.name,
        "scopes": record.scopes,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
    });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(document)).into_response())
}

/// Makes a key in the place of a tenant's.
pub(super) async fn rotate_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    parts: Parts<(String, String)>,
    body: Body,
) -> Response<Body> {
    let rotate = async || {
        let (tenant, id) = part(parts, &head)?;
        rotate(&control, (&head, &caller), (Some(&tenant), &id), body).await
    };
    answered(rotate().await)
}

/// Makes a key in the place of an operator's.
pub(super) async fn rotate_own_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    id: Parts<String>,
    body: Body,
) -> Response<Body> {
    let rotate = async || {
        let id = part(id, &head)?;
        rotate(&control, (&head, &caller), (None, &id), body).await
    };
    answered(rotate().await)
}

async fn rotate(
    control: &Control,
    (head, caller): (&Head, &Caller),
    (tenant, id): (Option<&str>, &str),
    body: Body,
) -> Answer {
    let Rotation { grace_s, why } = order(body, head).await?;
    if grace_s > MAX_GRACE_S {
        return Err(invalid(format!("grace_s must be at most {MAX_GRACE_S}"), head));
    }
    let made = control.orders.rotate_key(tenant, id, Duration::from_secs(grace_s), author(caller, why)).await;
    shown(&made.map_err(|error| refused(&error, head))?)
}

/// Ends a tenant's key.
pub(super) async fn revoke_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    parts: Parts<(String, String)>,
) -> Response<Body> {
    let revoke = async || {
        let (tenant, id) = part(parts, &head)?;
        revoke(&control, (&head, &caller), (Some(&tenant), &id)).await
    };
    answered(revoke().await)
}

/// Ends an operator's key.
pub(super) async fn revoke_own_key(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    id: Parts<String>,
) -> Response<Body> {
    let revoke = async || {
        let id = part(id, &head)?;
        revoke(&control, (&head, &caller), (None, &id)).await
    };
    answered(revoke().await)
}

async fn revoke(control: &Control, (head, caller): (&Head, &Caller), (tenant, id): (Option<&str>, &str)) -> Answer {
    let revoked = control.orders.revoke_key(tenant, id, author(caller, None)).await;
    revoked.map_err(|error| refused(&error, head))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
