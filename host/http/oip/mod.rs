//! The Open Inference Protocol over HTTP and gRPC, on the data plane.
//!
//! Owns its paths, its shape of errors and its codings of bodies. Refuses to know tensors: what bodies say is `function`'s
//! to read. gRPC is the same inferences in another frame: one message there, one back, a status behind it. It is framed
//! here and not by a library, because a library reads a whole message before anybody can charge it, and gives unknown
//! paths an answer that looks like success.

mod coding;
mod framing;
mod grpc;
mod messages;
mod rest;
mod small;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse as _,
};
use serde_json::json;

use super::{handle::Head, permits::bearer, problem::Problem};
use crate::{
    access::Caller,
    function::{RepositoryChange, Runtime},
};

/// What the host says it is.
const NAME: &str = "tenon";
/// What it offers beyond the protocol's core.
const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository"];

/// Why there is no answer but this one.
type Refused = Box<Problem>;

/// What every route is answered with.
struct Open {
    runtime: Arc<Runtime>,
}

/// All routes of the protocol.
pub(super) fn router(runtime: Arc<Runtime>) -> Router {
    let open = Arc::new(Open { runtime });
    rest::routes().router().merge(grpc::routes()).with_state(open)
}

/// What is answered below `/v2`.
#[cfg(test)]
pub(super) fn listed() -> Vec<(axum::http::Method, String)> {
    rest::routes().listed().to_vec()
}

/// An error in the protocol's shape.
pub(super) fn refusal(problem: Problem) -> Response<Body> {
    let error = Json(json!({ "error": problem.detail() }));
    let mut response = problem.into_response();
    *response.body_mut() = error.into_response().into_body();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Open {
    /// Whether the caller is an operator: asked before anything is read that it sends, and also where nobody else need say
    /// who they are. A tenant's key is known, and may not.
    fn admit(&self, headers: &HeaderMap, head: &Head) -> Result<(), Refused> {
        let code = match self.runtime.identity().identify(bearer(headers)) {
            Ok(Caller::Operator { .. }) => return Ok(()),
            Ok(_) => "forbidden",
            Err(_) => "unauthenticated",
        };
        let detail = "models are changed by operators: send `authorization: Bearer` with the token of data/admin-token";
        Err(Box::new(Problem::new(code, detail, &head.id)))
    }

    /// Loads or unloads a model for an operator; `parameters` are names that it set.
    async fn change(
        &self,
        change: RepositoryChange,
        model: &str,
        parameters: impl IntoIterator<Item = String>,
        head: &Head,
    ) -> Result<(), Refused> {
        // What clients say without being asked, and what changes nothing here.
        if let Some(name) = parameters.into_iter().find(|name| name != "unload_dependents") {
            let detail = format!("the parameter `{name}` is not offered: a model is what its folder says");
            return Err(Box::new(Problem::new("not-offered", detail, &head.id)));
        }
        let changed = self.runtime.change_repository(change, model).await;
        changed.map_err(|error| Box::new(Problem::of_change(&error, &head.id)))
    }
}

/// An empty answer of this status.
fn empty(status: StatusCode) -> Response<Body> {
    status.into_response()
}
