//! The control plane: where operators come in. Always a token; browsers are kept out by `Host` and `Origin`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, Request, Response, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::IntoResponse as _,
};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    cache,
    data::{nothing_here, wrong_method},
    explain, functions,
    guest_logs::{self, Followers},
    handle::{Head, text},
    health, models, openapi,
    permits::{bearer, permits},
    problem::Problem,
    routes::Routes,
    tenants, upload,
};
use crate::{
    function::{Deployments, Following, Orders, Overview, Runtime},
    telemetry::{GuestLogs, Telemetry},
};

pub(super) struct Control {
    runtime: Arc<Runtime>,
    pub(super) telemetry: Arc<Telemetry>,
    started: Instant,
    loopback: bool,
    pub(super) orders: Orders,
    pub(super) overview: Overview,
    pub(super) deployments: Arc<Deployments>,
    pub(super) max_component_bytes: usize,
    /// What the body of an order may take, from its head on.
    pub(super) order_timeout: Duration,
    /// Uploads that are read at once: each holds its component.
    pub(super) uploads: Semaphore,
    pub(super) followers: Arc<Followers>,
}

/// What the control plane is made of.
pub struct Parts {
    /// What serves.
    pub runtime: Arc<Runtime>,
    /// Figures.
    pub telemetry: Arc<Telemetry>,
    /// What may be deployed, and where it is.
    pub following: Arc<Following>,
    /// The line of deployments.
    pub deployments: Arc<Deployments>,
    /// The largest component that is read.
    pub max_component_bytes: u64,
    /// What the body of an order may take, from its head on.
    pub order_timeout: Duration,
    /// Whether it listens on loopback only, where a foreign `Host` is a browser that somebody's name server led here.
    pub loopback: bool,
}

impl Control {
    /// What the routes of other files ask.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What guests said.
    pub(super) fn guest_logs(&self) -> &Arc<GuestLogs> {
        self.telemetry.guest_logs()
    }
}

/// Uploads that are read at once.
const MAX_UPLOADS: usize = 8;

/// Routes of the control plane.
pub fn router(parts: Parts) -> Router {
    let Parts { runtime, telemetry, following, deployments, max_component_bytes, order_timeout, loopback } = parts;
    let max_component_bytes = usize::try_from(max_component_bytes).unwrap_or(usize::MAX);
    let control = Arc::new(Control {
        runtime,
        telemetry,
        started: Instant::now(),
        loopback,
        orders: Orders::new(following.clone()),
        overview: Overview::new(following),
        deployments,
        max_component_bytes,
        order_timeout,
        uploads: Semaphore::new(MAX_UPLOADS),
        followers: Arc::default(),
    });
    routes(max_component_bytes.saturating_add(upload::FORM_BYTES))
        .router()
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(control.clone(), guard))
        .with_state(control)
}

/// All of them.
pub(super) fn routes(form_bytes: usize) -> Routes<Arc<Control>> {
    of_functions(form_bytes)
        .merge(of_tenants())
        .get("/openapi.json", openapi::control)
        .get("/admin/v1/hosts", functions::hosts)
        .get("/metrics", metrics)
        .get("/health", figures)
        .post("/admin/v1/drain", drain)
        .get("/admin/v1/models", models::list)
        .post("/admin/v1/models/{model}/load", models::load)
        .post("/admin/v1/models/{model}/unload", models::unload)
        .get("/admin/v1/models/{model}/explain", explain)
        .post("/admin/v1/cache/invalidate", cache::invalidate)
        .get("/admin/v1/cache/stats", cache::stats)
}

/// What deploys, below each function's name.
fn of_functions(form_bytes: usize) -> Routes<Arc<Control>> {
    const FUNCTION: &str = "/admin/v1/functions/{tenant}/{function}";
    let below = |name: &str| format!("{FUNCTION}/{name}");
    let upload = Routes::new().post(&below("revisions"), upload::begin);
    upload
        .map(|upload| upload.layer(DefaultBodyLimit::max(form_bytes)))
        .get("/admin/v1/functions", functions::all)
        .get("/admin/v1/functions/{tenant}", functions::of_tenant)
        .get(FUNCTION, functions::one)
        .delete(FUNCTION, functions::remove)
        .get(&below("revisions"), functions::revisions)
        .get(&below("deployments/{id}"), upload::progress)
        .get(&below("traffic"), functions::traffic)
        .put(&below("traffic"), functions::set_traffic)
        .post(&below("rollback"), functions::roll_back)
        .get(&below("history"), functions::history)
        .get(&below("logs"), guest_logs::logs)
}

/// Tenants and keys.
fn of_tenants() -> Routes<Arc<Control>> {
    const TENANT: &str = "/admin/v1/tenants/{tenant}";
    let below = |name: &str| format!("{TENANT}/{name}");
    Routes::new()
        .get("/admin/v1/tenants", tenants::all)
        .get(TENANT, tenants::one)
        .put(TENANT, tenants::set)
        .delete(TENANT, tenants::remove)
        .get(&below("keys"), tenants::keys)
        .post(&below("keys"), tenants::make_key)
        .delete(&below("keys/{id}"), tenants::revoke_key)
        .post(&below("keys/{id}/rotate"), tenants::rotate_key)
        .get("/admin/v1/keys", tenants::keys)
        .post("/admin/v1/keys", tenants::make_key)
        .delete("/admin/v1/keys/{id}", tenants::revoke_key)
        .post("/admin/v1/keys/{id}/rotate", tenants::rotate_key)
}

/// Before anything else is told, even whether a path exists.
async fn guard(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return Problem::new("forbidden", "the control plane takes no requests from web pages", &head.id)
            .into_response();
    }
    if control.loopback && !names_loopback(request.uri().authority(), headers) {
        return Problem::new("forbidden", "the Host header must name this machine", &head.id).into_response();
    }
    let Ok(caller) = control.runtime.identity().identify(bearer(headers)) else {
        let detail = "send `authorization: Bearer` with the token of data/admin-token, or with a key that is valid";
        let mut response = Problem::new("unauthenticated", detail, &head.id).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return response;
    };
    if !permits(&caller, request.method(), request.uri().path()) {
        let detail = "this key may not do that: see its scopes and its tenant";
        return Problem::new("forbidden", detail, &head.id).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// HTTP/1.1 names the host in a header, HTTP/2 in the request's target.
fn names_loopback(target: Option<&Authority>, headers: &HeaderMap) -> bool {
    let header = text(headers, "host").and_then(|host| host.parse::<Authority>().ok());
    let Some(authority) = target.or(header.as_ref()) else { return false };
    let host = authority.host().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn metrics(State(control): State<Arc<Control>>) -> Response<Body> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], control.telemetry.text()).into_response()
}

async fn figures(State(control): State<Arc<Control>>) -> Response<Body> {
    Json(health::figures(&control, control.started.elapsed())).into_response()
}

/// Why a model batches as it does: `?version=3`, or the one that serves.
async fn explain(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    model: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let Ok(Path(model)) = model else {
        let detail = "the model's name in the path is not UTF-8";
        return Problem::new("model-not-found", detail, &head.id).into_response();
    };
    explain::answer(&control.runtime, &model, query.as_deref(), &head.id)
}

/// Refuses new invocations from now on; the process stays until it is told to end.
async fn drain(State(control): State<Arc<Control>>) -> Response<Body> {
    control.runtime.admission().drain();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_pass() {
        let host = |value: &str| names_loopback(None, &HeaderMap::from_iter([(header::HOST, value.parse().unwrap())]));
        for good in ["localhost", "localhost:8081", "127.0.0.1:8081", "127.1.2.3", "[::1]:8081"] {
            assert!(host(good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example:8081", "10.0.0.1", "", "127.0.0.1.evil.example"] {
            assert!(!host(bad), "{bad}");
        }
        assert!(!names_loopback(None, &HeaderMap::new()));
    }
}
