//! OTLP: spans and metrics to a collector, over HTTP or gRPC.
//!
//! One task on the reactor sends; everybody else hands over finished notes through a bounded queue and never waits.
//! Whatever a collector does (nothing, refuse, take its time), requests are not affected: what does not fit is dropped and
//! counted. Spans are made here of what invocations noted, and metrics of what `/metrics` shows, so no SDK with meters,
//! layers and threads of its own is needed. Refuses to know what the notes are about.

mod collector;
mod metrics;
mod sender;
mod spans;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

pub(super) use collector::check;

use super::{
    Config,
    metrics::{Exports, Gathering},
    record::Finished,
};

/// Invocations and batches that wait for being sent; more are dropped.
const QUEUE: usize = 2048;
/// How long the last spans and figures may take when the host ends; `sender` gives up a little earlier, and counts.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Where finished invocations and batches go.
#[derive(Clone, Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Finished>,
    counts: Arc<Counts>,
}

/// What became of spans and of messages.
#[derive(Debug)]
struct Counts(Exports);

impl Counts {
    fn add(&self, outcome: &str, spans: usize) {
        self.0.spans.with_label_values(&[outcome]).inc_by(spans as u64);
    }

    fn message(&self, signal: &str, outcome: &str) {
        self.0.messages.with_label_values(&[signal, outcome]).inc();
    }

    fn sent(&self, spans: usize) {
        self.add("sent", spans);
    }

    /// No room, or a host that ends while nobody takes them.
    fn dropped(&self, spans: usize) {
        self.add("dropped", spans);
    }

    /// The collector does not want them.
    fn refused(&self, spans: usize) {
        self.add("refused", spans);
    }
}

impl Exporter {
    /// Hands over; never waits.
    pub(super) fn push(&self, finished: Finished) {
        if let Err(error) = self.queue.try_send(finished) {
            let (mpsc::error::TrySendError::Full(finished) | mpsc::error::TrySendError::Closed(finished)) = error;
            self.counts.dropped(finished.spans());
        }
    }
}

/// The running task, as its owner holds it.
#[derive(Debug)]
pub struct Exporting {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what there is, within a bound, and ends.
    pub async fn end(mut self) {
        // Nobody listens any more only where the task has ended.
        let _ = self.stop.send(true);
        if tokio::time::timeout(LAST_SPANS, &mut self.task).await.is_err() {
            tracing::warn!("the collector took the last spans and metrics not within {} ms", LAST_SPANS.as_millis());
            self.task.abort();
        }
    }
}

/// Starts the task, where the configuration names a collector.
pub(super) fn start(
    config: &Config,
    gathering: Gathering,
    exports: Exports,
) -> Result<Option<(Exporter, Exporting)>, String> {
    let Some(endpoint) = config.endpoint() else { return Ok(None) };
    let protocol = config.otlp_protocol.unwrap_or_default();
    let collector = collector::Collector::new(endpoint, protocol, &config.otlp_headers)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let (stop, stopped) = watch::channel(false);
    let counts = Arc::new(Counts(exports));
    // Known from the beginning, so that a rate can be taken of the first one that is dropped.
    for outcome in ["sent", "dropped", "refused"] {
        counts.add(outcome, 0);
    }
    let exporter = Exporter { queue, counts: counts.clone() };
    let sender = sender::Sender::new(config, collector, gathering, counts);
    let task = tokio::spawn(sender.run(waiting, stopped));
    Ok(Some((exporter, Exporting { stop, task })))
}
