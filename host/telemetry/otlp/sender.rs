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
use prost::Message;
use tokio::{
    sync::{mpsc::Receiver, watch},
    time::{MissedTickBehavior, sleep, sleep_until},
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
/// How often the same spans are sent: with these pauses, for some two and a half minutes.
const MOST_ATTEMPTS: u32 = 10;
/// What the collector may take for the last spans and figures, together less than the task is given.
const LAST_SPANS: Duration = Duration::from_millis(1700);
/// What was sent when the host stops is answered within this, or sent again, and perhaps told twice.
const LAST_REPLY: Duration = Duration::from_millis(300);
const LAST_METRICS: Duration = Duration::from_millis(800);

/// What the task owns: one for each signal, so that neither waits for the other's trouble.
pub(super) struct Sender {
    traces: Traces,
    metrics: Metrics,
}

/// What both need.
struct Shared {
    collector: Collector,
    counts: Arc<Counts>,
    resource: Resource,
    interval: Duration,
}

struct Traces {
    shared: Arc<Shared>,
    /// What spans are made of when they are sent, and how many these will be.
    received: (Vec<Finished>, usize),
    /// Spans that were sent in vain.
    spans: Vec<Span>,
    /// How often these have been sent in vain.
    attempts: u32,
    health: Health,
}

struct Metrics {
    shared: Arc<Shared>,
    gathering: Gathering,
    since_ns: u64,
    health: Health,
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
        self.until = failure.again.then(|| Instant::now() + self.pause);
        if failure.again {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Waits until the host stops; a host that is gone has stopped too.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The same, and a little longer: a reply may be on its way.
async fn stopping(stopped: &mut watch::Receiver<bool>) {
    told(stopped).await;
    sleep(LAST_REPLY).await;
}

impl Shared {
    fn tick(&self) -> tokio::time::Interval {
        let mut tick = tokio::time::interval_at((Instant::now() + self.interval).into(), self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    /// Sends one message, unless it is given up before there is an answer.
    async fn send<R: Message + Default>(
        &self,
        signal: Signal,
        message: &impl Message,
        given_up: impl Future<Output = ()>,
    ) -> Result<R, Failure> {
        let sent = tokio::select! {
            sent = self.collector.send(signal, message) => sent,
            () = given_up => Err(Failure::later("no answer before the host ended")),
        };
        self.counts.message(signal.name(), if sent.is_ok() { "ok" } else { "failed" });
        sent
    }
}

impl Sender {
    pub(super) fn new(config: &Config, collector: Collector, gathering: Gathering, counts: Arc<Counts>) -> Self {
        let (resource, since_ns) = (spans::resource(config), Clock::read().unix_ns(Instant::now()));
        let shared = Arc::new(Shared { collector, counts, resource, interval: config.interval() });
        let health = Health::new(Signal::Traces);
        let (received, spans) = ((Vec::new(), 0), Vec::new());
        let traces = Traces { shared: shared.clone(), received, spans, attempts: 0, health };
        let metrics = Metrics { shared, gathering, since_ns, health: Health::new(Signal::Metrics) };
        Self { traces, metrics }
    }

    /// Sends until it is told to stop, then what is left.
    pub(super) async fn run(mut self, mut waiting: Receiver<Finished>, stopped: watch::Receiver<bool>) {
        tokio::join!(self.traces.run(&mut waiting, stopped.clone()), self.metrics.run(stopped));
        // In this order: the last figures tell what became of the last spans.
        self.traces.finish(waiting).await;
        self.metrics.health.until = None;
        self.metrics.send(sleep(LAST_METRICS)).await;
    }
}

impl Traces {
    /// Spans that are to be sent, as far as they are known.
    fn count(&self) -> usize {
        self.spans.len() + self.received.1
    }

    fn receive(&mut self, finished: Finished) {
        self.received.1 += finished.spans();
        self.received.0.push(finished);
    }

    async fn run(&mut self, waiting: &mut Receiver<Finished>, mut stopped: watch::Receiver<bool>) {
        let mut tick = self.shared.tick();
        loop {
            let room = self.count() < BATCH_SPANS;
            // What was sent in vain is sent again when the pause ends, not when the next tick comes.
            let again = self.health.until.filter(|_| self.count() > 0);
            let pause = sleep_until(again.unwrap_or_else(Instant::now).into());
            tokio::select! {
                () = told(&mut stopped) => return,
                _ = tick.tick() => self.send(stopping(&mut stopped)).await,
                () = pause, if again.is_some() => self.send(stopping(&mut stopped)).await,
                finished = waiting.recv(), if room => match finished {
                    Some(finished) => {
                        self.receive(finished);
                        if self.count() >= BATCH_SPANS {
                            self.send(stopping(&mut stopped)).await;
                        }
                    }
                    None => return,
                },
            }
        }
    }

    /// The last spans, pauses or not; what the collector does not take now is lost and counted.
    async fn finish(&mut self, mut waiting: Receiver<Finished>) {
        waiting.close();
        let until = tokio::time::Instant::now() + LAST_SPANS;
        loop {
            while let Some(finished) = (self.count() < BATCH_SPANS).then(|| waiting.try_recv().ok()).flatten() {
                self.receive(finished);
            }
            if self.count() == 0 {
                return;
            }
            self.health.until = None;
            self.send(sleep_until(until)).await;
            if !self.spans.is_empty() {
                let mut left = self.spans.len();
                while let Ok(finished) = waiting.try_recv() {
                    left += finished.spans();
                }
                self.shared.counts.dropped(left);
                tracing::warn!(spans = left, "the collector did not take the last spans");
                return;
            }
        }
    }

    /// Sends the spans that there are. They stay where the collector may take them later, but not for ever: it may be
    /// these that it cannot bear, and others wait.
    async fn send(&mut self, given_up: impl Future<Output = ()>) {
        if self.count() == 0 || self.health.is_paused() {
            return;
        }
        // Not before: a stage that was given up at a deadline is noted on another thread, just after the answer.
        let (received, _) = std::mem::take(&mut self.received);
        self.spans.extend(received.into_iter().flat_map(spans::of));
        let (shared, count) = (&self.shared, self.spans.len());
        let message = spans::message(&shared.resource, std::mem::take(&mut self.spans));
        let sent = shared.send::<ExportTraceServiceResponse>(Signal::Traces, &message, given_up).await;
        self.health.note(sent.as_ref().err());
        self.attempts += 1;
        match sent {
            Ok(reply) => {
                let rejected = reply.partial_success.map_or(0, |partial| partial.rejected_spans.max(0) as usize);
                shared.counts.sent(count.saturating_sub(rejected));
                shared.counts.refused(rejected.min(count));
            }
            Err(failure) if failure.again && self.attempts < MOST_ATTEMPTS => {
                let scopes = message.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
                self.spans = scopes.flat_map(|scope| scope.spans).collect();
                return;
            }
            Err(failure) if failure.again => shared.counts.dropped(count),
            Err(_) => shared.counts.refused(count),
        }
        self.attempts = 0;
    }
}

impl Metrics {
    async fn run(&mut self, mut stopped: watch::Receiver<bool>) {
        let mut tick = self.shared.tick();
        loop {
            tokio::select! {
                () = told(&mut stopped) => return,
                _ = tick.tick() => self.send(stopping(&mut stopped)).await,
            }
        }
    }

    /// Sends the figures. They are totals: a message that is lost is made good by the next.
    async fn send(&mut self, given_up: impl Future<Output = ()>) {
        if self.health.is_paused() {
            return;
        }
        let period = Period { since_ns: self.since_ns, now_ns: Clock::read().unix_ns(Instant::now()) };
        let messages = metrics::messages(&self.shared.resource, &self.gathering.gather(), period);
        let mut given_up = std::pin::pin!(given_up);
        for message in messages {
            let sent = self.shared.send::<ExportMetricsServiceResponse>(Signal::Metrics, &message, given_up.as_mut());
            let sent = sent.await;
            self.health.note(sent.as_ref().err());
            if sent.is_err() {
                return;
            }
        }
    }
}
