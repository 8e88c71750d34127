//! What the routes of orders share: who asks and what for, what a body says, and what became of it.
//!
//! A handler takes [`Asks`] and perhaps an [`Order`], and gives an [`Answer`]: whatever is wrong before it, a name in the path
//! or the body, is answered without it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts, Path},
    http::{Request, Response, request::Parts},
    response::IntoResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout_at;

use super::{control::Control, handle::Head, problem::Problem};
use crate::{
    access::Caller,
    function::{OrderError, Thing},
    registry::Author,
};

/// An order is a few names and numbers; settings of a tenant may name some hundred models.
const MAX_ORDER_BYTES: usize = 64 << 10;

/// What a handler gives, or why not.
pub(super) type Answer = Result<Response<Body>, Box<Problem>>;

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response<Body> {
        (*self).into_response()
    }
}

/// An answer with a document.
pub(super) fn document(document: &impl Serialize) -> Answer {
    Ok(Json(document).into_response())
}

/// Who asks, and the names in the path.
pub(super) struct Asks<N> {
    pub(super) control: Arc<Control>,
    pub(super) head: Head,
    pub(super) caller: Caller,
    pub(super) names: N,
}

impl<N: DeserializeOwned + Send> FromRequestParts<Arc<Control>> for Asks<N> {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Box<Problem>> {
        let (head, caller) = (parts.extensions.get::<Head>().cloned(), parts.extensions.get::<Caller>().cloned());
        // The guard puts the caller there once it knows that they may.
        let (Some(head), Some(caller)) = (head, caller) else { return Err(unknown()) };
        match Path::<N>::from_request_parts(parts, control).await {
            Ok(Path(names)) => Ok(Self { control: control.clone(), head, caller, names }),
            Err(rejection) => Err(Box::new(Problem::new("bad-request", rejection.body_text(), &head.id))),
        }
    }
}

impl<N> Asks<N> {
    /// Why there is no other answer.
    pub(super) fn problem(&self, code: &str, detail: impl Into<String>) -> Box<Problem> {
        Box::new(Problem::new(code, detail, &self.head.id))
    }

    /// Whoever orders something, as the history names it.
    pub(super) fn author(&self, why: Option<String>) -> Author {
        Author { by: self.caller.by().to_owned(), why: why.filter(|why| !why.trim().is_empty()) }
    }

    /// What became of an order.
    pub(super) fn done<T>(&self, done: Result<T, OrderError>) -> Result<T, Box<Problem>> {
        done.map_err(|error| self.problem(code(&error), error.to_string()))
    }
}

/// What a body orders; nothing at all is what is ordered by default.
pub(super) struct Order<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Control>> for Order<T> {
    type Rejection = Box<Problem>;

    async fn from_request(request: Request<Body>, control: &Arc<Control>) -> Result<Self, Box<Problem>> {
        let (mut parts, body) = request.into_parts();
        let Some(head) = parts.extensions.remove::<Head>() else { return Err(unknown()) };
        read(body, control.order_timeout, &head).await.map(Self)
    }
}

/// Reads an order, within the time that its head had: whoever sends so little sends it at once.
async fn read<T: DeserializeOwned + Default>(body: Body, timeout: Duration, head: &Head) -> Result<T, Box<Problem>> {
    let problem = |code, detail: String| Box::new(Problem::new(code, detail, &head.id));
    let late = |_| problem("body-timeout", format!("the body was not there within {} ms", timeout.as_millis()));
    let body = timeout_at((head.arrived + timeout).into(), to_bytes(body, MAX_ORDER_BYTES)).await.map_err(late)?;
    let bad = |detail: String| problem("bad-request", detail);
    let body = body.map_err(|error| bad(format!("the body (at most {MAX_ORDER_BYTES} bytes): {error}")))?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))
}

/// What came past the guard, which knows everybody, is answered by nothing.
fn unknown() -> Box<Problem> {
    Box::new(Problem::new("internal", "the log tells more", ""))
}

/// Why an order was not carried out.
fn code(error: &OrderError) -> &'static str {
    match error {
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
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Instant};

    use futures_util::stream::{self, StreamExt as _};

    use super::*;
    use crate::{http::functions::Why, telemetry::TraceContext};

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// What is said of a body that begins like this, `ago`, and perhaps never ends.
    async fn said(begins: &str, ends: bool, ago: Duration) -> Result<Option<String>, u16> {
        let arrived = Instant::now().checked_sub(ago).expect("the clock has run for a while");
        let head = Head { id: "1".into(), arrived, trace: TraceContext::default() };
        let pieces = stream::iter([Ok::<_, Infallible>(begins.to_owned())]);
        let body = match ends {
            true => Body::from_stream(pieces),
            false => Body::from_stream(pieces.chain(stream::pending())),
        };
        let read = tokio::time::timeout(4 * TIMEOUT, read::<Why>(body, TIMEOUT, &head)).await;
        read.expect("an end, whoever stays away").map(|Why { why }| why).map_err(|problem| problem.status())
    }

    #[tokio::test]
    async fn an_order_is_small_and_there_in_time() {
        let now = Duration::ZERO;
        assert_eq!(said("", true, now).await, Ok(None));
        assert_eq!(said(r#"{"why": "x"}"#, true, now).await, Ok(Some("x".into())));
        assert_eq!(said(r#"{"why": "x", "then": 1}"#, true, now).await, Err(400));
        assert_eq!(said(&" ".repeat(MAX_ORDER_BYTES + 1), true, now).await, Err(400));
        assert_eq!(said(r#"{"why": "#, false, TIMEOUT).await, Err(408));
    }
}
