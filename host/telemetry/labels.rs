//! Bounds on label values, and metrics made and registered in one step.
//!
//! Refuses to know which metrics there are. Why bounds: each new value of a label is a new series in every monitoring
//! system that reads them, and names of tenants and functions come from others.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};

/// The values that a label may take: the first so many, then `other`.
#[derive(Debug)]
pub(super) struct Labels {
    limit: usize,
    seen: Mutex<BTreeSet<String>>,
}

impl Labels {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, seen: Mutex::default() })
    }

    pub(super) fn bounded(&self, value: &str) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(value) {
            if seen.len() >= self.limit {
                return "other".into();
            }
            seen.insert(value.into());
        }
        value.into()
    }
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names, labels and buckets are constants of `metrics`");
    registry.register(Box::new(metric.clone())).expect("each name is registered once, in `Telemetry::new`");
    metric
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

pub(super) fn histograms(
    registry: &Registry,
    (name, help): (&str, &str),
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}
