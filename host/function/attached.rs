//! The tie between a caller and the invocation that works for it. The caller waits at most until the deadline, and when
//! it leaves, the work is dropped at its next pause: the guest's slot is free at once, waiting rows are withdrawn, and
//! rows on a device keep what they need until their batch ends.
//!
//! Work begins on the thread that read the request, because most guests need some 10 µs, and handing them to another
//! thread and back costs several times that. A guest that has not paused after one to two milliseconds yields, and from
//! then on its work is a task on the guests' own threads, where it keeps nobody from their connections, and goes on in
//! turns with others (`gate`). A tenant that has had more than those who wait there begins there, however short its work.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use super::gate::{Gate, Gated};
use crate::invocation::Invocation;

/// Where long work goes on.
pub(super) struct Guests {
    /// The threads.
    pub(super) threads: Handle,
    /// Whose turn it is on them.
    pub(super) gate: Arc<Gate>,
}

/// A caller's hold on the work for it: dropped with it.
pub(super) struct Attached<F: Future> {
    guests: Arc<Guests>,
    invocation: Arc<Invocation>,
    work: Work<F>,
}

enum Work<F: Future> {
    /// Where the caller is.
    Here(Pin<Box<F>>),
    /// On the guests' threads.
    Moved(Task<F::Output>),
    /// For the moment between the two.
    Gone,
}

/// A task that ends when nobody waits for it.
pub(super) struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    /// The error is a panic there.
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ties the caller to `work`, which serves `invocation` and moves to the threads of `guests` if it proves to be long, or
/// at once where that is `expected`, or where others wait there who have had less.
pub(super) fn attach<F: Future<Output: Send + 'static> + Send + 'static>(
    guests: &Arc<Guests>,
    invocation: Arc<Invocation>,
    expected: bool,
    work: Pin<Box<F>>,
) -> Attached<F> {
    let begins_there = expected || guests.gate.is_ahead(&invocation);
    let work = if begins_there { Work::Moved(guests.spawn(&invocation, work)) } else { Work::Here(work) };
    Attached { guests: guests.clone(), invocation, work }
}

impl Guests {
    /// Begins work there.
    pub(super) fn spawn<F>(&self, invocation: &Arc<Invocation>, work: Pin<Box<F>>) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Task(self.threads.spawn(Gated::new(self.gate.clone(), invocation.clone(), work)))
    }

    /// Does work without pauses: there where it is `long` or where others wait who have had less, else here.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        invocation: &Arc<Invocation>,
        long: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        if long || self.gate.is_ahead(invocation) {
            return self.spawn(invocation, Box::pin(async move { work() })).await;
        }
        let start = Instant::now();
        let done = work();
        self.gate.charge_for(invocation, || start.elapsed());
        Ok(done)
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Attached<F> {
    /// Goes on on the guests' threads with what has begun here.
    fn move_away(&mut self) -> &mut Task<F::Output> {
        if let Work::Here(work) = std::mem::replace(&mut self.work, Work::Gone) {
            // What it took so far was outside of all turns; from here on each is measured.
            self.guests.gate.charge(&self.invocation);
            self.work = Work::Moved(self.guests.spawn(&self.invocation, work));
        }
        match &mut self.work {
            Work::Moved(task) => task,
            Work::Here(_) | Work::Gone => unreachable!("only work that is here moves, and it just did"),
        }
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Future for Attached<F> {
    /// The error is a panic on the guests' threads.
    type Output = Result<F::Output, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = match &mut self.work {
            Work::Moved(task) => task,
            Work::Here(work) => {
                match work.as_mut().poll(context) {
                    Poll::Ready(output) => return Poll::Ready(Ok(output)),
                    Poll::Pending if !self.invocation.is_long() => return Poll::Pending,
                    Poll::Pending => {}
                }
                self.move_away()
            }
            Work::Gone => return Poll::Pending,
        };
        Pin::new(task).poll(context)
    }
}

impl<F: Future> Drop for Attached<F> {
    fn drop(&mut self) {
        if let Work::Here(_) = self.work {
            self.guests.gate.charge(&self.invocation);
        }
    }
}
