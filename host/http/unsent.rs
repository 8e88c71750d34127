//! Answers on their way out, and whether their callers take them.
//!
//! A write to the socket that waits too long is one sign of a caller who does not read, but not the only one: on HTTP/2 a
//! caller decides for each answer when it may be written at all, and nothing waits at the socket meanwhile; and one byte
//! now and then is no reading either. So answers are counted by the round of time in which they last got on. Owns that
//! count; refuses to know how long a round is. Costs some atomic additions for each answer, and no clock is read.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use super::pace::{InProgress, Pace};

/// Fewer bytes of an answer are no progress, unless they are its last.
const LEAST_BYTES: usize = 4 << 10;

/// An answer may miss this many whole rounds, and be late in a further one.
const ROUNDS: usize = 3;

/// What a connection's answers did lately.
pub(super) struct Rounds {
    /// In HTTP/1.1 answers stand behind each other, and it is the first one that counts.
    in_order: bool,
    now: AtomicUsize,
    /// How many answers last got on in each round.
    unsent: [AtomicUsize; ROUNDS],
}

impl Rounds {
    pub(super) fn new(in_order: bool) -> Self {
        Self { in_order, now: AtomicUsize::new(0), unsent: Default::default() }
    }

    /// Begins a new round, or tells that somebody does not take an answer: it has not got on for all rounds that are
    /// remembered, this one not counted.
    pub(super) fn turn(&self) -> bool {
        let next = (self.now.load(Relaxed) + 1) % ROUNDS;
        let unsent = |round: usize| self.unsent[round].load(Relaxed) > 0;
        let others = (0..ROUNDS).any(|round| round != next && unsent(round));
        if unsent(next) && !(self.in_order && others) {
            return true;
        }
        self.now.store(next, Relaxed);
        false
    }

    fn join(&self) -> usize {
        let now = self.now.load(Relaxed);
        self.unsent[now].fetch_add(1, Relaxed);
        now
    }

    fn leave(&self, round: usize) {
        self.unsent[round].fetch_sub(1, Relaxed);
    }
}

/// One answer of which something has not been written: pieces that wait together share it, so that none is blamed for
/// waiting behind another.
struct Unsent {
    pace: Arc<Pace>,
    round: AtomicUsize,
    taken: AtomicUsize,
}

impl Unsent {
    fn new(pace: Arc<Pace>) -> Arc<Self> {
        let round = AtomicUsize::new(pace.rounds().join());
        Arc::new(Self { pace, round, taken: AtomicUsize::new(0) })
    }

    /// Called by whoever writes the connection, and nobody else at the same time.
    fn taken(&self, bytes: usize) {
        if self.taken.fetch_add(bytes, Relaxed) + bytes >= LEAST_BYTES {
            let now = self.pace.rounds().join();
            self.pace.rounds().leave(self.round.swap(now, Relaxed));
            self.taken.store(0, Relaxed);
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.pace.rounds().leave(*self.round.get_mut());
    }
}

/// An answer's body, each piece of which keeps the request in progress until it has been written: a slow reader is not
/// idle.
pub(super) struct Tracked {
    body: Body,
    in_progress: InProgress,
    /// Held until there is a piece. Nearly all answers of this host are one.
    first: Option<Arc<Unsent>>,
    /// What has not been written. An answer that goes on for ever, such as a log that is followed, owes its caller nothing
    /// between its pieces.
    unsent: Weak<Unsent>,
}

impl Tracked {
    pub(super) fn new(body: Body, in_progress: InProgress) -> Self {
        let first = Unsent::new(in_progress.pace().clone());
        let unsent = Arc::downgrade(&first);
        Self { body, in_progress, first: Some(first), unsent }
    }

    /// What a further piece waits with: those before it, where they still wait.
    fn unsent(&mut self) -> Arc<Unsent> {
        let waiting = self.first.take().or_else(|| self.unsent.upgrade());
        waiting.unwrap_or_else(|| {
            let unsent = Unsent::new(self.in_progress.pace().clone());
            self.unsent = Arc::downgrade(&unsent);
            unsent
        })
    }
}

impl http_body::Body for Tracked {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let this = &mut *self;
        let piece = |bytes| Piece { bytes, unsent: this.unsent(), _in_progress: this.in_progress.clone() };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// Bytes on their way to the socket.
pub(super) struct Piece {
    bytes: Bytes,
    unsent: Arc<Unsent>,
    _in_progress: InProgress,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }
    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }
    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.unsent.taken(count);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body::Body as _;

    use super::*;
    use crate::http::pace::Waits;

    const WAITS: Waits =
        Waits { head: Duration::from_secs(5), idle: Duration::from_secs(60), write: Duration::from_secs(30) };

    /// An answer whose first piece has been asked for.
    fn piece(pace: &Arc<Pace>) -> Piece {
        next(&mut Tracked::new(Body::from(vec![0; 10 * LEAST_BYTES]), pace.begin()))
    }

    /// The next piece of an answer that is there.
    fn next(tracked: &mut Tracked) -> Piece {
        let polled = Pin::new(tracked).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = polled else { panic!("a piece that is there") };
        frame.into_data().ok().unwrap()
    }

    /// Rounds until it is told that an answer is not taken.
    fn rounds(pace: &Pace) -> usize {
        (1..100).find(|_| pace.rounds().turn()).unwrap()
    }

    #[test]
    fn an_answer_that_is_never_asked_for_is_late() {
        for in_order in [true, false] {
            let pace = Pace::new(WAITS, in_order);
            assert!((0..10).all(|_| !pace.rounds().turn()), "nothing is there");
            let tracked = Tracked::new(Body::from("x"), pace.begin());
            assert_eq!(rounds(&pace), ROUNDS);
            drop(tracked);
            assert!(!pace.rounds().turn());
            let piece = piece(&pace);
            assert_eq!(rounds(&pace), ROUNDS);
            drop(piece);
            assert!((0..10).all(|_| !pace.rounds().turn()));
        }
    }

    #[test]
    fn bytes_are_progress_and_single_ones_are_not() {
        let pace = Pace::new(WAITS, false);
        let mut piece = piece(&pace);
        for _ in 0..8 {
            assert!(!pace.rounds().turn());
            piece.advance(LEAST_BYTES);
        }
        let trickled = (1..100).find(|_| {
            piece.advance(1);
            pace.rounds().turn()
        });
        assert_eq!(trickled, Some(ROUNDS));
    }

    #[test]
    fn an_answer_that_goes_on_owes_nothing_between_its_pieces() {
        for in_order in [true, false] {
            let pace = Pace::new(WAITS, in_order);
            let pieces =
                futures_util::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![0; 64 * LEAST_BYTES]));
            let mut tracked = Tracked::new(Body::from_stream(pieces), pace.begin());
            drop(next(&mut tracked));
            assert!((0..10).all(|_| !pace.rounds().turn()), "nothing waits to be written");
            // Two that wait: what is taken of the first is progress for both.
            let (mut first, second) = (next(&mut tracked), next(&mut tracked));
            assert!((0..10).all(|_| {
                first.advance(LEAST_BYTES / 2);
                !pace.rounds().turn()
            }));
            drop(first);
            assert!(rounds(&pace) <= ROUNDS, "the second is not taken");
            drop(second);
            assert!((0..10).all(|_| !pace.rounds().turn()));
            let third = next(&mut tracked);
            assert_eq!(rounds(&pace), ROUNDS);
            drop((third, tracked));
            assert!(!pace.rounds().turn());
        }
    }

    #[test]
    fn where_answers_are_in_order_the_later_ones_may_wait() {
        for (in_order, late) in [(true, false), (false, true)] {
            let pace = Pace::new(WAITS, in_order);
            let (mut first, _second) = (piece(&pace), piece(&pace));
            let turned = (0..8).any(|_| {
                first.advance(LEAST_BYTES);
                pace.rounds().turn()
            });
            assert_eq!(turned, late);
        }
    }
}
