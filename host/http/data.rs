//! The data plane: where callers come in.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{FromRef, State},
    http::{HeaderValue, Method, Request, Response, header},
    middleware::{self, Next},
};
use serde_json::json;

use super::{
    answer,
    handle::Head,
    incoming::{self, Place, WireBody},
    mapped::{Line, Mapped},
    oip, openapi,
    permits::bearer,
    problem::{self, Problem},
    routes::Routes,
};
use crate::{
    access::Caller,
    function::{ErrorShape, Runtime},
};

/// What the data plane answers with. One handle, because every request takes it twice.
#[derive(Clone)]
pub(super) struct Plane(Arc<Parts>);

struct Parts {
    runtime: Arc<Runtime>,
    mapped: Mapped,
    document: Bytes,
}

impl FromRef<Plane> for Arc<Runtime> {
    fn from_ref(plane: &Plane) -> Self {
        plane.0.runtime.clone()
    }
}

/// Routes of the data plane; `mapped` are the operator's own.
pub fn router(runtime: Arc<Runtime>, mapped: Mapped) -> Router {
    let document = openapi::data(&mapped);
    let plane = Plane(Arc::new(Parts { runtime: runtime.clone(), mapped, document }));
    routes()
        .router()
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(plane.clone())
        .merge(oip::router(runtime))
        .layer(middleware::from_fn_with_state(plane, who))
}

/// What a call of a function is sent to: the rest of a path is the function's own.
const CALLS: [&str; 2] = ["/v1/functions/{tenant}/{function}", "/v1/functions/{tenant}/{function}/{path}"];

/// Those that are not the Open Inference Protocol's.
pub(super) fn routes() -> Routes<Plane> {
    let calls = [Method::GET, Method::POST].into_iter().flat_map(|method| CALLS.map(|path| (method.clone(), path)));
    Routes::new()
        .any("/v1/functions/{*call}", invoke, &calls.collect::<Vec<_>>())
        .get("/v1/functions", functions)
        .get("/v1/models", models)
        .get("/openapi.json", async |State(plane): State<Plane>| openapi::document(plane.0.document.clone()))
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

/// Who asks, before anything else is told, even whether a path exists. What the operator mapped to a function goes there.
async fn who(
    State(plane): State<Plane>,
    Extension(head): Extension<Head>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path();
    match plane.0.runtime.identity().caller(bearer(request.headers())) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            match plane.0.mapped.find(request.uri().path()) {
                Some(line) => {
                    let place = line.place(request.uri().path());
                    // In a box: requests that no route is for need not carry the room that it takes.
                    Box::pin(plane.call(place, Some(line), request, &head)).await
                }
                None => next.run(request).await,
            }
        }
        Err(_) if FOR_ALL.iter().any(|open| path.starts_with(open)) => next.run(request).await,
        Err(error) => {
            let problem = Problem::new(problem::access(&error), error.to_string(), &head.id);
            let mut response = match plane.0.mapped.find(path) {
                Some(line) => problem.into_response_as(plane.shape(Some(line), None)),
                None if path.starts_with("/v2") => oip::refusal(problem),
                None => problem.into_response(),
            };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

async fn invoke(
    State(plane): State<Plane>,
    Extension(head): Extension<Head>,
    request: Request<Body>,
) -> Response<Body> {
    match incoming::place(request.uri().path()) {
        Some(place) => plane.call(place, None, request, &head).await,
        None => {
            let detail = format!("a function is called at {}<tenant>/<function>", incoming::FUNCTIONS);
            Problem::new("not-found", detail, &head.id).into_response()
        }
    }
}

impl Plane {
    /// Calls a function, by a path of its own or by one that an operator mapped to it.
    async fn call(&self, place: Place, line: Option<&Line>, request: Request<Body>, head: &Head) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let asked = match incoming::asked(&parts, &place) {
            Ok(asked) => asked,
            Err((code, detail)) => {
                let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
                let known = self.0.runtime.errors_for(&caller, &place.tenant, &place.function);
                let problem = Problem::new(code, detail, &head.id);
                let mut response = problem.into_response_as(self.shape(line, known));
                if response.status() == 405 {
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(place.methods.allowed()));
                }
                return response;
            }
        };
        let call = incoming::call(parts, place, asked, head);
        let outcome = self.0.runtime.handle(call, WireBody::new(body)).await;
        let shape = self.shape(line, outcome.errors);
        answer::write(outcome, head, shape)
    }

    /// How errors look: as the operator's line says, else as the function that answered does, else as the one that is
    /// meant by the line. Whoever calls by a line is told, because the operator said it to everybody.
    fn shape(&self, line: Option<&Line>, known: Option<ErrorShape>) -> ErrorShape {
        let stated = line.and_then(|line| line.errors).or(known);
        let meant = || line.and_then(|line| self.0.runtime.functions().errors(&line.tenant, &line.function));
        stated.or_else(meant).unwrap_or_default()
    }
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
