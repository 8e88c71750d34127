//! The line before a function that says how many of its invocations may run at once.
//!
//! Owns the places and the wait for one, which `function.toml` bounds in number and time. Refuses to know the host's own
//! places: these come after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{InvokeError, manifest::Limits};

/// When to come again to a function where nobody may wait.
const RETRY: Duration = Duration::from_secs(1);

/// Places of one function, and who waits for them.
#[derive(Debug)]
pub(super) struct Line {
    places: Arc<Semaphore>,
    limit: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    timeout: Duration,
}

/// Somebody who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Line {
    /// As a manifest says; none where any number may run at once.
    pub(super) fn of(limits: &Limits) -> Option<Self> {
        let limit = limits.max_concurrency? as usize;
        Some(Self {
            places: Arc::new(Semaphore::new(limit)),
            limit,
            waiting: AtomicUsize::new(0),
            max_waiting: limits.max_waiting as usize,
            timeout: Duration::from_millis(limits.wait_timeout_ms),
        })
    }

    /// Whether another says the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.limit, self.max_waiting, self.timeout) == (other.limit, other.max_waiting, other.timeout)
    }

    /// A place, waited for within the line's bounds and the request's.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, InvokeError> {
        let full = |retry_after| InvokeError::FunctionConcurrency { limit: self.limit, retry_after };
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let joins = |waiting: usize| (waiting < self.max_waiting).then_some(waiting + 1);
        if self.waiting.try_update(Relaxed, Relaxed, joins).is_err() {
            return Err(full(RETRY.max(self.timeout)));
        }
        let _waiting = Waiting(&self.waiting);
        let until = deadline.min(Instant::now() + self.timeout);
        match tokio::time::timeout_at(until.into(), self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(full(RETRY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(max_waiting: u32, wait_timeout_ms: u64) -> Arc<Line> {
        let limits = Limits { max_concurrency: Some(1), max_waiting, wait_timeout_ms, ..Limits::default() };
        Arc::new(Line::of(&limits).unwrap())
    }

    #[tokio::test]
    async fn so_many_run_so_many_wait_and_no_longer_than_allowed() {
        let (line, deadline) = (line(1, 50), Instant::now() + Duration::from_secs(3600));
        let place = line.enter(deadline).await.unwrap();
        let waits = line.enter(deadline);
        let mut waits = std::pin::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert!(line.enter(deadline).await.is_err(), "one waits already");
        drop(place);
        let place = waits.await.unwrap();
        let start = Instant::now();
        assert!(line.enter(deadline).await.is_err(), "it waited in vain");
        assert!(start.elapsed() >= Duration::from_millis(45), "{:?}", start.elapsed());
        let start = Instant::now();
        assert!(line.enter(start).await.is_err(), "the request's own deadline counts, too");
        assert!(start.elapsed() < Duration::from_millis(45), "{:?}", start.elapsed());
        drop(place);
        assert!(line.enter(deadline).await.is_ok());
        assert_eq!(line.waiting.load(Relaxed), 0);
        assert!(Line::of(&Limits::default()).is_none());
    }
}
