//! Tenants and keys. A key's text is in one answer alone: the one to whoever had it made.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse as _,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    control::Control,
    functions::Why,
    orders::{Answer, Asks, Order, document},
};
use crate::{
    access::{Scope, Scopes},
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

/// Whose keys, and which: operators' where the path names no tenant.
#[derive(Deserialize)]
pub(super) struct Keys {
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    id: String,
}

/// All tenants.
pub(super) async fn all(State(control): State<Arc<Control>>) -> Answer {
    document(&json!({ "tenants": control.overview.tenants() }))
}

/// One of them.
pub(super) async fn one(asks: Asks<String>) -> Answer {
    let tenant = &asks.names;
    let unknown = || asks.problem("tenant-not-found", format!("nothing is known of a tenant `{tenant}`"));
    document(&asks.control.overview.tenant(tenant).ok_or_else(unknown)?)
}

/// Says what it may have.
pub(super) async fn set(asks: Asks<String>, Order(Set { settings, why }): Order<Set>) -> Answer {
    asks.done(asks.control.orders.set_tenant(&asks.names, settings, asks.author(why)).await)?;
    one(asks).await
}

/// Forgets it.
pub(super) async fn remove(asks: Asks<String>, Order(Why { why }): Order<Why>) -> Answer {
    asks.done(asks.control.orders.remove_tenant(&asks.names, asks.author(why)).await)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A tenant's keys, or operators'.
pub(super) async fn keys(asks: Asks<Keys>) -> Answer {
    document(&json!({ "keys": asks.control.overview.keys(asks.names.tenant.as_deref()) }))
}

/// Makes a key.
pub(super) async fn make_key(asks: Asks<Keys>, Order(wanted): Order<Wanted>) -> Answer {
    let Wanted { name, scopes, expires_in_s, why } = wanted;
    let tenant = asks.names.tenant.as_deref();
    let wanted = scopes.unwrap_or(if tenant.is_some() { Scope::Invoke.into() } else { Scope::Admin.into() });
    if wanted.is_empty() {
        return Err(asks.problem("invalid", "scopes: at least one of invoke, deploy, admin"));
    }
    if tenant.is_none() && wanted != Scope::Admin.into() {
        return Err(asks.problem("invalid", "scopes: an operator's key has the scope `admin` and may everything"));
    }
    if expires_in_s.is_some_and(|seconds| seconds == 0 || seconds > MAX_KEY_S) {
        return Err(asks.problem("invalid", format!("expires_in_s must be 1 to {MAX_KEY_S}")));
    }
    let expires_in = expires_in_s.map(Duration::from_secs);
    shown(&asks.done(asks.control.orders.make_key(tenant, (&name, wanted), expires_in, asks.author(why)).await)?)
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

/// Makes a key in another's place.
pub(super) async fn rotate_key(asks: Asks<Keys>, Order(Rotation { grace_s, why }): Order<Rotation>) -> Answer {
    if grace_s > MAX_GRACE_S {
        return Err(asks.problem("invalid", format!("grace_s must be at most {MAX_GRACE_S}")));
    }
    let (Keys { tenant, id }, grace) = (&asks.names, Duration::from_secs(grace_s));
    shown(&asks.done(asks.control.orders.rotate_key(tenant.as_deref(), id, grace, asks.author(why)).await)?)
}

/// Ends a key.
pub(super) async fn revoke_key(asks: Asks<Keys>) -> Answer {
    let Keys { tenant, id } = &asks.names;
    asks.done(asks.control.orders.revoke_key(tenant.as_deref(), id, asks.author(None)).await)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
