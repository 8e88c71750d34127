//! Counters and histograms that every room adds to.
//!
//! Owns names, labels and buckets (DESIGN section 11); refuses to know what is measured. Handles are resolved once (per
//! function, per model), because looking labels up costs more than counting.

use std::sync::{Arc, OnceLock};

use prometheus::{
    Encoder, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, proto::MetricFamily,
};

use super::{
    cached::{CacheFigures, CacheMetrics},
    device::{DeviceActivity, DeviceGauges, DeviceMemory},
    guest_log::GuestLogs,
    handles::{FunctionMetrics, ModelMetrics, OUTCOMES, Outcome},
    labels::{Labels, counters, gauges, histograms, register},
    otlp::Exporter,
    report::SlowLog,
    window::Windows,
};
use crate::{
    account::{Account, Kind},
    invocation::Stage,
};

/// A figure that goes up and down, for those who count without knowing with what.
pub use prometheus::IntGauge as Gauge;

/// Tenants with a label value of their own; later ones fold into `other`.
const MAX_TENANT_LABELS: usize = 256;
/// Functions and models likewise.
const MAX_NAME_LABELS: usize = 1024;

/// Seconds, from a cached answer to a slow model.
const DURATION_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const ROW_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const RATIO_BUCKETS: &[f64] = &[0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// All metrics of the process, and who else is told how invocations went.
#[derive(Debug)]
pub struct Telemetry {
    gathering: Gathering,
    /// Where spans go, and the share of traces that is sampled.
    pub(super) tracing: Option<(Exporter, f64)>,
    pub(super) slow: Option<SlowLog>,
    pub(super) guest_logs: Arc<GuestLogs>,
    pub(super) windows: Windows,
    pub(super) exports: Exports,
    invocations: IntCounterVec,
    invocation_duration: HistogramVec,
    in_flight: IntGauge,
    shed: IntCounterVec,
    quarantines: IntCounterVec,
    stage_duration: HistogramVec,
    batch_rows: HistogramVec,
    batches: IntCounterVec,
    batch_splits: IntCounterVec,
    lane_restarts: IntCounterVec,
    queue_rows: IntGaugeVec,
    queue_limit_rows: IntGaugeVec,
    queue_duration: HistogramVec,
    padding_ratio: HistogramVec,
    gate_wait: HistogramVec,
    cpu_seconds: prometheus::CounterVec,
    device_seconds: prometheus::CounterVec,
    tenants: Arc<Labels>,
    names: Arc<Labels>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// A registry with every metric of DESIGN section 11 that exists so far.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let (tenants, names) = (Labels::new(MAX_TENANT_LABELS), Labels::new(MAX_NAME_LABELS));
        Self {
            invocations: invocations(r),
            invocation_duration: histograms(
                r,
                ("tenon_invocation_duration_seconds", "From the head of a request to its answer."),
                &["function", "outcome"],
                DURATION_BUCKETS,
            ),
            in_flight: register(r, IntGauge::new("tenon_invocations_in_flight", "Invocations that hold a permit.")),
            shed: shed(r),
            quarantines: quarantines(r),
            stage_duration: histograms(
                r,
                ("tenon_stage_duration_seconds", "Time per stage of an invocation."),
                &["function", "stage"],
                DURATION_BUCKETS,
            ),
            batch_rows: histograms(r, ("tenon_batch_rows", "Rows per batch."), &["model"], ROW_BUCKETS),
            batches: batches(r),
            batch_splits: batch_splits(r),
            lane_restarts: lane_restarts(r),
            queue_rows: gauges(r, "tenon_queue_rows", "Rows waiting.", &["model"]),
            queue_limit_rows: gauges(r, "tenon_queue_limit_rows", "Rows that may wait.", &["model"]),
            queue_duration: histograms(
                r,
                ("tenon_queue_duration_seconds", "From queueing a row to the start of its batch."),
                &["model"],
                DURATION_BUCKETS,
            ),
            padding_ratio: histograms(
                r,
                ("tenon_padding_ratio", "Share of a batch's elements that is padding."),
                &["model"],
                RATIO_BUCKETS,
            ),
            gate_wait: gate_wait(r),
            cpu_seconds: cpu_seconds(r),
            device_seconds: register(
                r,
                prometheus::CounterVec::new(
                    Opts::new("tenon_device_seconds_total", "Time on instances of models."),
                    &["tenant", "function", "model"],
                ),
            ),
            exports: Exports::new(r),
            tracing: None,
            slow: None,
            guest_logs: GuestLogs::new(),
            windows: Windows::new(),
            gathering: Gathering {
                devices: DeviceGauges::new(r),
                cache: CacheMetrics::new(r, &tenants, &names),
                host_memory: gauges(r, "tenon_host_memory_bytes", "Bytes held for invocations.", &["kind"]),
                account: Arc::default(),
                registry,
            },
            tenants,
            names,
        }
    }

    /// The handles of one function.
    pub fn function(&self, tenant: &str, function: &str) -> FunctionMetrics {
        let (tenant, function) = (self.tenants.bounded(tenant), self.names.bounded(function));
        let outcome = |outcome: &str| Outcome {
            total: self.invocations.with_label_values(&[&tenant, &function, outcome]),
            duration: self.invocation_duration.with_label_values(&[&function, outcome]),
        };
        let cpu = |kind: &str| self.cpu_seconds.with_label_values(&[&tenant, &function, kind]);
        FunctionMetrics {
            lately: self.windows.function(&tenant, &function),
            outcomes: OUTCOMES.map(outcome),
            stages: Stage::ALL.map(|stage| self.stage_duration.with_label_values(&[&function, stage.name()])),
            cpu_guest: cpu("guest"),
            cpu_host_call: cpu("host_call"),
            gate_wait: self.gate_wait.with_label_values(&[&tenant]),
        }
    }

    /// The handles of one model.
    pub fn model(&self, model: &str) -> ModelMetrics {
        let model = self.names.bounded(model);
        ModelMetrics {
            lane_restarts: self.lane_restarts.with_label_values(&[&model]),
            batch_rows: self.batch_rows.with_label_values(&[&model]),
            batches: self.batches.clone(),
            batch_splits: self.batch_splits.clone(),
            device_seconds: self.device_seconds.clone(),
            queue_rows: self.queue_rows.with_label_values(&[&model]),
            queue_limit_rows: self.queue_limit_rows.with_label_values(&[&model]),
            queue_duration: self.queue_duration.with_label_values(&[&model]),
            padding_ratio: self.padding_ratio.with_label_values(&[&model]),
            tenants: self.tenants.clone(),
            names: self.names.clone(),
            model,
        }
    }

    /// Invocations that hold a permit.
    pub fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    /// Counts a request refused at the door.
    pub fn shed(&self, reason: &str) {
        self.shed.with_label_values(&[reason]).inc();
    }

    /// Counts a revision that was taken out of traffic for its traps.
    pub fn quarantined(&self, tenant: &str, function: &str) {
        let (tenant, function) = (self.tenants.bounded(tenant), self.names.bounded(function));
        self.quarantines.with_label_values(&[&tenant, &function]).inc();
    }

    /// Shows from now on what this account holds.
    pub fn watch(&self, account: Arc<Account>) {
        // There is one host in a process's telemetry; a second account would be a second host.
        let _ = self.gathering.account.set(account);
    }

    /// Shows from now on what devices' memory is used for, as this tells it.
    pub fn watch_devices(&self, read: impl Fn() -> Vec<DeviceMemory> + Send + Sync + 'static) {
        self.gathering.devices.watch(Box::new(read));
    }

    /// Shows from now on what devices do, as this tells it.
    pub fn watch_activity(&self, ask: impl Fn() -> Vec<DeviceActivity> + Send + Sync + 'static) {
        self.gathering.devices.watch_activity(Box::new(ask));
    }

    /// Shows from now on what a cache did and holds, as this tells it.
    pub fn watch_cache(&self, read: impl Fn() -> CacheFigures + Send + Sync + 'static) {
        self.gathering.cache.watch(Box::new(read));
    }

    /// What devices' memory is used for, where somebody counts it.
    pub fn device_memory(&self) -> Vec<DeviceMemory> {
        self.gathering.devices.read()
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory cannot fail; an encoding error would be a name that the constructors above let pass.
        if TextEncoder::new().encode(&self.gathering.gather(), &mut text).is_err() {
            text.clear();
        }
        String::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn gathering(&self) -> &Gathering {
        &self.gathering
    }
}

fn batches(registry: &Registry) -> IntCounterVec {
    counters(registry, "tenon_batches_total", "Batches by the reason they were closed.", &["model", "reason"])
}

fn batch_splits(registry: &Registry) -> IntCounterVec {
    let help = "Batches that were run again in halves.";
    counters(registry, "tenon_batch_splits_total", help, &["model", "cause"])
}

fn invocations(registry: &Registry) -> IntCounterVec {
    let labels = ["tenant", "function", "outcome"];
    counters(registry, "tenon_invocations_total", "Invocations by outcome.", &labels)
}

fn shed(registry: &Registry) -> IntCounterVec {
    counters(registry, "tenon_shed_total", "Requests refused at the door.", &["reason"])
}

fn quarantines(registry: &Registry) -> IntCounterVec {
    let help = "Revisions taken out of traffic because they trapped too often.";
    counters(registry, "tenon_quarantines_total", help, &["tenant", "function"])
}

fn lane_restarts(registry: &Registry) -> IntCounterVec {
    counters(registry, "tenon_lane_restarts_total", "Lanes that ended and were started again.", &["model"])
}

fn cpu_seconds(registry: &Registry) -> prometheus::CounterVec {
    let opts = Opts::new("tenon_cpu_seconds_total", "Processor time of guest code and host calls.");
    register(registry, prometheus::CounterVec::new(opts, &["tenant", "function", "kind"]))
}

fn gate_wait(registry: &Registry) -> HistogramVec {
    let help = "What invocations waited for their turns on the guests' threads, if any.";
    histograms(registry, ("tenon_gate_wait_seconds", help), &["tenant"], DURATION_BUCKETS)
}

/// What came of sending to a collector.
#[derive(Clone, Debug)]
pub(super) struct Exports {
    pub(super) spans: IntCounterVec,
    pub(super) messages: IntCounterVec,
}

impl Exports {
    fn new(registry: &Registry) -> Self {
        let (spans, messages) = ("Spans by what became of them.", "Messages to the collector.");
        Self {
            spans: counters(registry, "tenon_otlp_spans_total", spans, &["outcome"]),
            messages: counters(registry, "tenon_otlp_messages_total", messages, &["signal", "outcome"]),
        }
    }
}

/// All figures at one moment, for whoever writes them down.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    registry: Registry,
    host_memory: IntGaugeVec,
    devices: DeviceGauges,
    cache: CacheMetrics,
    account: Arc<OnceLock<Arc<Account>>>,
}

impl Gathering {
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        // What others count anyway is read off when somebody asks.
        self.devices.refresh();
        self.cache.refresh();
        if let Some(account) = self.account.get() {
            for kind in Kind::ALL {
                let held = i64::try_from(account.held_by_kind(kind)).unwrap_or(i64::MAX);
                self.host_memory.with_label_values(&[kind.name()]).set(held);
            }
        }
        self.registry.gather()
    }
}
