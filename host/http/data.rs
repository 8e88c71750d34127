//! The data plane: where callers come in.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, header},
    routing::{any, get},
};
use serde_json::json;

use super::{answer, handle::Head, incoming, oip, problem::Problem, token::Token};
use crate::function::Runtime;

/// Routes of the data plane. The token is asked for only where a caller would change models.
pub fn router(runtime: Arc<Runtime>, token: Token) -> Router {
    Router::new()
        .route("/v1/functions/{*call}", any(invoke))
        .route("/v1/functions", get(functions))
        .route("/v1/models", get(models))
        .route("/health/live", get(async || Json(json!({ "live": true }))))
        .route("/health/ready", get(ready))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(runtime.clone())
        .merge(oip::router(runtime, token))
}

async fn invoke(
    State(runtime): State<Arc<Runtime>>,
    Extension(head): Extension<Head>,
    request: Request<Body>,
) -> Response<Body> {
    let (call, body) = match incoming::call(request, &head) {
        Ok(read) => read,
        Err(problem) => {
            let mut response = problem.into_response();
            if response.status() == 405 {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
            }
            return response;
        }
    };
    answer::write(runtime.handle(call, body).await, &head)
}

async fn functions(State(runtime): State<Arc<Runtime>>) -> Json<serde_json::Value> {
    Json(json!({ "functions": runtime.functions().list() }))
}

async fn models(State(runtime): State<Arc<Runtime>>) -> Json<serde_json::Value> {
    Json(json!({ "models": runtime.models() }))
}

/// Whether a load balancer should send requests here.
async fn ready(State(runtime): State<Arc<Runtime>>, Extension(head): Extension<Head>) -> Response<Body> {
    match runtime.ready() {
        Ok(()) => axum::response::IntoResponse::into_response(Json(json!({ "ready": true }))),
        Err(reason) => Problem::new("not-ready", reason, &head.id).into_response(),
    }
}

/// What of a path is said back: a caller should know its own, and each answer must be small.
const MAX_ECHO_CHARS: usize = 200;

fn shown(request: &Request<Body>) -> &str {
    let path = request.uri().path();
    path.char_indices().nth(MAX_ECHO_CHARS).map_or(path, |(end, _)| &path[..end])
}

pub(super) async fn nothing_here(Extension(head): Extension<Head>, request: Request<Body>) -> Response<Body> {
    let known = "try /v1/functions, /v1/models, /v2, /health/ready";
    Problem::new("not-found", format!("nothing is at {}; {known}", shown(&request)), &head.id).into_response()
}

pub(super) async fn wrong_method(Extension(head): Extension<Head>, request: Request<Body>) -> Response<Body> {
    let detail = format!("{} is not for {}", request.method(), shown(&request));
    Problem::new("method-not-allowed", detail, &head.id).into_response()
}
