//! The tie between a caller and the invocation that works for it. The invocation is a task of its own; the caller waits
//! at most until the deadline, and when it leaves, the task is dropped at its next pause: the guest's slot is free at
//! once, waiting rows are withdrawn, and rows on a device keep what they need until their batch ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

/// A caller's hold on its invocation.
pub(super) struct Attached<T>(JoinHandle<T>);

/// Starts `work` on the guests' threads.
pub(super) fn attach<T: Send + 'static>(guests: &Handle, work: impl Future<Output = T> + Send + 'static) -> Attached<T> {
    Attached(guests.spawn(work))
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
