//! The control plane: where operators come in. Always a token; browsers are kept out by `Host` and `Origin`.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, Request, Response, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::IntoResponse as _,
    routing::{get, post},
};
use serde_json::json;

use super::{
    data::{nothing_here, wrong_method},
    explain,
    handle::{Head, text},
    health, models,
    problem::Problem,
    token::Token,
};
use crate::{function::Runtime, telemetry::Telemetry};

pub(super) struct Control {
    runtime: Arc<Runtime>,
    telemetry: Arc<Telemetry>,
    started: Instant,
    token: Token,
    loopback: bool,
}

impl Control {
    /// What the routes of other files ask.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Routes of the control plane. `loopback` tells that it listens on loopback only, where a foreign `Host` is a browser
/// that somebody's name server led here.
pub fn router(runtime: Arc<Runtime>, telemetry: Arc<Telemetry>, token: Token, loopback: bool) -> Router {
    let control = Arc::new(Control { runtime, telemetry, started: Instant::now(), token, loopback });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(figures))
        .route("/admin/v1/drain", post(drain))
        .route("/admin/v1/models", get(models::list))
        .route("/admin/v1/models/{model}/load", post(models::load))
        .route("/admin/v1/models/{model}/unload", post(models::unload))
        .route("/admin/v1/models/{model}/explain", get(explain))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(control.clone(), guard))
        .with_state(control)
}

/// Before anything else is told, even whether a path exists.
async fn guard(
    State(control): State<Arc<Control>>,
    Extension(head): Extension<Head>,
    request: Request<Body>,
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
    if !control.token.admits(text(headers, "authorization")) {
        let detail = "send `authorization: Bearer` with the token of data/admin-token";
        let mut response = Problem::new("unauthenticated", detail, &head.id).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return response;
    }
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
    Json(health::figures(&control.runtime, &control.telemetry, control.started.elapsed())).into_response()
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
