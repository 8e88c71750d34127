//! How an invocation ends, as others are told: counted, logged, and handed on to those who look at traces.
//!
//! Owns the counting, which happens however it ends, and the one line about an error, which is kept for the tenant where
//! its function is at fault. Refuses to know statuses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Call, InvokeError, snapshot::Snapshot};
use crate::{
    invocation::{Fault, Invocation, Response, Stage},
    sandbox::SandboxError,
    telemetry::{FunctionLog, FunctionMetrics, Line, LineKind, Record, Report, Subject, Telemetry, TraceContext},
};

/// What serves a request, as it is told of: a revision of a function, or the host itself.
#[derive(Clone, Copy)]
pub(super) struct Serving<'a> {
    pub(super) tenant: &'a Arc<str>,
    pub(super) function: &'a Arc<str>,
    pub(super) revision: u64,
    pub(super) metrics: &'a FunctionMetrics,
    /// What its tenant reads, where there is a guest.
    pub(super) log: Option<&'a FunctionLog>,
}

impl<'a> From<&'a Snapshot> for Serving<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let revision = &snapshot.revision;
        let (tenant, function, metrics) = (&revision.tenant, &revision.function, &revision.metrics);
        Self { tenant, function, revision: revision.number, metrics, log: Some(&revision.log) }
    }
}

/// What is known of a request when it arrives.
pub(super) struct Arrival<'a> {
    pub(super) id: &'a Arc<str>,
    pub(super) method: &'a str,
    pub(super) arrived: Instant,
    pub(super) trace: &'a mut TraceContext,
}

impl<'a> From<&'a mut Call> for Arrival<'a> {
    fn from(call: &'a mut Call) -> Self {
        Self { id: &call.id, method: &call.request.method, arrived: call.arrived, trace: &mut call.trace }
    }
}

/// Counts how a request ended, also where the caller left and nobody is there to see the end.
pub(super) struct Ending<'a> {
    /// What serves it.
    serving: Serving<'a>,
    arrived: Instant,
    outcome: &'static str,
    /// How long each stage took.
    stages: Vec<(Stage, Duration)>,
    /// What the cache had to do with it.
    pub(super) cache: &'static str,
    /// Of the rows that models were asked for, how many there were and how many were known.
    pub(super) rows: Option<(u64, u64)>,
    report: Option<Box<Report>>,
}

impl<'a> Ending<'a> {
    /// Decides whether the request's trace is sampled, where it begins here.
    pub(super) fn of(serving: Serving<'a>, arrival: Arrival<'_>, telemetry: &Arc<Telemetry>) -> Self {
        let Arrival { id, method, arrived, trace } = arrival;
        let report = Report::begin(telemetry, trace, || Subject {
            id: id.clone(),
            tenant: serving.tenant.clone(),
            function: serving.function.clone(),
            revision: serving.revision,
            method: method.to_owned(),
            arrived,
        });
        Self { serving, arrived, outcome: "detached", stages: Vec::new(), cache: "bypass", rows: None, report }
    }

    /// Its invocation has ended.
    pub(super) fn came_to(&mut self, invocation: &Invocation) {
        self.stages = invocation.stages.taken();
        self.rows = Some(invocation.rows.so_far()).filter(|(asked, _)| *asked > 0);
        if let Some((_, known)) = self.rows.filter(|_| ["bypass", "miss"].contains(&self.cache)) {
            self.cache = if known > 0 { "partial" } else { "miss" };
        }
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
        self.serving.metrics.ended(outcome, self.arrived.elapsed());
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
pub(super) fn log((id, trace): (&Arc<str>, &TraceContext), serving: Serving<'_>, error: &InvokeError) {
    let trace_id = trace.id();
    let Serving { tenant, function, revision, .. } = serving;
    let (tenant, function) = (&**tenant, &**function);
    let backtrace = match error {
        InvokeError::Sandbox(SandboxError::Trap { backtrace, .. }) => backtrace,
        _ => "",
    };
    if let (Some(log), Fault::Function) = (serving.log, error.fault()) {
        let trapped = matches!(error, InvokeError::Sandbox(SandboxError::Trap { .. }));
        let kind = if trapped { LineKind::Trap } else { LineKind::Error };
        let line = Line::new(kind, "error", (id.clone(), revision), &error.to_string());
        log.push(line.with_backtrace(backtrace));
    }
    let id = &**id;
    match error.fault() {
        Fault::Caller => tracing::debug!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
        Fault::Capacity => tracing::info!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
        Fault::Function => tracing::warn!(tenant, function, revision, invocation = id, %trace_id, backtrace, "{error}"),
        Fault::Host => tracing::error!(tenant, function, revision, invocation = id, %trace_id, "{error}"),
    }
}
