//! Whether an answer on HTTP/1.1 leaves much of its request unread, and so is the connection's last.
//!
//! hyper reads what little is left of a body and goes on with the next request; of a large one it closes the connection,
//! without having said so: the answer's head was already written. A caller who has sent all of it takes the connection for
//! free and loses its next request. So bodies that are large, or of no stated length, are watched, and the answer says
//! `connection: close` if they were not read. Small ones are not: who is refused because there is too much to do should
//! not have to connect again. Refuses to know why a body was not read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{Request, Version},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::{Body as _, Incoming};

/// What hyper finds in its buffer and reads away is less than this for certain.
const SMALL_BYTES: u64 = 64 << 10;

/// A request's body that is being watched.
struct Watched {
    body: Incoming,
    ended: Arc<AtomicBool>,
}

/// What is to be asked once there is an answer.
pub(super) struct Left(Option<Arc<AtomicBool>>);

/// The request as a handler takes it. On HTTP/2 a connection goes on, whatever is left of one of its requests.
pub(super) fn watch(request: Request<Incoming>) -> (Request<Body>, Left) {
    let small = |body: &Incoming| body.size_hint().upper().is_some_and(|bytes| bytes <= SMALL_BYTES);
    if request.version() >= Version::HTTP_2 || small(request.body()) {
        return (request.map(Body::new), Left(None));
    }
    let ended = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let left = Left(Some(ended.clone()));
    (request.map(|body| Body::new(Watched { body, ended })), left)
}

impl Left {
    /// Whether there is so much left that the connection ends.
    pub(super) fn is_much(&self) -> bool {
        self.0.as_ref().is_some_and(|ended| !ended.load(Relaxed))
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.ended.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
