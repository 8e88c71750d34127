//! What the routes of orders share: who asks, what a body says, and what became of it.

use axum::{
    Json,
    body::{Body, to_bytes},
    http::Response,
    response::IntoResponse as _,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{handle::Head, problem::Problem};
use crate::{
    access::Caller,
    function::{OrderError, Thing},
    registry::Author,
};

/// An order is a few names and numbers; settings of a tenant may name some hundred models.
const MAX_ORDER_BYTES: usize = 64 << 10;

/// What a handler gives, or why not.
pub(super) type Answer = Result<Response<Body>, Box<Problem>>;

/// The answer of either.
pub(super) fn answered(answer: Answer) -> Response<Body> {
    answer.unwrap_or_else(|problem| problem.into_response())
}

/// An answer with a document.
pub(super) fn document(document: &impl Serialize) -> Answer {
    Ok(Json(document).into_response())
}

/// Whoever orders something, as the history names it.
pub(super) fn author(caller: &Caller, why: Option<String>) -> Author {
    Author { by: caller.by().to_owned(), why: why.filter(|why| !why.trim().is_empty()) }
}

/// What a body orders; nothing at all is what is ordered by default.
pub(super) async fn order<T: DeserializeOwned + Default>(body: Body, head: &Head) -> Result<T, Box<Problem>> {
    let bad = |detail: String| Box::new(Problem::new("bad-request", detail, &head.id));
    let body = to_bytes(body, MAX_ORDER_BYTES).await;
    let body = body.map_err(|error| bad(format!("the body (at most {MAX_ORDER_BYTES} bytes): {error}")))?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))
}

/// Why an order was not carried out.
pub(super) fn refused(error: &OrderError, head: &Head) -> Box<Problem> {
    let code = match error {
        OrderError::NotFound { thing, .. } => match thing {
            Thing::Tenant => "tenant-not-found",
            Thing::Function => "function-not-found",
            Thing::Revision => "revision-not-found",
            Thing::Key => "key-not-found",
        },
        OrderError::Conflict(_) | OrderError::Load { .. } | OrderError::NotServing(_) => "conflict",
        OrderError::Invalid(_) => "invalid",
        OrderError::Quota(_) => "quota",
        OrderError::Registry(_) => "registry-unavailable",
        OrderError::Late => "not-ready",
        OrderError::Random => "internal",
    };
    Box::new(Problem::new(code, error.to_string(), &head.id))
}
