//! What is remembered, for those who deploy and for operators: making it void, and figures.
//!
//! Owns the form of an order, and that a tenant's key reaches its own tenant's alone: both paths name nobody, so the table
//! of `permits` lets every key with `deploy` in. Refuses to know what is void afterwards.

use axum::extract::RawQuery;
use serde::Deserialize;

use super::{
    orders::{Answer, Asks, Order, document},
    problem::Problem,
};
use crate::{
    access::{Caller, Scope},
    function::Invalidation,
};

/// What an order can mean.
const MEANINGS: &str = "it must be one of {\"everything\": true}, {\"tenant\"}, {\"tenant\", \"function\"}, \
                        {\"tenant\", \"tag\"}, {\"tenant\", \"tags\": […]}, {\"model\"} and {\"model\", \"version\"}";

/// What is to be void; exactly one meaning.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Invalidate {
    everything: bool,
    tenant: Option<String>,
    function: Option<String>,
    tag: Option<String>,
    tags: Option<Vec<String>>,
    model: Option<String>,
    version: Option<u64>,
}

impl Invalidate {
    fn meaning(self) -> Option<Invalidation> {
        let Self { everything, tenant, function, tag, tags, model, version } = self;
        let meaning = match (everything, tenant, function, (tag, tags), (model, version)) {
            (true, None, None, (None, None), (None, None)) => Invalidation::Everything,
            (false, Some(tenant), None, (None, None), (None, None)) => Invalidation::Tenant(tenant),
            (false, Some(tenant), Some(function), (None, None), (None, None)) => {
                Invalidation::Function(tenant, function)
            }
            (false, Some(tenant), None, (Some(tag), None), (None, None)) => Invalidation::Tags(tenant, vec![tag]),
            (false, Some(tenant), None, (None, Some(tags)), (None, None)) => Invalidation::Tags(tenant, tags),
            (false, None, None, (None, None), (Some(model), None)) => Invalidation::Model(model),
            (false, None, None, (None, None), (Some(model), Some(version))) => {
                Invalidation::ModelVersion(model, version)
            }
            _ => return None,
        };
        Some(meaning)
    }
}

impl Asks<()> {
    /// Whether the caller may do this to what is this tenant's, or to what is nobody's alone.
    fn may_for(&self, tenant: Option<&str>) -> Result<(), Box<Problem>> {
        let may = match tenant {
            Some(tenant) => self.caller.may_for(tenant, Scope::Deploy),
            None => matches!(self.caller, Caller::Operator { .. }),
        };
        may.then_some(())
            .ok_or_else(|| self.problem("forbidden", "a tenant's key may do that for its own tenant alone"))
    }
}

/// Makes void what was remembered.
pub(super) async fn invalidate(asks: Asks<()>, Order(order): Order<Invalidate>) -> Answer {
    let bad = |detail: String| asks.problem("bad-request", format!("the body: {detail}"));
    let what = order.meaning().ok_or_else(|| bad(MEANINGS.into()))?;
    asks.may_for(what.tenant())?;
    let done = asks.control.runtime().remembered().invalidate(&what).await.map_err(bad)?;
    let (by, seq, everywhere) = (asks.caller.by(), done.seq, done.everywhere);
    tracing::info!(by, seq, everywhere, ?what, "what was remembered is void");
    document(&done)
}

/// What is remembered and what came of it: of all, or of one tenant.
pub(super) async fn stats(asks: Asks<()>, RawQuery(query): RawQuery) -> Answer {
    let pairs = query.as_deref().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let asked = pairs.into_iter().find(|(name, _)| *name == "tenant").map(|(_, tenant)| tenant);
    // Names of tenants are written plainly; what is written otherwise is nobody's.
    let tenant = asked.or(asks.caller.tenant());
    asks.may_for(tenant)?;
    document(&asks.control.runtime().remembered().stats(tenant))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meaning(order: Value) -> Option<Invalidation> {
        serde_json::from_value::<Invalidate>(order).unwrap().meaning()
    }

    #[test]
    fn an_order_has_exactly_one_meaning() {
        let text = str::to_owned;
        for (order, means) in [
            (json!({ "everything": true }), Invalidation::Everything),
            (json!({ "tenant": "a" }), Invalidation::Tenant(text("a"))),
            (json!({ "tenant": "a", "function": "f" }), Invalidation::Function(text("a"), text("f"))),
            (json!({ "tenant": "a", "tag": "x" }), Invalidation::Tags(text("a"), vec![text("x")])),
            (json!({ "tenant": "a", "tags": ["x", "y"] }), Invalidation::Tags(text("a"), vec![text("x"), text("y")])),
            (json!({ "model": "m" }), Invalidation::Model(text("m"))),
            (json!({ "model": "m", "version": 2 }), Invalidation::ModelVersion(text("m"), 2)),
            (json!({ "everything": false, "tenant": "a", "tag": null }), Invalidation::Tenant(text("a"))),
        ] {
            assert_eq!(meaning(order.clone()), Some(means), "{order}");
        }
        for order in [
            json!({}),
            json!({ "everything": false }),
            json!({ "everything": true, "tenant": "a" }),
            json!({ "everything": true, "version": 1 }),
            json!({ "function": "f" }),
            json!({ "tag": "x" }),
            json!({ "tenant": "a", "function": "f", "tag": "x" }),
            json!({ "tenant": "a", "tag": "x", "tags": ["y"] }),
            json!({ "tenant": "a", "model": "m" }),
            json!({ "version": 2 }),
        ] {
            assert_eq!(meaning(order.clone()), None, "{order}");
        }
    }
}
