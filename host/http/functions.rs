//! Functions, for those who deploy them: what there is, traffic, rollback, history. Uploads are `upload`'s.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::IntoResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    control::Control,
    orders::{Answer, Asks, Order, document},
    problem::Problem,
};
use crate::registry::{Share, Split, Sticky};

/// Events that are told at most, and unless somebody asks otherwise.
const MOST_EVENTS: usize = 100;
const EVENTS: usize = 50;

/// A function's name in a path.
#[derive(Clone, Deserialize)]
pub(super) struct Name {
    pub(super) tenant: String,
    pub(super) function: String,
}

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

impl Asks<Name> {
    fn pair(&self) -> (&str, &str) {
        (&self.names.tenant, &self.names.function)
    }

    /// What is known of the function, or that nothing is.
    pub(super) fn found<T>(&self, found: Option<T>) -> Result<T, Box<Problem>> {
        let (tenant, function) = self.pair();
        let detail = || format!("there is no function `{tenant}/{function}` in the registry");
        found.ok_or_else(|| self.problem("function-not-found", detail()))
    }
}

/// All functions.
pub(super) async fn all(State(control): State<Arc<Control>>) -> Answer {
    document(&json!({ "functions": control.overview.functions(None) }))
}

/// Those of a tenant.
pub(super) async fn of_tenant(asks: Asks<String>) -> Answer {
    document(&json!({ "functions": asks.control.overview.functions(Some(&asks.names)) }))
}

/// One of them.
pub(super) async fn one(asks: Asks<Name>) -> Answer {
    let (tenant, function) = asks.pair();
    document(&asks.found(asks.control.overview.function(tenant, function))?)
}

/// Its revisions.
pub(super) async fn revisions(asks: Asks<Name>) -> Answer {
    let (tenant, function) = asks.pair();
    document(&json!({ "revisions": asks.found(asks.control.overview.revisions(tenant, function))? }))
}

/// What happened to it.
pub(super) async fn history(asks: Asks<Name>, RawQuery(query): RawQuery) -> Answer {
    let limit = number(query.as_deref(), "limit").map_err(|detail| asks.problem("bad-request", detail))?;
    let (tenant, function) = asks.pair();
    let found = asks.control.overview.history(tenant, function, limit.unwrap_or(EVENTS).min(MOST_EVENTS));
    document(&json!({ "events": asks.found(found)? }))
}

/// A number in a query.
pub(super) fn number(query: Option<&str>, wanted: &str) -> Result<Option<usize>, String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.parse());
    found.transpose().map_err(|_| format!("{wanted} must be a whole number"))
}

/// Where its traffic goes.
pub(super) async fn traffic(asks: Asks<Name>) -> Answer {
    let (tenant, function) = asks.pair();
    let (split, n) = asks.found(asks.control.overview.traffic(tenant, function))?;
    document(&Told { split, n })
}

/// Sends its traffic to these revisions.
pub(super) async fn set_traffic(asks: Asks<Name>, Order(order): Order<Traffic>) -> Answer {
    let Traffic { shares, sticky, why, force } = order;
    let split = Split { shares, sticky };
    asks.done(asks.control.orders.set_traffic(asks.pair(), split, force, asks.author(why)).await)?;
    traffic(asks).await
}

/// Back to what served before.
pub(super) async fn roll_back(asks: Asks<Name>, Order(Why { why }): Order<Why>) -> Answer {
    asks.done(asks.control.orders.roll_back(asks.pair(), asks.author(why)).await)?;
    traffic(asks).await
}

/// Takes it away.
pub(super) async fn remove(asks: Asks<Name>, Order(Why { why }): Order<Why>) -> Answer {
    asks.done(asks.control.orders.remove_function(asks.pair(), asks.author(why)).await)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The hosts that follow the registry.
pub(super) async fn hosts(asks: Asks<()>) -> Answer {
    match asks.control.overview.hosts(asks.caller.tenant()).await {
        Ok(hosts) => document(&json!({ "hosts": hosts })),
        Err(error) => Err(asks.problem("registry-unavailable", error.to_string())),
    }
}
