//! Finished invocations and batches as OTLP's spans.
//!
//! Owns names and attributes. Refuses to know how they are sent. Times are turned into the calendar's here: an `Instant`
//! is all that is noted on the way.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Link, SpanKind},
        status::StatusCode,
    },
};

use crate::telemetry::{
    Config,
    record::{Batch, Ended, Finished, Lap},
    trace::{SpanLink, TraceContext},
};

/// What a host is called where nobody named it.
const SERVICE: &str = "tenon";

/// Two clocks read at once.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    instant: Instant,
    unix_ns: u64,
}

impl Clock {
    pub(super) fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_ns: unix.as_nanos() as u64 }
    }

    /// Nanoseconds since 1970 of a moment that has passed.
    pub(super) fn unix_ns(&self, moment: Instant) -> u64 {
        self.unix_ns.saturating_sub(self.instant.saturating_duration_since(moment).as_nanos() as u64)
    }
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: usize) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Who sends.
pub(super) fn resource(config: &Config) -> Resource {
    let attributes = vec![
        text("service.name", config.service_name.as_deref().unwrap_or(SERVICE)),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &uuid::Uuid::new_v4().to_string()),
        number("process.pid", std::process::id() as usize),
    ];
    Resource { attributes, ..Resource::default() }
}

/// What made the spans and metrics.
pub(super) fn scope() -> InstrumentationScope {
    let (name, version) = ("tenon".into(), env!("CARGO_PKG_VERSION").into());
    InstrumentationScope { name, version, ..InstrumentationScope::default() }
}

/// A message with these spans.
pub(super) fn message(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
    let resource = Some(resource.clone());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

/// The spans of one invocation, or of one batch.
pub(super) fn of(finished: Finished) -> Vec<Span> {
    let clock = Clock::read();
    match finished {
        Finished::Invocation(ended) => invocation(&ended, clock),
        Finished::Batch(ended) => vec![batch(&ended, clock)],
    }
}

/// A span with its ids, kind and times.
fn span(own: SpanLink, parent: u64, name: &str, times: (u64, u64)) -> Span {
    Span {
        trace_id: own.trace.to_be_bytes().into(),
        span_id: own.span.to_be_bytes().into(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().into() },
        // All that are sent are sampled.
        flags: 1,
        name: name.into(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: times.0,
        end_time_unix_nano: times.1.max(times.0),
        ..Span::default()
    }
}

fn links(of: &[SpanLink]) -> Vec<Link> {
    let link = |link: &SpanLink| Link {
        trace_id: link.trace.to_be_bytes().into(),
        span_id: link.span.to_be_bytes().into(),
        flags: 1,
        ..Link::default()
    };
    of.iter().map(link).collect()
}

fn invocation(ended: &Ended, clock: Clock) -> Vec<Span> {
    let answered = &ended.answered;
    let (own, times) = (ended.trace.own, (clock.unix_ns(answered.arrived), clock.unix_ns(ended.end)));
    let mut server = span(own, ended.trace.parent, "invoke", times);
    server.kind = SpanKind::Server.into();
    server.attributes = vec![
        text("tenon.tenant", &answered.tenant),
        text("tenon.function", &answered.function),
        number("tenon.revision", answered.revision as usize),
        text("tenon.request_id", &answered.id),
        text("tenon.outcome", answered.outcome),
        text("http.request.method", &answered.method),
    ];
    if answered.status != 0 {
        server.attributes.push(number("http.response.status_code", answered.status.into()));
    }
    if !answered.code.is_empty() {
        server.attributes.push(text("error.type", &answered.code));
    }
    let (laps, left_out) = ended.record.taken();
    if left_out > 0 {
        server.attributes.push(number("tenon.stages_left_out", left_out));
    }
    // A 4xx is the caller's affair, and by OpenTelemetry's rules no error of a server.
    if answered.status >= 500 {
        let code = StatusCode::Error.into();
        server.status = Some(Status { code, message: answered.code.clone() });
    }
    let stages = laps.iter().map(|lap| stage(lap, own, (times.0, times.1), clock));
    let stages: Vec<_> = stages.collect();
    std::iter::once(server).chain(stages).collect()
}

fn stage(lap: &Lap, parent: SpanLink, (first, last): (u64, u64), clock: Clock) -> Span {
    let own = SpanLink { trace: parent.trace, span: TraceContext::begin().own.span };
    // A lane may end a row's stage just after its invocation was given up.
    let times = (clock.unix_ns(lap.start).clamp(first, last), clock.unix_ns(lap.end).clamp(first, last));
    let mut stage = span(own, parent.span, lap.name, times);
    stage.attributes.extend(lap.model.as_deref().map(|model| text("tenon.model", model)));
    stage.links = links(&lap.batches);
    stage
}

fn batch(batch: &Batch, clock: Clock) -> Span {
    let facts = &batch.facts;
    let mut made = span(batch.own, 0, "batch", (clock.unix_ns(batch.start), clock.unix_ns(batch.end)));
    made.attributes = vec![
        text("tenon.model", &facts.model),
        number("tenon.batch.rows", facts.rows),
        text("tenon.batch.reason", facts.reason),
        attribute("tenon.batch.padding_ratio", Value::DoubleValue(facts.padding_ratio)),
        number("tenon.instance", facts.lane),
    ];
    made.links = links(&batch.invocations);
    made
}
