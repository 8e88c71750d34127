//! The work for one invocation: owns everything it needs, so that it may move to another thread.

use std::{sync::Arc, time::Duration};

use super::{
    InvokeError, Remembered, Revision,
    remembered::{Asked, Rows},
    snapshot::Snapshot,
    step,
};
use crate::{
    account::Used,
    caching::{Policy, RowsBy},
    invocation::{Invocation, Request, Response},
    known::SharedRows,
    sandbox::Assignment,
};

/// What a guest is to do.
pub(super) struct Work {
    pub(super) snapshot: Snapshot,
    pub(super) invocation: Arc<Invocation>,
    pub(super) request: Arc<Request>,
    /// Its rows, where they are remembered.
    rows: Option<Arc<Rows>>,
}

impl Work {
    /// The work for a request; nothing remembered of its rows is used where there is no `remembered`.
    pub(super) fn new(asked: Asked<'_>, remembered: Option<&Arc<Remembered>>) -> Self {
        let Asked { snapshot, invocation, request } = asked;
        let rows = remembered.and_then(|remembered| Rows::of(remembered, snapshot, invocation));
        Self { snapshot: snapshot.clone(), invocation: invocation.clone(), request: request.clone(), rows }
    }

    /// What an instance needs to know for it.
    pub(super) fn assignment(&self) -> Assignment {
        let revision = &self.snapshot.revision;
        let by_key = revision.manifest.cache.rows == RowsBy::Key;
        Assignment {
            invocation: self.invocation.clone(),
            request: self.request.clone(),
            models: self.snapshot.models.text.clone(),
            config: revision.config.clone(),
            rows: self.rows.clone().filter(|_| by_key).map(|rows| rows as SharedRows),
            cpu_limit: revision.cpu_limit(),
        }
    }

    /// From validation to the response.
    pub(super) async fn run(self) -> Result<Response, InvokeError> {
        let _accounted = Accounted::from_now_on(&self);
        let assignment = self.assignment();
        let ran = step::run(&self.snapshot, self.rows.as_ref(), assignment).await;
        if let Some(stood) = self.invocation.has_stood() {
            self.snapshot.revision.metrics.gate_wait.observe(stood.as_secs_f64());
        }
        ran
    }

    /// How the answer may be remembered, as the plugin says.
    pub(super) async fn policy(self) -> Result<Policy, InvokeError> {
        let _accounted = Accounted::from_now_on(&self);
        step::policy(&self.snapshot, self.assignment()).await
    }
}

/// Adds the processor time that work takes to its function's, however it ends.
struct Accounted {
    revision: Arc<Revision>,
    invocation: Arc<Invocation>,
    before: [Duration; 2],
}

impl Accounted {
    fn from_now_on(work: &Work) -> Self {
        let (revision, invocation) = (work.snapshot.revision.clone(), work.invocation.clone());
        let before = [Used::Guest, Used::HostCall].map(|used| invocation.account.spent(used));
        Self { revision, invocation, before }
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        let (metrics, account) = (&self.revision.metrics, &self.invocation.account);
        let guest = account.spent(Used::Guest).saturating_sub(self.before[0]);
        let host_call = account.spent(Used::HostCall).saturating_sub(self.before[1]);
        metrics.cpu_guest.inc_by(guest.as_secs_f64());
        metrics.cpu_host_call.inc_by(host_call.as_secs_f64());
        self.revision.owner.used_cpu(guest + host_call);
    }
}
