//! What is told about an invocation once its answer is known: its spans, and a line in the log if it was slow.
//!
//! Owns the moment of telling, so that it happens exactly once, also where the caller left and nobody wrote an answer.
//! Refuses to know how statuses come about: whoever writes the answer says it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Telemetry,
    record::{Answered, Record},
    trace::TraceContext,
};
use crate::invocation::Stage;

/// Slow requests that are logged within a second; further ones are counted, and told with the next line.
const MAX_SLOW_LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Who asked for what.
#[derive(Debug)]
pub struct Subject {
    /// The request's id.
    pub id: Arc<str>,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The function.
    pub function: Arc<str>,
    /// The revision that serves it.
    pub revision: u64,
    /// The request's method.
    pub method: String,
    /// When its head had been read.
    pub arrived: Instant,
}

/// What will be told about one invocation. Dropped untold, it tells of a caller that left, or of a panic.
#[derive(Debug)]
pub struct Report {
    telemetry: Arc<Telemetry>,
    trace: TraceContext,
    record: Option<Arc<Record>>,
    /// Taken when it is told.
    subject: Option<Subject>,
    outcome: &'static str,
    stages: Vec<(Stage, Duration)>,
}

impl Report {
    /// Where an invocation of this trace is sampled or slow ones are logged; mostly neither, and then nothing is made.
    /// Decides whether a trace that begins here is sampled.
    pub fn begin(
        telemetry: &Arc<Telemetry>,
        trace: &mut TraceContext,
        subject: impl FnOnce() -> Subject,
    ) -> Option<Box<Self>> {
        let record = telemetry.record(trace);
        if record.is_none() && telemetry.slow.is_none() {
            return None;
        }
        let (telemetry, trace, subject) = (telemetry.clone(), *trace, Some(subject()));
        Some(Box::new(Self { telemetry, trace, record, subject, outcome: "detached", stages: Vec::new() }))
    }

    /// Where the invocation notes its stages, if it is sampled.
    pub fn record(&self) -> Option<Arc<Record>> {
        self.record.clone()
    }

    /// Notes how the invocation ended.
    pub fn ended(&mut self, outcome: &'static str, stages: &[(Stage, Duration)]) {
        (self.outcome, self.stages) = (outcome, stages.to_vec());
    }

    /// Tells everything: the answer has this status, and this code where it is a refusal.
    pub fn answered(mut self: Box<Self>, status: u16, code: String) {
        self.tell(status, code);
    }

    fn tell(&mut self, status: u16, code: String) {
        let Some(subject) = self.subject.take() else { return };
        if let Some(slow) = &self.telemetry.slow {
            slow.look(&subject, (status, &code), &self.stages, &self.trace);
        }
        if let Some(record) = &self.record {
            let Subject { id, tenant, function, revision, method, arrived } = subject;
            let outcome = self.outcome;
            record.end(Answered { id, tenant, function, revision, method, arrived, outcome, status, code });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody left: the host is at fault, and answers so.
            self.outcome = "host";
            self.tell(500, "internal".into());
        } else {
            self.tell(0, "detached".into());
        }
    }
}

/// The log of slow requests.
#[derive(Debug)]
pub(super) struct SlowLog {
    after: Duration,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl SlowLog {
    /// For requests that take longer than this.
    pub(super) fn new(after: Duration) -> Self {
        Self { after, lines: Mutex::new(Lines { since: Instant::now(), written: 0, left_out: 0 }) }
    }

    fn look(&self, subject: &Subject, (status, code): (u16, &str), stages: &[(Stage, Duration)], trace: &TraceContext) {
        let total = subject.arrived.elapsed();
        if total < self.after {
            return;
        }
        let Some(left_out) = self.turn(Instant::now()) else { return };
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1000.0;
        let of = |wanted: Stage| stages.iter().find(|(stage, _)| *stage == wanted).map(|(_, time)| milliseconds(*time));
        tracing::warn!(
            target: "tenon::slow",
            tenant = %subject.tenant,
            function = %subject.function,
            revision = subject.revision,
            invocation = %subject.id,
            trace_id = %trace.id(),
            status,
            code = (!code.is_empty()).then_some(code),
            total_ms = milliseconds(total),
            cache_ms = of(Stage::Cache),
            validate_ms = of(Stage::Validate),
            preprocess_ms = of(Stage::Preprocess),
            queue_ms = of(Stage::Queue),
            infer_ms = of(Stage::Infer),
            postprocess_ms = of(Stage::Postprocess),
            left_out = (left_out > 0).then_some(left_out),
            "slow request"
        );
    }

    /// Whether a line may be written now; how many were not since the last one.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(lines.since) >= SECOND {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written == MAX_SLOW_LINES {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_by_the_second_and_what_was_left_out_is_told() {
        let log = SlowLog::new(Duration::from_millis(1));
        let begun = log.lines.lock().unwrap().since;
        let written = (0..25).filter(|_| log.turn(begun).is_some()).count();
        assert_eq!(written, MAX_SLOW_LINES as usize);
        assert_eq!((log.turn(begun + SECOND), log.turn(begun + SECOND)), (Some(15), Some(0)));
    }
}
