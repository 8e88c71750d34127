//! The door: what is decided about a request before its body is read and before any guest runs. Refusals are cheap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, watch};

use super::{InferError, InvokeError, snapshot::Snapshot};
use crate::{
    account::Holder,
    engine::Model,
    invocation::{Invocation, Permit},
    telemetry::{Record, Telemetry, TraceContext},
};

/// Decides who comes in.
pub struct Admission {
    permits: Arc<Semaphore>,
    places: usize,
    draining: AtomicBool,
    cut: watch::Sender<bool>,
    retry_after: Duration,
    telemetry: Arc<Telemetry>,
}

impl Admission {
    /// `permits` has one permit for each instance that the sandbox can hold.
    pub fn new(permits: Arc<Semaphore>, retry_after: Duration, telemetry: Arc<Telemetry>) -> Self {
        let places = permits.available_permits();
        Self {
            permits,
            places,
            draining: AtomicBool::new(false),
            cut: watch::Sender::new(false),
            retry_after,
            telemetry,
        }
    }

    /// Lets an invocation in: host not draining, a place free, room in the queue of every bound model. What it may hold
    /// is accounted from here on.
    pub(super) fn admit(
        &self,
        id: &Arc<str>,
        snapshot: &Snapshot,
        deadline: Instant,
        (trace, record): (TraceContext, Option<Arc<Record>>),
    ) -> Result<Arc<Invocation>, InvokeError> {
        let permit = self.enter(snapshot.models.by_alias.values())?;
        let revision = &snapshot.revision;
        let account = revision.tenant_account.child(Holder::Invocation, revision.manifest.limits.memory_bytes);
        let names = (revision.tenant.clone(), revision.function.clone());
        let invocation = Invocation::new(id.clone(), names, deadline, account).with_permit(permit);
        Ok(Arc::new(invocation.of_revision(revision.number).traced(trace, record)))
    }

    /// A place for whoever will ask these models.
    pub(super) fn enter<'a>(&self, models: impl Iterator<Item = &'a Arc<Model>>) -> Result<Permit, InvokeError> {
        if self.is_draining() {
            self.telemetry.shed("draining");
            return Err(InvokeError::Draining { retry_after: self.retry_after });
        }
        for model in models {
            model.room().inspect_err(|error| self.telemetry.shed(reason(error)))?;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.telemetry.shed("concurrency-limit");
            return Err(InvokeError::Concurrency { limit: self.places, retry_after: self.retry_after });
        };
        Ok(Permit::new(permit, self.telemetry.in_flight().clone()))
    }

    /// Where refusals and invocations are told.
    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Refuses everything from now on; what is in flight goes on.
    pub fn drain(&self) {
        self.draining.store(true, SeqCst);
    }

    /// Whether the host is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Ends what is still in flight: every caller that waits is answered at once.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Waits until invocations are ended, which mostly never happens, and gives the answer for their callers.
    pub(super) async fn cut_off(&self) -> InvokeError {
        // Fails only if the sender were gone, and it is here.
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
        InvokeError::Draining { retry_after: self.retry_after }
    }

    /// Waits until no invocation holds a place. Ends only when they do: the caller bounds it.
    pub async fn idle(&self) {
        // Fails only if the semaphore were closed, which nobody does.
        let _all = self.permits.acquire_many(u32::try_from(self.places).unwrap_or(u32::MAX)).await;
    }
}

/// Why a model has no room, as the label says it.
fn reason(error: &InferError) -> &'static str {
    match error {
        InferError::QueueFull { .. } => "queue-full",
        _ => "model-unavailable",
    }
}
