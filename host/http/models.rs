//! The control plane's routes of models: what there is, and loading and unloading it.
//!
//! Owns the form of an order; refuses to know what it takes to follow one. Both routes answer when the change is done or
//! refused, however long that takes: an operator's script then knows what serves.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::{
    control::Control,
    orders::{Answer, Asks, Order, document},
    problem::Problem,
};
use crate::function::{ModelError, ModelListing};

/// Which version to load; all that are there, unless stated.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Load {
    version: Option<u64>,
}

/// Which version to take out of service; all, unless stated.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Unload {
    version: Option<u64>,
    /// Even where functions are left without a model.
    force: bool,
}

/// All models, with everything that is known of them.
pub(super) async fn list(State(control): State<Arc<Control>>) -> Answer {
    document(&json!({ "models": control.runtime().models_in_whole() }))
}

/// Brings a model to what the repository says.
pub(super) async fn load(asks: Asks<String>, Order(Load { version }): Order<Load>) -> Answer {
    told(&asks, asks.control.runtime().load_model(&asks.names, version).await)
}

/// Takes a model out of service.
pub(super) async fn unload(asks: Asks<String>, Order(Unload { version, force }): Order<Unload>) -> Answer {
    told(&asks, asks.control.runtime().unload_model(&asks.names, version, force).await)
}

fn told(asks: &Asks<String>, changed: Result<Vec<ModelListing>, ModelError>) -> Answer {
    let models = changed.map_err(|error| Box::new(Problem::of_change(&error, &asks.head.id)))?;
    document(&json!({ "models": models }))
}
