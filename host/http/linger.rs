//! How an HTTP/1.1 connection ends while its caller is still talking.
//!
//! A request that is refused before its body has been read is answered, and the connection ends; but a socket that is
//! closed with unread bytes, or that gets further ones, is reset, and a reset throws away what the caller has not read
//! yet: our answer. So we say that nothing more will come, and listen for a while without keeping anything. Owns that
//! while, in time and bytes. Refuses to know what was answered.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::pace::Pace;

/// From the last answer on: whoever has had so long to read it needs no further time.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read and thrown away: more than most bodies that are refused, and no reason to send more.
const MOST_BYTES: usize = 32 << 20;
/// What is thrown away at once.
const PIECE_BYTES: usize = 8 << 10;

/// A connection's bytes, and what becomes of those that nobody wants.
pub(super) struct Lingering<S> {
    stream: S,
    pace: Arc<Pace>,
    /// Since our side has said its end.
    until: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace, until: None, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Reads until the caller has said its end too, or patience has.
    fn poll_discard(&mut self, context: &mut Context<'_>, until: &mut Pin<Box<Sleep>>) -> Poll<()> {
        while self.read < MOST_BYTES && until.as_mut().poll(context).is_pending() {
            let mut space = [MaybeUninit::uninit(); PIECE_BYTES];
            let mut piece = ReadBuf::uninit(&mut space);
            // An error is an end like any other.
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => self.read += piece.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut until = match this.until.take() {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                Box::pin(sleep_until((this.pace.since() + PATIENCE).into()))
            }
        };
        if this.poll_discard(context, &mut until).is_pending() {
            this.until = Some(until);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::http::pace::Waits;

    fn lingering<S>(stream: S) -> Lingering<S> {
        let second = Duration::from_secs(1);
        Lingering::new(stream, Pace::new(Waits { head: second, idle: second, write: second }, true))
    }

    #[tokio::test]
    async fn what_still_comes_is_thrown_away_until_the_other_side_ends() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = lingering(ours);
        let ending = tokio::spawn(async move { ours.shutdown().await });
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0, "our end comes first");
        theirs.write_all(&[0; 100 * PIECE_BYTES]).await.unwrap();
        assert!(!ending.is_finished());
        drop(theirs);
        ending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn patience_ends() {
        let (ours, theirs) = tokio::io::duplex(64);
        let begun = std::time::Instant::now();
        lingering(ours).shutdown().await.unwrap();
        assert!(begun.elapsed() >= PATIENCE / 2, "{:?}", begun.elapsed());
        drop(theirs);
    }
}
