//! Reading a request's body: under the function's limit, the invocation's account and its deadline.

use std::time::Instant;

use bytes::Bytes;

use crate::account::{Charge, ChargedBytes, OverLimit};

/// A body that arrives in pieces. `http` implements it; a test may too.
pub trait Body: Send {
    /// The length that the caller announced.
    fn announced(&self) -> Option<u64>;
    /// The next piece; `None` at the end; the text of what broke off the transfer.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, String>>> + Send;
}

/// Why a body could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Announced or found to be over the limit.
    #[error("the body is larger than the {limit} bytes that the function takes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The caller's transfer ended early or was malformed.
    #[error("the body could not be read: {0}")]
    Broken(String),
}

/// Why reading ended.
pub(super) enum ReadError {
    Body(BodyError),
    Memory(OverLimit),
    Deadline,
}

/// Refuses an announced length over the limit, before anything is read.
pub(super) fn check_announced(body: &impl Body, limit: u64) -> Result<(), BodyError> {
    match body.announced() {
        Some(announced) if announced > limit => Err(BodyError::TooLarge { limit }),
        _ => Ok(()),
    }
}

/// Reads the whole body. Pieces are charged as they come, added to what `charge` holds for the head: an announced length
/// is a claim, not memory.
pub(super) async fn read(
    body: &mut impl Body,
    limit: u64,
    charge: Charge,
    deadline: Instant,
) -> Result<(Bytes, Charge), ReadError> {
    let most = usize::try_from(body.announced().unwrap_or(limit)).unwrap_or(usize::MAX);
    let mut first = Bytes::new();
    let mut bytes = ChargedBytes::new(charge);
    loop {
        let piece = match tokio::time::timeout_at(deadline.into(), body.next()).await {
            Err(_) => return Err(ReadError::Deadline),
            Ok(None) => break,
            Ok(Some(Err(reason))) => return Err(ReadError::Body(BodyError::Broken(reason))),
            Ok(Some(Ok(piece))) => piece,
        };
        if (first.len() + bytes.len() + piece.len()) as u64 > limit {
            return Err(ReadError::Body(BodyError::TooLarge { limit }));
        }
        // A body of one piece, which most are, is never copied.
        if first.is_empty() && bytes.is_empty() {
            bytes.charge().grow(piece.len() as u64).map_err(ReadError::Memory)?;
            first = piece;
            continue;
        }
        let before = std::mem::take(&mut first);
        for piece in [&before, &piece] {
            bytes.extend(piece, most).map_err(ReadError::Memory)?;
        }
        bytes.charge().shrink(before.len() as u64);
    }
    let (bytes, charge) = bytes.finish();
    Ok((if first.is_empty() { bytes } else { first }, charge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Kind};

    const HEAD_BYTES: u64 = 7;

    struct Pieces(std::collections::VecDeque<Result<&'static [u8], &'static str>>, Option<u64>);

    impl Body for Pieces {
        fn announced(&self) -> Option<u64> {
            self.1
        }
        async fn next(&mut self) -> Option<Result<Bytes, String>> {
            let piece = self.0.pop_front()?;
            Some(piece.map(Bytes::from_static).map_err(str::to_owned))
        }
    }

    async fn read_all(pieces: &[Result<&'static [u8], &'static str>], limit: u64) -> Result<Bytes, ReadError> {
        let account = Account::host(1 << 20);
        let mut body = Pieces(pieces.iter().copied().collect(), None);
        let head = account.charge(Kind::Request, HEAD_BYTES).unwrap();
        let read = read(&mut body, limit, head, Instant::now() + std::time::Duration::from_secs(5)).await;
        let bytes = read.map(|(bytes, charge)| {
            assert_eq!(account.held_bytes(), HEAD_BYTES + bytes.len() as u64);
            drop(charge);
            bytes
        });
        assert_eq!(account.held_bytes(), 0);
        bytes
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        assert_eq!(read_all(&[Ok(b"ab"), Ok(b""), Ok(b"cd")], 4).await.ok().unwrap(), "abcd");
        assert_eq!(read_all(&[], 4).await.ok().unwrap(), "");
        assert!(matches!(
            read_all(&[Ok(b"ab"), Ok(b"cde")], 4).await,
            Err(ReadError::Body(BodyError::TooLarge { limit: 4 }))
        ));
        assert!(matches!(read_all(&[Ok(b"ab"), Err("reset")], 4).await, Err(ReadError::Body(BodyError::Broken(_)))));
    }
}
