//! The tie between a caller and the invocation that works for it. The invocation is a task of its own; the caller waits
//! at most until the deadline, and when it leaves, the task is dropped at its next pause: the guest's slot is free at
//! once, waiting rows are withdrawn, and rows on a device keep what they need until their batch ends.
//!
//! A task begins on the reactor's threads, because most guests need some 10 µs and handing them to another thread and
//! back costs ten times that. A guest that has not paused after one to two milliseconds yields, and from then on the
//! task goes on on the guests' own threads, where it keeps nobody from their connections.

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

/// A caller's hold on its invocation: a task that ends when nobody waits for it.
pub(super) struct Attached<T>(JoinHandle<T>);

/// Starts `work`, which serves `invocation`; it moves to the threads of `guests` if it proves to be long.
pub(super) fn attach<T: Send + 'static>(
    guests: &Handle,
    invocation: Arc<Invocation>,
    work: impl Future<Output = T> + Send + 'static,
) -> Attached<Result<T, JoinError>> {
    let guests = guests.clone();
    Attached(tokio::spawn(async move {
        let mut here = Here { work: Some(Box::pin(work)), invocation };
        match (&mut here).await {
            Ended::Here(output) => Ok(output),
            Ended::Long(work) => Attached(guests.spawn(work)).await,
        }
    }))
}

/// Work on the reactor's threads, until it ends or proves to be long.
struct Here<F> {
    work: Option<Pin<Box<F>>>,
    invocation: Arc<Invocation>,
}

enum Ended<F: Future> {
    Here(F::Output),
    Long(Pin<Box<F>>),
}

impl<F: Future> Future for &mut Here<F> {
    type Output = Ended<F>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended<F>> {
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        match work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ended::Here(output)),
            Poll::Pending if self.invocation.is_long() => Poll::Ready(Ended::Long(work)),
            Poll::Pending => {
                self.work = Some(work);
                Poll::Pending
            }
        }
    }
}

impl<T> Future for Attached<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
