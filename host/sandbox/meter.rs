//! Guest CPU time: every poll of a stage is timed, added to the invocation's account, and held against its limit.
//!
//! Waiting (for a batch, for a clock) is not in a poll and costs nothing. The first poll of a stage is timed by the wall
//! clock, which costs 0.05 µs; only guests that meet an epoch and yield are polled again, and from then on the thread's
//! CPU clock (0.5 µs) counts, so that a guest is not charged for time in which its thread did not run.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;

use crate::account::{Account, Used};

/// The invocation has used all its processor time.
#[derive(Debug)]
pub(super) struct CpuSpent;

/// A future whose polls are charged to `account`.
pub(super) struct Metered<'a, F> {
    future: Pin<&'a mut F>,
    account: &'a Account,
    limit: Duration,
    yielded: bool,
}

/// Meters `future`: after `limit` of guest and host-call time in the whole invocation it is not polled again.
pub(super) fn metered<'a, F: Future>(future: Pin<&'a mut F>, account: &'a Account, limit: Duration) -> Metered<'a, F> {
    Metered { future, account, limit, yielded: false }
}

enum Clock {
    Wall(Instant),
    Thread(ThreadTime),
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, CpuSpent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let clock = if self.yielded { Clock::Thread(ThreadTime::now()) } else { Clock::Wall(Instant::now()) };
        let host_calls_before = self.account.spent(Used::HostCall);
        let polled = self.future.as_mut().poll(context);
        let elapsed = match clock {
            Clock::Wall(start) => start.elapsed(),
            Clock::Thread(start) => start.elapsed(),
        };
        // Host calls run within the poll and are charged under their own name.
        let host_calls = self.account.spent(Used::HostCall).saturating_sub(host_calls_before);
        self.account.spend(Used::Guest, elapsed.saturating_sub(host_calls));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.account.spent(Used::Guest) + self.account.spent(Used::HostCall) > self.limit => {
                Poll::Ready(Err(CpuSpent))
            }
            Poll::Pending => {
                self.yielded = true;
                Poll::Pending
            }
        }
    }
}
