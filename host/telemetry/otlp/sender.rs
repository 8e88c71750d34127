//! The task that sends: when, how much at once, and what happens while the collector does not take it.
//!
//! Owns the waiting spans, the pauses after failures and the two log lines about them. Refuses to know the transport.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceResponse, trace::v1::ExportTraceServiceResponse},
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{
    sync::{mpsc::Receiver, watch},
    time::MissedTickBehavior,
};

use super::{
    Counts,
    collector::{Collector, Failure, Signal},
    metrics::{self, Period},
    spans::{self, Clock},
};
use crate::telemetry::{Config, metrics::Gathering, record::Finished};

/// Spans in one message: as many make it leave before its time.
const BATCH_SPANS: usize = 512;
/// Pauses after failures, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the task owns.
pub(super) struct Sender {
    collector: Collector,
    gathering: Gathering,
    counts: Arc<Counts>,
    resource: Resource,
    interval: Duration,
    since_ns: u64,
    /// Spans that are to be sent next.
    spans: Vec<Span>,
    traces: Health,
    metrics: Health,
}

/// Whether a signal gets through, and when to try again if not.
struct Health {
    signal: Signal,
    pause: Duration,
    until: Option<Instant>,
    failing: bool,
}

impl Health {
    fn new(signal: Signal) -> Self {
        Self { signal, pause: FIRST_PAUSE, until: None, failing: false }
    }

    fn is_paused(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// One line when it begins to fail, one when it works again: never one for each attempt.
    fn note(&mut self, failure: Option<&Failure>) {
        let signal = self.signal.name();
        let Some(failure) = failure else {
            if std::mem::take(&mut self.failing) {
                tracing::info!(signal, "the collector takes them again");
            }
            (self.pause, self.until) = (FIRST_PAUSE, None);
            return;
        };
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(signal, "the collector does not take them, requests are not affected: {failure}");
        }
        if failure.again {
            self.until = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Waits until the host stops; a host that is gone has stopped too.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl Sender {
    pub(super) fn new(config: &Config, collector: Collector, gathering: Gathering, counts: Arc<Counts>) -> Self {
        let (resource, since_ns) = (spans::resource(config), Clock::read().unix_ns(Instant::now()));
        let (traces, metrics) = (Health::new(Signal::Traces), Health::new(Signal::Metrics));
        let (interval, spans) = (config.interval(), Vec::new());
        Self { collector, gathering, counts, resource, interval, since_ns, spans, traces, metrics }
    }

    /// Sends until it is told to stop, then what is left.
    pub(super) async fn run(mut self, mut waiting: Receiver<Finished>, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval_at((Instant::now() + self.interval).into(), self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.spans.len() < BATCH_SPANS;
            tokio::select! {
                () = told(&mut stopped) => break,
                _ = tick.tick() => {
                    self.send_spans().await;
                    self.send_metrics().await;
                }
                finished = waiting.recv(), if room => match finished {
                    Some(finished) => self.take(finished).await,
                    None => break,
                },
            }
        }
        self.finish(waiting).await;
    }

    async fn take(&mut self, finished: Finished) {
        self.spans.extend(spans::of(finished));
        if self.spans.len() >= BATCH_SPANS {
            self.send_spans().await;
        }
    }

    /// The last spans and figures, pauses or not; what the collector does not take now is lost and counted.
    async fn finish(&mut self, mut waiting: Receiver<Finished>) {
        waiting.close();
        loop {
            while let Some(finished) = (self.spans.len() < BATCH_SPANS).then(|| waiting.try_recv().ok()).flatten() {
                self.spans.extend(spans::of(finished));
            }
            if self.spans.is_empty() {
                break;
            }
            self.traces.until = None;
            self.send_spans().await;
            if !self.spans.is_empty() {
                let mut left = self.spans.len();
                while let Ok(finished) = waiting.try_recv() {
                    left += finished.spans();
                }
                self.counts.dropped(left);
                break;
            }
        }
        self.metrics.until = None;
        self.send_metrics().await;
    }

    fn noted(&mut self, signal: Signal, failure: Option<&Failure>) {
        self.counts.message(signal.name(), if failure.is_none() { "ok" } else { "failed" });
        match signal {
            Signal::Traces => self.traces.note(failure),
            Signal::Metrics => self.metrics.note(failure),
        }
    }

    /// Sends the spans that there are. They stay where the collector may take them later.
    async fn send_spans(&mut self) {
        if self.spans.is_empty() || self.traces.is_paused() {
            return;
        }
        let count = self.spans.len();
        let message = spans::message(&self.resource, std::mem::take(&mut self.spans));
        let sent = self.collector.send::<ExportTraceServiceResponse>(Signal::Traces, &message).await;
        self.noted(Signal::Traces, sent.as_ref().err());
        match sent {
            Ok(reply) => {
                let rejected = reply.partial_success.map_or(0, |partial| partial.rejected_spans.max(0) as usize);
                self.counts.sent(count.saturating_sub(rejected));
                self.counts.refused(rejected.min(count));
            }
            Err(failure) if failure.again => {
                let scopes = message.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
                self.spans = scopes.flat_map(|scope| scope.spans).collect();
            }
            Err(_) => self.counts.refused(count),
        }
    }

    /// Sends the figures. They are totals: a message that is lost is made good by the next.
    async fn send_metrics(&mut self) {
        if self.metrics.is_paused() {
            return;
        }
        let period = Period { since_ns: self.since_ns, now_ns: Clock::read().unix_ns(Instant::now()) };
        let message = metrics::message(&self.resource, &self.gathering.gather(), period);
        let sent = self.collector.send::<ExportMetricsServiceResponse>(Signal::Metrics, &message).await;
        self.noted(Signal::Metrics, sent.as_ref().err());
    }
}
