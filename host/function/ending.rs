//! How an invocation ends, as others are told: counted, logged, and handed on to those who look at traces.
//!
//! Owns the counting, which happens however it ends, and the one line about an error. Refuses to know statuses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Call, InvokeError, snapshot::Snapshot};
use crate::{
    invocation::{Fault, Response, Stage},
    sandbox::SandboxError,
    telemetry::{Record, Report, Subject, Telemetry, TraceContext},
};

/// Counts how a request ended, also where the caller left and nobody is there to see the end.
pub(super) struct Ending<'a> {
    /// What serves it.
    pub(super) snapshot: &'a Snapshot,
    arrived: Instant,
    outcome: &'static str,
    /// How long each stage took.
    pub(super) stages: Vec<(Stage, Duration)>,
    report: Option<Box<Report>>,
}

impl<'a> Ending<'a> {
    /// Decides whether the call's trace is sampled, where it begins here.
    pub(super) fn of(snapshot: &'a Snapshot, call: &mut Call, telemetry: &Arc<Telemetry>) -> Self {
        let Call { id, request, arrived, trace, .. } = call;
        let revision = &snapshot.revision;
        let report = Report::begin(telemetry, trace, || Subject {
            id: id.clone(),
            tenant: revision.tenant.clone(),
            function: revision.function.clone(),
            revision: revision.number,
            method: request.method.clone(),
            arrived: *arrived,
        });
        Self { snapshot, arrived: *arrived, outcome: "detached", stages: Vec::new(), report }
    }

    /// Where the invocation notes its spans, if it is sampled.
    pub(super) fn record(&self) -> Option<Arc<Record>> {
        self.report.as_ref().and_then(|report| report.record())
    }

    /// The caller is still there and gets an answer.
    pub(super) fn answered(
        mut self,
        result: &Result<Response, InvokeError>,
    ) -> (Vec<(Stage, Duration)>, Option<Box<Report>>) {
        self.outcome = result.as_ref().map_or_else(|error| outcome(error.fault()), |_| "ok");
        let (stages, mut report) = (std::mem::take(&mut self.stages), self.report.take());
        if let Some(report) = &mut report {
            report.ended(self.outcome, &stages);
        }
        (stages, report)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { outcome(Fault::Host) } else { self.outcome };
        self.snapshot.revision.metrics.ended(outcome, self.arrived.elapsed());
    }
}

/// A fault as the label `outcome` says it.
fn outcome(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Function => "function",
        Fault::Capacity => "capacity",
        Fault::Host => "host",
    }
}

/// One line for an error, at the level of whose fault it is. A trap's backtrace goes only here.
pub(super) fn log((id, trace): (&str, &TraceContext), snapshot: &Snapshot, error: &InvokeError) {
    let trace_id = trace.id();
    let (tenant, function, revision) =
        (&*snapshot.revision.tenant, &*snapshot.revision.function, snapshot.revision.number);
    let backtrace = match error {
        InvokeError::Sandbox(SandboxError::Trap { backtrace, .. }) => backtrace,
        _ => "",
    };
    match error.fault() {
        Fault::Caller => tracing::debug!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
        Fault::Capacity => tracing::info!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
        Fault::Function => tracing::warn!(tenant, function, revision, invocation = id, %trace_id, backtrace, "{error}"),
        Fault::Host => tracing::error!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
    }
}
