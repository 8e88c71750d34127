//! What devices' memory is used for and what they do, as figures: made by who counts it, told by metrics and `/health`.
//!
//! Owns the words; refuses to know who counts and what for.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus::{CounterVec, GaugeVec, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use super::labels::{gauges, register};

/// The memory of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceMemory {
    /// `cpu` or `cuda:0`.
    pub device: Cow<'static, str>,
    /// Held by models.
    pub weight_bytes: u64,
    /// Held by lanes, for batches.
    pub lane_bytes: u64,
    /// Held by nobody of the engine's.
    pub other_bytes: u64,
    /// What all may hold together.
    pub limit_bytes: u64,
}

impl DeviceMemory {
    /// All that is held.
    pub fn held_bytes(&self) -> u64 {
        self.fixed_bytes().saturating_add(self.lane_bytes)
    }

    /// What batches cannot give back.
    pub fn fixed_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.other_bytes)
    }
}

/// What a device does, as its driver tells it; what it does not tell is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceActivity {
    /// `cuda:0`.
    pub device: Cow<'static, str>,
    /// The share of the driver's last period in which it computed, whoever for.
    pub utilization_ratio: Option<f64>,
    /// How warm it is.
    pub temperature_celsius: Option<f64>,
    /// What it draws.
    pub power_watts: Option<f64>,
    /// For how long it had batches of this host, since the start.
    pub busy_seconds: Option<f64>,
}

impl DeviceActivity {
    /// Of a device, nothing told yet.
    pub fn of(device: impl Into<Cow<'static, str>>) -> Self {
        let (utilization_ratio, temperature_celsius, power_watts, busy_seconds) = (None, None, None, None);
        Self { device: device.into(), utilization_ratio, temperature_celsius, power_watts, busy_seconds }
    }
}

const BUSY: &str = "Time in which a device had batches of this host, as it told itself; what overlaps is counted once.";

/// Asks whoever knows.
pub(super) type Read<T> = Box<dyn Fn() -> Vec<T> + Send + Sync>;

/// Gauges that are set when somebody asks.
#[derive(Clone)]
pub(super) struct DeviceGauges {
    held: IntGaugeVec,
    limit: IntGaugeVec,
    utilization: GaugeVec,
    temperature: GaugeVec,
    power: GaugeVec,
    busy: CounterVec,
    read: Arc<OnceLock<Read<DeviceMemory>>>,
    ask: Arc<OnceLock<Read<DeviceActivity>>>,
}

impl DeviceGauges {
    pub(super) fn new(registry: &Registry) -> Self {
        let (held, limit) = ("Memory of a device by use.", "Memory of a device that may be used.");
        let shares = |name: &str, help: &str| register(registry, GaugeVec::new(Opts::new(name, help), &["device"]));
        Self {
            held: gauges(registry, "tenon_device_memory_bytes", held, &["device", "kind"]),
            limit: gauges(registry, "tenon_device_memory_limit_bytes", limit, &["device"]),
            utilization: shares("tenon_device_utilization_ratio", "Share of time in which a device computes."),
            temperature: shares("tenon_device_temperature_celsius", "How warm a device is."),
            power: shares("tenon_device_power_watts", "What a device draws."),
            busy: register(registry, CounterVec::new(Opts::new("tenon_device_busy_seconds_total", BUSY), &["device"])),
            read: Arc::default(),
            ask: Arc::default(),
        }
    }

    pub(super) fn watch(&self, read: Read<DeviceMemory>) {
        // One engine in a process's telemetry; a second would be a second host.
        let _ = self.read.set(read);
    }

    pub(super) fn watch_activity(&self, ask: Read<DeviceActivity>) {
        // Likewise.
        let _ = self.ask.set(ask);
    }

    pub(super) fn read(&self) -> Vec<DeviceMemory> {
        self.read.get().map(|read| read()).unwrap_or_default()
    }

    pub(super) fn refresh(&self) {
        let set = |gauge: prometheus::IntGauge, bytes| gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        for memory in self.read() {
            let kinds = [("weights", memory.weight_bytes), ("lanes", memory.lane_bytes), ("other", memory.other_bytes)];
            for (kind, bytes) in kinds {
                set(self.held.with_label_values(&[&memory.device[..], kind]), bytes);
            }
            set(self.limit.with_label_values(&[&memory.device[..]]), memory.limit_bytes);
        }
        for activity in self.ask.get().map(|ask| ask()).unwrap_or_default() {
            if let Some(seconds) = activity.busy_seconds {
                let counted = self.busy.with_label_values(&[&activity.device[..]]);
                counted.inc_by((seconds - counted.get()).max(0.0));
            }
            let told = [
                (&self.utilization, activity.utilization_ratio),
                (&self.temperature, activity.temperature_celsius),
                (&self.power, activity.power_watts),
            ];
            for (gauges, value) in told {
                match value {
                    Some(value) => gauges.with_label_values(&[&activity.device[..]]).set(value),
                    // Better none than one that was true once; there may have been none before either.
                    None => drop(gauges.remove_label_values(&[&activity.device[..]])),
                }
            }
        }
    }
}

impl fmt::Debug for DeviceGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceGauges").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_is_not_told_any_more_is_not_shown_any_more() {
        let registry = Registry::new();
        let gauges = DeviceGauges::new(&registry);
        let told = Arc::new(Mutex::new(Some(0.5)));
        let asked = told.clone();
        gauges.watch_activity(Box::new(move || {
            let utilization_ratio = *asked.lock().unwrap();
            vec![DeviceActivity { utilization_ratio, ..DeviceActivity::of("cuda:0") }]
        }));
        let shown = || -> Vec<(String, f64)> {
            gauges.refresh();
            let value = |family: &prometheus::proto::MetricFamily| family.get_metric()[0].get_gauge().get_value();
            registry.gather().iter().map(|family| (family.name().to_owned(), value(family))).collect()
        };
        assert_eq!(shown(), [("tenon_device_utilization_ratio".into(), 0.5)]);
        *told.lock().unwrap() = None;
        assert_eq!(shown(), []);
    }
}
