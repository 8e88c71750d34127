//! Stale answers that are computed again behind traffic: a few at a time, as work that may wait for what is interactive.

use std::{sync::Arc, time::Instant};

use tokio::{sync::watch, task::JoinSet};

use super::{
    super::{Runtime, admission::Entrant, snapshot::Snapshot, work::Work},
    Asked, Duty, Refreshes,
};
use crate::{invocation::Request, telemetry::TraceContext, tenant::Priority};

/// Refreshes that run at once.
const AT_ONCE: usize = 8;

/// An answer that is to be computed again.
#[derive(Debug)]
pub(in crate::function) struct Refresh {
    pub(super) snapshot: Snapshot,
    pub(super) request: Arc<Request>,
    /// The request that found it stale.
    pub(super) id: Arc<str>,
    pub(super) duty: Duty,
}

impl Runtime {
    /// Computes again what was found stale, until told to stop.
    pub async fn refresh(self: Arc<Self>, mut refreshes: Refreshes, mut stopped: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = running.join_next() => {}
                refresh = refreshes.0.recv(), if running.len() < AT_ONCE => {
                    let Some(refresh) = refresh else { return };
                    let runtime = self.clone();
                    running.spawn(async move { runtime.compute_again(refresh).await });
                }
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    async fn compute_again(&self, refresh: Refresh) {
        let Refresh { snapshot, request, id, duty } = refresh;
        let id: Arc<str> = format!("{id}-refresh").into();
        let deadline = Instant::now() + snapshot.revision.manifest.limits.timeout();
        // Nobody waits: what is refused is asked for again by the next hit.
        let (priority, trace, record) = (Priority::Batch, TraceContext::begin(), None);
        let entrant = Entrant { id: &id, priority, trace, record, may_be_known: false };
        let invocation = match self.admission.admit(entrant, &snapshot, deadline) {
            Ok(invocation) => invocation,
            Err(error) => return tracing::debug!("a stale answer stays: {error}"),
        };
        let asked = Asked { snapshot: &snapshot, invocation: &invocation, request: &request };
        let result = self.compute(Work::new(asked, Some(&self.remembered))).await;
        // Nobody is there to be given it.
        let _ = self.remembered.settle(duty, asked, result);
    }
}
