//! How long a connection may wait for its caller: for the first bytes, for the rest of a head, between requests, and for
//! answers to be taken (which `unsent` counts).
//!
//! hyper's own clock for heads also runs between requests, and its HTTP/2 has none; here both protocols have one, which
//! knows what is in progress until the last byte of an answer has been given to the socket. It refuses to know what a
//! request is: it sees bytes come in, and is told when a request begins and ends.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unsent::Rounds;

/// How long a connection that is to go may be without a request in progress. A caller that asks more often learns from an
/// answer that it should connect anew, and its requests never meet a connection that closes.
const LEAVING_IDLE: Duration = Duration::from_secs(2);

/// What the clock is set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// For the first bytes of a connection, and from the first byte of a head to its last.
    pub(super) head: Duration,
    /// Without a request in progress.
    pub(super) idle: Duration,
    /// Without progress of an answer.
    pub(super) write: Duration,
}

/// The clock of one connection.
pub(super) struct Pace {
    waits: Waits,
    /// HTTP/2 sends bytes that belong to no request, such as answers to pings: they begin no head.
    bytes_begin_heads: bool,
    state: Mutex<State>,
    leaving: AtomicBool,
    rounds: Rounds,
}

struct State {
    in_progress: usize,
    /// The caller is about to say something, and not merely there.
    speaking: bool,
    since: Instant,
}

/// What to do with a connection whose caller has not been heard of in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It owes the rest of a head: nothing can be said to it.
    Head,
    /// It was idle: it can be told that the connection ends.
    Idle,
    /// It does not take an answer: it holds what the answer holds.
    Answer,
}

impl Pace {
    /// Begins with waiting for the first bytes. `bytes_begin_heads` is for HTTP/1.1.
    pub(super) fn new(waits: Waits, bytes_begin_heads: bool) -> Arc<Self> {
        let state = State { in_progress: 0, speaking: true, since: Instant::now() };
        let (state, rounds) = (Mutex::new(state), Rounds::new(bytes_begin_heads));
        Arc::new(Self { waits, bytes_begin_heads, state, leaving: AtomicBool::new(false), rounds })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock; if it did, the numbers would still be numbers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_read(&self) {
        let mut state = self.state();
        if state.in_progress == 0 && state.speaking != self.bytes_begin_heads {
            state.speaking = self.bytes_begin_heads;
            state.since = Instant::now();
        }
    }

    /// Marks a request as in progress, until the last copy of the mark is gone.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.state().in_progress += 1;
        InProgress(self.clone())
    }

    /// When patience ends if nothing happens, and what then; none while a request is in progress.
    pub(super) fn deadline(&self) -> Option<(Instant, Late)> {
        let state = self.state();
        match (state.in_progress, state.speaking) {
            (0, true) => Some((state.since + self.waits.head, Late::Head)),
            (0, false) => Some((state.since + self.idle(), Late::Idle)),
            _ => None,
        }
    }

    fn idle(&self) -> Duration {
        if self.leaves() { self.waits.idle.min(LEAVING_IDLE) } else { self.waits.idle }
    }

    /// From now on the connection is to go: its next answer says so, and it is not idle for long.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
        let mut state = self.state();
        if state.in_progress == 0 && !state.speaking {
            state.since = Instant::now();
        }
    }

    /// Whether it is to go.
    pub(super) fn leaves(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// When nothing was in progress for the last time, or when a head began after it.
    pub(super) fn since(&self) -> Instant {
        self.state().since
    }

    /// What answers did lately.
    pub(super) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// How long a round of these lasts: an answer that is not taken is noticed after one to one and a half times
    /// `Waits::write`.
    pub(super) fn round(&self) -> Duration {
        self.waits.write / 2
    }
}

/// A request in progress. Each copy counts.
pub(super) struct InProgress(Arc<Pace>);

impl InProgress {
    /// The clock that it stops.
    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.0
    }
}

impl Clone for InProgress {
    fn clone(&self) -> Self {
        self.0.begin()
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_progress -= 1;
        if state.in_progress == 0 {
            (state.speaking, state.since) = (false, Instant::now());
        }
    }
}

/// A connection's bytes, of which the clock is told when they come in.
pub(super) struct Heard<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.pace.has_read();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
    use super::*;

    const WAITS: Waits =
        Waits { head: Duration::from_secs(5), idle: Duration::from_secs(60), write: Duration::from_secs(30) };

    fn late(pace: &Pace) -> Option<Late> {
        pace.deadline().map(|(_, late)| late)
    }

    #[test]
    fn bytes_begin_a_head_and_the_last_byte_of_an_answer_ends_a_request() {
        let pace = Pace::new(WAITS, true);
        assert_eq!(late(&pace), Some(Late::Head), "the first bytes are owed");
        let request = pace.begin();
        let piece = request.clone();
        drop(request);
        pace.has_read();
        assert_eq!(late(&pace), None, "a piece is still on its way");
        drop(piece);
        assert_eq!(late(&pace), Some(Late::Idle));
        pace.has_read();
        let (first, _) = pace.deadline().unwrap();
        pace.has_read();
        assert_eq!(pace.deadline(), Some((first, Late::Head)), "further bytes give no further time");
    }

    #[test]
    fn a_connection_that_is_to_go_has_little_patience_from_then_on() {
        let pace = Pace::new(WAITS, true);
        pace.leave();
        assert_eq!(late(&pace), Some(Late::Head), "whoever has just come may still ask");
        let request = pace.begin();
        assert!(pace.leaves() && pace.deadline().is_none());
        drop(request);
        let idle = |pace: &Pace| pace.deadline().unwrap().0.saturating_duration_since(Instant::now());
        assert!(idle(&pace) <= LEAVING_IDLE);
        let quiet = Pace::new(WAITS, true);
        drop(quiet.begin());
        quiet.state().since -= Duration::from_secs(30);
        quiet.leave();
        assert!(idle(&quiet) > LEAVING_IDLE / 2, "idle before is no reason to end at once");
    }

    #[test]
    fn bytes_of_http_2_between_requests_are_no_sign_of_life() {
        let pace = Pace::new(WAITS, false);
        assert_eq!(late(&pace), Some(Late::Head));
        pace.has_read();
        let (first, kind) = pace.deadline().unwrap();
        assert_eq!(kind, Late::Idle);
        pace.has_read();
        assert_eq!(pace.deadline(), Some((first, Late::Idle)));
    }
}
