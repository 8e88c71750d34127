//! Whether an answer on HTTP/1.1 leaves some of its request unread, and so is the connection's last.
//!
//! Of a body that nobody read, hyper takes away what happens to lie in its buffer and goes on with the next request; where
//! that is not all, it closes the connection without having said so: the answer's head was already written. A caller who
//! has sent all of it takes the connection for free and loses its next request. So bodies are watched. What is left of a
//! small one is read before the answer goes out: who is refused because there is too much to do should not have to connect
//! again. Where more is left, or the caller waits to be asked for it, the answer says `connection: close`. Refuses to know
//! why a body was not read.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Version, header},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

/// A body that is read to its end, although nobody wants it.
const SMALL_BYTES: u64 = 64 << 10;
/// How long its end is waited for: it was sent together with the head, or close behind.
const PATIENCE: Duration = Duration::from_millis(20);

/// What becomes of a body.
#[derive(Default)]
struct Fate {
    ended: AtomicBool,
    /// What was let go of before its end.
    left: Mutex<Option<Incoming>>,
}

/// A request's body that is being watched.
struct Watched {
    /// There until it is dropped.
    body: Option<Incoming>,
    fate: Arc<Fate>,
}

/// What is to be asked once there is an answer.
pub(super) struct Left {
    /// None where nothing can be left.
    fate: Option<Arc<Fate>>,
    small: bool,
}

/// The request as a handler takes it. On HTTP/2 a connection goes on, whatever is left of one of its requests.
pub(super) fn watch(request: Request<Incoming>) -> (Request<Body>, Left) {
    let size = request.body().size_hint().upper();
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return (request.map(Body::new), Left { fate: None, small: true });
    }
    let small = size.is_some_and(|bytes| bytes <= SMALL_BYTES) && !request.headers().contains_key(header::EXPECT);
    let fate = Arc::new(Fate::default());
    let left = Left { fate: Some(fate.clone()), small };
    (request.map(|body| Body::new(Watched { body: Some(body), fate })), left)
}

impl Left {
    /// Whether so much is left that the connection ends; reads away what is little.
    pub(super) async fn ends_connection(self) -> bool {
        let Some(fate) = self.fate.filter(|fate| !fate.ended.load(Relaxed)) else { return false };
        let body = fate.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = body.filter(|_| self.small) else { return true };
        let rest = async {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(PATIENCE, rest).await.unwrap_or(true)
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if frame.is_none() || body.is_end_stream() {
            self.fate.ended.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.fate.ended.load(Relaxed) {
            *self.fate.left.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}
