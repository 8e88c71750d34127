//! Metrics of one function and of one model, looked up once: counting is then an atomic addition.
//!
//! Owns what is counted where; refuses to know names and buckets, which are in `metrics`.

use std::{sync::Arc, time::Duration};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{labels::Labels, window::Totals};
use crate::invocation::Stage;

/// How an invocation can end, as the label says it: well, by somebody's fault, or with a caller that did not wait.
pub const OUTCOMES: [&str; 6] = ["ok", "caller", "function", "capacity", "host", "detached"];

/// Counters and histograms of one function.
#[derive(Debug)]
pub struct FunctionMetrics {
    pub(super) lately: Arc<Totals>,
    pub(super) outcomes: [Outcome; OUTCOMES.len()],
    pub(super) stages: [Histogram; Stage::ALL.len()],
    /// Seconds of guest code.
    pub cpu_guest: prometheus::Counter,
    /// Seconds of work for host calls.
    pub cpu_host_call: prometheus::Counter,
    /// What an invocation waited for its turns on the guests' threads.
    pub gate_wait: Histogram,
}

#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) total: IntCounter,
    pub(super) duration: Histogram,
}

impl FunctionMetrics {
    /// Counts the end of an invocation; `outcome` is one of [`OUTCOMES`].
    pub fn ended(&self, outcome: &str, duration: Duration) {
        if let Some(index) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.lately.count(index, duration);
            self.outcomes[index].total.inc();
            self.outcomes[index].duration.observe(duration.as_secs_f64());
        }
    }

    /// Counts the time of a stage.
    pub fn stage(&self, stage: Stage, duration: Duration) {
        self.stages[stage as usize].observe(duration.as_secs_f64());
    }
}

/// Counters and histograms of one model.
#[derive(Clone, Debug)]
pub struct ModelMetrics {
    pub(super) model: String,
    pub(super) tenants: Arc<Labels>,
    pub(super) names: Arc<Labels>,
    pub(super) batches: IntCounterVec,
    pub(super) batch_splits: IntCounterVec,
    pub(super) device_seconds: prometheus::CounterVec,
    /// Lanes that ended and were started again.
    pub lane_restarts: IntCounter,
    /// Rows per batch.
    pub batch_rows: Histogram,
    /// Rows waiting.
    pub queue_rows: IntGauge,
    /// Rows that may wait.
    pub queue_limit_rows: IntGauge,
    /// From queueing a row to the start of its batch.
    pub queue_duration: Histogram,
    /// Share of a batch's elements that is padding.
    pub padding_ratio: Histogram,
}

impl ModelMetrics {
    /// Counts a batch by the reason it was closed.
    pub fn batch_closed(&self, reason: &str) {
        self.batches.with_label_values(&[&self.model, reason]).inc();
    }

    /// Counts a batch that was run in halves, by why it could not be run whole.
    pub fn batch_split(&self, cause: &str) {
        self.batch_splits.with_label_values(&[&self.model, cause]).inc();
    }

    /// Counts instance time spent for a tenant's function.
    pub fn device_time(&self, tenant: &str, function: &str, time: Duration) {
        let (tenant, function) = (self.tenants.bounded(tenant), self.names.bounded(function));
        self.device_seconds.with_label_values(&[&tenant[..], &function, &self.model]).inc_by(time.as_secs_f64());
    }
}
