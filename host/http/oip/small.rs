//! Bodies that bring no tensors, over HTTP and gRPC alike: questions about models, and changes of them.
//!
//! Nobody is asked for a place or charged for them, so they are bounded here, in bytes and in time. Refuses to know what
//! they say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout_at;

use super::Refused;
use crate::{
    function::Body,
    http::{handle::Head, problem::Problem},
};

/// The longest of them: a name, or a few parameters.
pub(super) const MAX_BYTES: usize = 4 << 10;
/// How long one may take from its head on: what a head itself has, by default. Operators need no setting for it, because
/// whoever sends a few bytes sends them with the head.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The whole of a small body.
pub(super) async fn read(mut body: impl Body, head: &Head) -> Result<Bytes, Refused> {
    let refused = |code, detail: String| Box::new(Problem::new(code, detail, &head.id));
    let too_large =
        || refused("body-too-large", format!("a body that brings no tensors has at most {MAX_BYTES} bytes"));
    if body.announced().is_some_and(|bytes| bytes > MAX_BYTES as u64) {
        return Err(too_large());
    }
    let whole = async {
        let mut all = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|broken| refused("bad-request", broken))?;
            if all.len() + piece.len() > MAX_BYTES {
                return Err(too_large());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    };
    let late = || refused("deadline-exceeded", format!("the body was not there within {} ms", TIMEOUT.as_millis()));
    timeout_at((head.arrived + TIMEOUT).into(), whole).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Instant};

    use futures_util::stream::{self, StreamExt as _};

    use super::*;
    use crate::{http::incoming::WireBody, telemetry::TraceContext};

    /// Pieces of a body that was begun `ago`, and perhaps never ends.
    async fn status(pieces: Vec<Vec<u8>>, ends: bool, ago: Duration) -> Result<usize, u16> {
        let arrived = Instant::now().checked_sub(ago).expect("the clock has run for a while");
        let head = Head { id: "1".into(), arrived, trace: TraceContext::default() };
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let body = match ends {
            true => axum::body::Body::from_stream(pieces),
            false => axum::body::Body::from_stream(pieces.chain(stream::pending())),
        };
        let read = tokio::time::timeout(Duration::from_secs(60), read(WireBody::new(body), &head)).await;
        read.expect("an end, whoever stays away").map(|body| body.len()).map_err(|problem| problem.status())
    }

    #[tokio::test]
    async fn a_small_body_is_small_and_there_in_time() {
        let now = Duration::ZERO;
        assert_eq!(status(vec![], true, now).await, Ok(0));
        assert_eq!(status(vec![vec![0; 4000], vec![0; 96]], true, now).await, Ok(4096));
        assert_eq!(status(vec![vec![0; 4000], vec![0; 97]], true, now).await, Err(413));
        assert_eq!(status(vec![vec![0; 10]], false, TIMEOUT).await, Err(504));
    }
}
