//! Around every request of both planes: id, clock, trace, the headers that every answer has, and an answer even where a
//! handler panics.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response},
};
use futures_util::FutureExt as _;
use tower::ServiceExt as _;

use super::{incoming, problem::Problem};
use crate::telemetry::TraceContext;

/// What is known of a request from its head on.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The request's id.
    pub(super) id: Arc<str>,
    /// When its head had been read.
    pub(super) arrived: Instant,
    /// Where it stands in its caller's trace.
    pub(super) trace: TraceContext,
}

/// Answers one request. Never fails.
pub(super) async fn handle(router: Router, mut request: Request<Body>) -> Response<Body> {
    let (id, arrived) = (incoming::request_id(request.headers()), Instant::now());
    let head = Head { id, arrived, trace: TraceContext::of(text(request.headers(), "traceparent")) };
    request.extensions_mut().insert(head.clone());
    let answered = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(request = &*head.id, "a handler panicked");
            Problem::new("internal", "the log tells more, under this request's id", &head.id).into_response()
        }
    };
    // An invocation may have begun to be sampled meanwhile, and says so.
    let traceparent = response.extensions_mut().remove::<TraceContext>().unwrap_or(head.trace).traceparent();
    let headers = response.headers_mut();
    let milliseconds = format!("{:.3}", head.arrived.elapsed().as_secs_f64() * 1000.0);
    for (name, value) in [("x-request-id", &*head.id), ("x-process-time", &milliseconds), ("traceparent", &traceparent)]
    {
        // Digits, hexadecimal and checked ids are always valid values.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// A header's value, where it is there and is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
