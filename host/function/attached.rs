//! The tie between a caller and the invocation that works for it. The caller waits at most until the deadline, and when
//! it leaves, the work is dropped at its next pause: the guest's slot is free at once, waiting rows are withdrawn, and
//! rows on a device keep what they need until their batch ends.
//!
//! Work begins on the thread that read the request, because most guests need some 10 µs, and handing them to another
//! thread and back costs several times that. A guest that has not paused after one to two milliseconds yields, and from
//! then on its work is a task on the guests' own threads, where it keeps nobody from their connections.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use crate::invocation::Invocation;

/// A caller's hold on the work for it: dropped with it.
pub(super) struct Attached<F: Future> {
    guests: Handle,
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
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ties the caller to `work`, which serves `invocation` and moves to the threads of `guests` if it proves to be long, or
/// at once where that is `expected`.
pub(super) fn attach<F: Future<Output: Send + 'static> + Send + 'static>(
    guests: &Handle,
    invocation: Arc<Invocation>,
    expected: bool,
    work: F,
) -> Attached<F> {
    let work = if expected { Work::Moved(Task(guests.spawn(work))) } else { Work::Here(Box::pin(work)) };
    Attached { guests: guests.clone(), invocation, work }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Attached<F> {
    /// Goes on on the guests' threads with what has begun here.
    fn move_away(&mut self) -> &mut Task<F::Output> {
        if let Work::Here(work) = std::mem::replace(&mut self.work, Work::Gone) {
            self.work = Work::Moved(Task(self.guests.spawn(work)));
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
        Pin::new(&mut task.0).poll(context)
    }
}
