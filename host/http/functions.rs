//! Functions, for those who deploy them: what there is, traffic, rollback, history. Uploads are `upload`'s.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{Response, StatusCode},
    response::IntoResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    control::Control,
    handle::Head,
    orders::{Answer, answered, author, document, order, refused},
    problem::Problem,
};
use crate::{
    access::Caller,
    registry::{Share, Split, Sticky},
};

/// Events that are told at most, and unless somebody asks otherwise.
const MOST_EVENTS: usize = 100;
const EVENTS: usize = 50;

/// A function's name in a path.
pub(super) type Name = Result<Path<(String, String)>, PathRejection>;

/// Which revisions are to serve.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Traffic {
    shares: Vec<Share>,
    sticky: Sticky,
    why: Option<String>,
    /// Even one that was taken out of traffic for its traps.
    force: bool,
}

/// Why something is done.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Why {
    pub(super) why: Option<String>,
}

/// Where traffic goes.
#[derive(Serialize)]
struct Told {
    split: Option<Split>,
    n: u64,
}

pub(super) fn named(name: Name, head: &Head) -> Result<(String, String), Box<Problem>> {
    let Path(name) =
        name.map_err(|rejection| Box::new(Problem::new("bad-request", rejection.body_text(), &head.id)))?;
    Ok(name)
}

pub(super) fn not_found(tenant: &str, function: &str, head: &Head) -> Box<Problem> {
    let detail = format!("there is no function `{tenant}/{function}` in the registry");
    Box::new(Problem::new("function-not-found", detail, &head.id))
}

/// All functions.
pub(super) async fn all(State(control): State<Arc<Control>>) -> Response<Body> {
    answered(document(&json!({ "functions": control.overview.functions(None) })))
}

/// Those of a tenant.
pub(super) async fn of_tenant(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    tenant: Result<Path<String>, PathRejection>,
) -> Response<Body> {
    match tenant {
        Ok(Path(tenant)) => answered(document(&json!({ "functions": control.overview.functions(Some(&tenant)) }))),
        Err(rejection) => Problem::new("bad-request", rejection.body_text(), &head.id).into_response(),
    }
}

/// One of them.
pub(super) async fn one(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
) -> Response<Body> {
    answered(named(name, &head).and_then(|(tenant, function)| {
        let found = control.overview.function(&tenant, &function);
        document(&found.ok_or_else(|| not_found(&tenant, &function, &head))?)
    }))
}

/// Its revisions.
pub(super) async fn revisions(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
) -> Response<Body> {
    answered(named(name, &head).and_then(|(tenant, function)| {
        let found = control.overview.revisions(&tenant, &function);
        document(&json!({ "revisions": found.ok_or_else(|| not_found(&tenant, &function, &head))? }))
    }))
}

/// What happened to it.
pub(super) async fn history(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    answered(named(name, &head).and_then(|(tenant, function)| {
        let limit = match number(query.as_deref(), "limit") {
            Ok(limit) => limit.unwrap_or(EVENTS).min(MOST_EVENTS),
            Err(detail) => return Err(Box::new(Problem::new("bad-request", detail, &head.id))),
        };
        let found = control.overview.history(&tenant, &function, limit);
        document(&json!({ "events": found.ok_or_else(|| not_found(&tenant, &function, &head))? }))
    }))
}

/// A number in a query.
pub(super) fn number(query: Option<&str>, wanted: &str) -> Result<Option<usize>, String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.parse());
    found.transpose().map_err(|_| format!("{wanted} must be a whole number"))
}

/// Where its traffic goes.
pub(super) async fn traffic(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
) -> Response<Body> {
    answered(named(name, &head).and_then(|(tenant, function)| told(&control, &tenant, &function, &head)))
}

fn told(control: &Control, tenant: &str, function: &str, head: &Head) -> Answer {
    let found = control.overview.traffic(tenant, function);
    let (split, n) = found.ok_or_else(|| not_found(tenant, function, head))?;
    document(&Told { split, n })
}

/// Sends its traffic to these revisions.
pub(super) async fn set_traffic(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    name: Name,
    body: Body,
) -> Response<Body> {
    let set = async || {
        let (tenant, function) = named(name, &head)?;
        let Traffic { shares, sticky, why, force } = order(body, &head).await?;
        let (split, author) = (Split { shares, sticky }, author(&caller, why));
        let changed = control.orders.set_traffic((&tenant, &function), split, force, author).await;
        changed.map_err(|error| refused(&error, &head))?;
        told(&control, &tenant, &function, &head)
    };
    answered(set().await)
}

/// Back to what served before.
pub(super) async fn roll_back(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    name: Name,
    body: Body,
) -> Response<Body> {
    let back = async || {
        let (tenant, function) = named(name, &head)?;
        let Why { why } = order(body, &head).await?;
        let changed = control.orders.roll_back((&tenant, &function), author(&caller, why)).await;
        changed.map_err(|error| refused(&error, &head))?;
        told(&control, &tenant, &function, &head)
    };
    answered(back().await)
}

/// Takes it away.
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    name: Name,
    body: Body,
) -> Response<Body> {
    let remove = async || {
        let (tenant, function) = named(name, &head)?;
        let Why { why } = order(body, &head).await?;
        let removed = control.orders.remove_function((&tenant, &function), author(&caller, why)).await;
        removed.map_err(|error| refused(&error, &head))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answered(remove().await)
}

/// The hosts that follow the registry.
pub(super) async fn hosts(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    match control.overview.hosts(caller.tenant()).await {
        Ok(hosts) => answered(document(&json!({ "hosts": hosts }))),
        Err(error) => Problem::new("registry-unavailable", error.to_string(), &head.id).into_response(),
    }
}
