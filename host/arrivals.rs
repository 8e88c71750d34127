//! Invocations that were let in and have not queued their rows yet: whoever stands at the door of a model must count them,
//! or a herd that comes at once is let in whole and refused after its guests have worked.
//!
//! Vocabulary: the engine counts, an invocation holds its part until its rows come or it ends. Refuses to know queues.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Rows that are expected at one model.
#[derive(Debug, Default)]
pub struct Arrivals(AtomicUsize);

/// One invocation's part, given back when it is dropped.
#[derive(Debug)]
pub struct Arrival {
    at: Arc<Arrivals>,
    rows: usize,
}

impl Arrivals {
    /// How many rows are expected.
    pub fn rows(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// So many more are.
    pub fn expect(self: &Arc<Self>, rows: usize) -> Arrival {
        self.0.fetch_add(rows, Relaxed);
        Arrival { at: self.clone(), rows }
    }
}

impl Arrival {
    /// Whether it is expected there.
    pub fn is_at(&self, arrivals: &Arc<Arrivals>) -> bool {
        Arc::ptr_eq(&self.at, arrivals)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.at.0.fetch_sub(self.rows, Relaxed);
    }
}
