//! The control plane's routes of models: what there is, and loading and unloading it.
//!
//! Owns the form of an order; refuses to know what it takes to follow one. Both routes answer when the change is done or
//! refused, however long that takes: an operator's script then knows what serves.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::{Body, to_bytes},
    extract::{Path, State, rejection::PathRejection},
    http::Response,
    response::IntoResponse as _,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{control::Control, handle::Head, problem::Problem};
use crate::function::{ModelError, ModelListing};

/// An order has two short keys.
const MAX_ORDER_BYTES: usize = 4096;

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

type Name = Result<Path<String>, PathRejection>;

/// All models, with everything that is known of them.
pub(super) async fn list(State(control): State<Arc<Control>>) -> Response<Body> {
    Json(json!({ "models": control.runtime().models_in_whole() })).into_response()
}

/// Brings a model to what the repository says.
pub(super) async fn load(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
    body: Body,
) -> Response<Body> {
    match order::<Load>(name, body, &head).await {
        Ok((name, order)) => answer(control.runtime().load_model(&name, order.version).await, &head),
        Err(problem) => problem.into_response(),
    }
}

/// Takes a model out of service.
pub(super) async fn unload(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    name: Name,
    body: Body,
) -> Response<Body> {
    match order::<Unload>(name, body, &head).await {
        Ok((name, Unload { version, force })) => {
            answer(control.runtime().unload_model(&name, version, force).await, &head)
        }
        Err(problem) => problem.into_response(),
    }
}

/// The model's name and the order; nothing at all orders everything.
async fn order<T: DeserializeOwned + Default>(
    name: Name,
    body: Body,
    head: &Head,
) -> Result<(String, T), Box<Problem>> {
    let bad = |detail: String| Box::new(Problem::new("bad-request", detail, &head.id));
    let Path(name) = name.map_err(|rejection| bad(rejection.body_text()))?;
    let body = to_bytes(body, MAX_ORDER_BYTES).await;
    let body = body.map_err(|error| bad(format!("the body (at most {MAX_ORDER_BYTES} bytes): {error}")))?;
    if body.trim_ascii().is_empty() {
        return Ok((name, T::default()));
    }
    let order = serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))?;
    Ok((name, order))
}

fn answer(changed: Result<Vec<ModelListing>, ModelError>, head: &Head) -> Response<Body> {
    match changed {
        Ok(models) => Json(json!({ "models": models })).into_response(),
        Err(error) => Problem::of_change(&error, &head.id).into_response(),
    }
}
