//! The data plane: where callers come in.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Method, Request, Response, header},
    middleware::{self, Next},
};
use serde_json::json;

use super::{
    answer,
    handle::Head,
    incoming, oip, openapi,
    permits::bearer,
    problem::{self, Problem},
    routes::Routes,
};
use crate::{access::Caller, function::Runtime};

/// Routes of the data plane.
pub fn router(runtime: Arc<Runtime>) -> Router {
    routes()
        .router()
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(runtime.clone())
        .merge(oip::router(runtime.clone()))
        .layer(middleware::from_fn_with_state(runtime, who))
}

/// What a call of a function is sent to: the rest of a path is the function's own.
const CALLS: [&str; 2] = ["/v1/functions/{tenant}/{function}", "/v1/functions/{tenant}/{function}/{path}"];

/// Those that are not the Open Inference Protocol's.
pub(super) fn routes() -> Routes<Arc<Runtime>> {
    let calls = [Method::GET, Method::POST].into_iter().flat_map(|method| CALLS.map(|path| (method.clone(), path)));
    Routes::new()
        .any("/v1/functions/{*call}", invoke, &calls.collect::<Vec<_>>())
        .get("/v1/functions", functions)
        .get("/v1/models", models)
        .get("/openapi.json", openapi::data)
        .get("/health/live", async || Json(json!({ "live": true })))
        .get("/health/ready", ready)
}

/// What anybody may ask: whether the host lives and serves, and how one speaks to it.
const FOR_ALL: [&str; 5] = [
    "/openapi.json",
    "/health/",
    "/v2/health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// Who asks, before anything else is told, even whether a path exists.
async fn who(
    State(runtime): State<Arc<Runtime>>,
    Extension(head): Extension<Head>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path();
    match runtime.identity().caller(bearer(request.headers())) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(_) if FOR_ALL.iter().any(|open| path.starts_with(open)) => next.run(request).await,
        Err(error) => {
            let problem = Problem::new(problem::access(&error), error.to_string(), &head.id);
            let mut response = if path.starts_with("/v2") { oip::refusal(problem) } else { problem.into_response() };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
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

async fn functions(
    State(runtime): State<Arc<Runtime>>,
    Extension(caller): Extension<Caller>,
) -> Json<serde_json::Value> {
    let mut functions = runtime.functions().list();
    functions.retain(|function| runtime.identity().sees(&caller, function.tenant()));
    Json(json!({ "functions": functions }))
}

async fn models(State(runtime): State<Arc<Runtime>>, Extension(caller): Extension<Caller>) -> Json<serde_json::Value> {
    Json(json!({ "models": runtime.models_for(&caller) }))
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
