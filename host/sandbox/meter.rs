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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Holds the thread for `turn` in each poll, `turns` times.
    async fn busy(turns: u32, turn: Duration) {
        for _ in 0..turns {
            let start = Instant::now();
            while start.elapsed() < turn {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_guest_that_goes_on_is_stopped_and_one_that_waits_is_not() {
        let account = Account::host(0);
        let turn = Duration::from_millis(2);
        let endless = metered(pin!(busy(u32::MAX, turn)), &account, Duration::from_millis(20)).await;
        assert!(endless.is_err());
        assert!(account.spent(Used::Guest) >= Duration::from_millis(20));
        let account = Account::host(0);
        let wait = tokio::time::sleep(Duration::from_millis(30));
        assert!(metered(pin!(wait), &account, Duration::from_millis(20)).await.is_ok());
    }

    #[tokio::test]
    async fn time_of_earlier_stages_counts_also_where_a_stage_does_not_pause() {
        let account = Account::host(0);
        account.spend(Used::HostCall, Duration::from_millis(50));
        let short = metered(pin!(std::future::ready(())), &account, Duration::from_millis(20)).await;
        assert!(short.is_err());
    }
}
