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

/// A clock for work on this thread: the wall's, which is cheap, or the thread's own, which is right on a busy machine.
pub(super) enum Clock {
    Wall(Instant),
    Thread(ThreadTime),
}

impl Clock {
    /// Starts the thread's clock for `long` work, the wall's for short.
    pub(super) fn start(long: bool) -> Self {
        if long { Self::Thread(ThreadTime::now()) } else { Self::Wall(Instant::now()) }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(start) => start.elapsed(),
            Self::Thread(start) => start.elapsed(),
        }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, CpuSpent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let clock = Clock::start(self.yielded);
        let host_calls_before = self.account.spent(Used::HostCall);
        let polled = self.future.as_mut().poll(context);
        let elapsed = clock.elapsed();
        // Host calls run within the poll and are charged under their own name.
        let host_calls = self.account.spent(Used::HostCall).saturating_sub(host_calls_before);
        self.account.spend(Used::Guest, elapsed.saturating_sub(host_calls));
        // Also where the stage is done: a guest in many short stages has no more time than one in a long one.
        let over = self.account.spent(Used::Guest) + self.account.spent(Used::HostCall) > self.limit;
        match polled {
            _ if over => Poll::Ready(Err(CpuSpent)),
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => {
                self.yielded = true;
                Poll::Pending
            }
        }
    }
}
