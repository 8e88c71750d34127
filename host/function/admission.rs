//! The door: what is decided about a request before its body is read and before any guest runs. Refusals are cheap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{AccessError, InferError, InvokeError, Tenant, line::Line, snapshot::Snapshot};
use crate::{
    account::{Holder, Place},
    arrivals::Arrival,
    engine::Model,
    invocation::{Invocation, Permit},
    telemetry::{Record, Telemetry, TraceContext},
    tenant::Priority,
};

/// Who wants to come in.
pub(super) struct Entrant<'a> {
    pub(super) id: &'a Arc<str>,
    pub(super) priority: Priority,
    pub(super) trace: TraceContext,
    /// What becomes its spans, where it is sampled.
    pub(super) record: Option<Arc<Record>>,
    /// Whether its answer may be remembered.
    pub(super) may_be_known: bool,
}

/// Decides who comes in.
pub struct Admission {
    permits: Arc<Semaphore>,
    places: usize,
    draining: AtomicBool,
    /// The same for those who wait for it: each invocation asks, and a load is what that may cost.
    drain: watch::Sender<bool>,
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
            drain: watch::Sender::new(false),
            cut: watch::Sender::new(false),
            retry_after,
            telemetry,
        }
    }

    /// A place among those of a function that bounds them, waited for as the function says.
    pub(super) async fn turn(&self, line: &Line, deadline: Instant) -> Result<OwnedSemaphorePermit, InvokeError> {
        line.enter(deadline).await.inspect_err(|_| self.telemetry.shed("concurrency-limit"))
    }

    /// Lets an invocation in: host not draining, a place free, room in the queue of every bound model, its tenant within
    /// its rates. What it may hold is accounted from here on. Where the answer may be known, room is asked for only once it
    /// is not (`expect`).
    pub(super) fn admit(
        &self,
        entrant: Entrant<'_>,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<Arc<Invocation>, InvokeError> {
        let revision = &snapshot.revision;
        let tenant = &revision.owner;
        // A grant may have been taken back since it was brought up.
        if revision.manifest.models.values().any(|bound| !tenant.may_ask(&bound.model)) {
            return Err(AccessError::Forbidden("its tenant may not use a model that the function is bound to").into());
        }
        let asks = snapshot.models.by_alias.values().filter(|_| !entrant.may_be_known);
        let permit = self.enter(tenant, asks, snapshot.models.missing.first())?;
        let account = tenant.account.child(Holder::Invocation, revision.manifest.limits.memory_bytes);
        let names = (tenant.name.clone(), revision.function.clone());
        let invocation = Invocation::new(entrant.id.clone(), names, deadline, account).with_permit(permit);
        let invocation =
            invocation.of_revision(revision.number, revision.log.clone()).ranked(tenant.standing(), entrant.priority);
        Ok(Arc::new(invocation.traced(entrant.trace, entrant.record)))
    }

    /// A place for a tenant's request that will ask these models; `missing` is one that should be among them.
    pub(super) fn enter<'a>(
        &self,
        tenant: &Tenant,
        models: impl Iterator<Item = &'a Arc<Model>>,
        missing: Option<&String>,
    ) -> Result<Permit, InvokeError> {
        if self.is_draining() {
            self.telemetry.shed("draining");
            return Err(InvokeError::Draining { retry_after: self.retry_after });
        }
        if let Some(model) = missing {
            self.telemetry.shed("model-unavailable");
            return Err(InferError::Unavailable { model: model.clone() }.into());
        }
        for model in models {
            let room = model.room(&tenant.name, tenant.standing());
            room.inspect_err(|error| self.telemetry.shed(reason(error)))?;
        }
        let (permit, place) = self.place(tenant).inspect_err(|_| self.telemetry.shed("concurrency-limit"))?;
        // Last, so that what is refused for another reason costs the tenant nothing.
        tenant.request(Instant::now()).inspect_err(|_| self.telemetry.shed("rate-limited"))?;
        Ok(Permit::new(permit, place, self.telemetry.in_flight().clone()))
    }

    /// The last look before a guest works: whoever's rows would be refused afterwards is refused now. From here on the rows
    /// count as on their way. Not earlier, or bodies that come slowly would keep others out.
    pub(super) fn expect(&self, snapshot: &Snapshot, invocation: &Invocation) -> Result<(), InvokeError> {
        let arrival = |model: &Arc<Model>| {
            let arrival = model.expect(&invocation.tenant, invocation.standing);
            arrival.inspect_err(|error| self.telemetry.shed(reason(error)))
        };
        // A function may be bound to models that it seldom asks, or only after others.
        let asked = snapshot.models.by_alias.iter().filter(|(alias, _)| snapshot.revision.asks(alias));
        let arrivals: Result<Vec<Arrival>, _> = asked.map(|(_, model)| arrival(model)).collect();
        invocation.first_step.expect(arrivals?);
        Ok(())
    }

    /// The same look for who comes in only now: the host not draining, room in the queue of every bound model.
    pub(super) fn room(&self, snapshot: &Snapshot, invocation: &Invocation) -> Result<(), InvokeError> {
        for model in snapshot.models.by_alias.values() {
            let room = model.room(&invocation.tenant, invocation.standing);
            room.inspect_err(|error| self.telemetry.shed(reason(error)))?;
        }
        Ok(())
    }

    /// A place, of which a tenant may have as many as leave some to others.
    fn place(&self, tenant: &Tenant) -> Result<(OwnedSemaphorePermit, Place), InvokeError> {
        let (limit, retry_after) = (self.places, self.retry_after);
        let free = self.permits.available_permits();
        let place = tenant.place(free).map_err(|(held, most)| match (free, most) {
            (_, Some(most)) if held >= most as usize => InvokeError::TenantLimit { limit: most, retry_after },
            (0, _) => InvokeError::Concurrency { limit, retry_after },
            _ => InvokeError::TenantConcurrency { held, limit, retry_after },
        })?;
        let permit = self.permits.clone().try_acquire_owned();
        Ok((permit.map_err(|_| InvokeError::Concurrency { limit, retry_after })?, place))
    }

    /// Where refusals and invocations are told.
    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Refuses everything from now on; what is in flight goes on.
    pub fn drain(&self) {
        self.draining.store(true, SeqCst);
        self.drain.send_replace(true);
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

    /// Waits until the host drains and nothing is in flight any more, or what is has been ended: from then on no guest says
    /// anything.
    pub async fn over(&self) {
        // Neither fails: the senders are here.
        let _ = self.drain.subscribe().wait_for(|drain| *drain).await;
        let mut cut = self.cut.subscribe();
        tokio::select! {
            () = self.idle() => {}
            _ = cut.wait_for(|cut| *cut) => {}
        }
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
        InferError::DeviceMemory { .. } => "device-memory",
        _ => "model-unavailable",
    }
}
