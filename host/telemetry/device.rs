//! What devices' memory is used for, as figures: made by who counts it, told by metrics and `/health`.
//!
//! Owns the words; refuses to know who counts and what for.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus::{IntGaugeVec, Registry};
use serde::Serialize;

use super::labels::gauges;

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

pub(super) type Read = Box<dyn Fn() -> Vec<DeviceMemory> + Send + Sync>;

/// Gauges that are set when somebody asks.
#[derive(Clone)]
pub(super) struct DeviceGauges {
    held: IntGaugeVec,
    limit: IntGaugeVec,
    read: Arc<OnceLock<Read>>,
}

impl DeviceGauges {
    pub(super) fn new(registry: &Registry) -> Self {
        let (held, limit) = ("Memory of a device by use.", "Memory of a device that may be used.");
        Self {
            held: gauges(registry, "tenon_device_memory_bytes", held, &["device", "kind"]),
            limit: gauges(registry, "tenon_device_memory_limit_bytes", limit, &["device"]),
            read: Arc::default(),
        }
    }

    pub(super) fn watch(&self, read: Read) {
        // One engine in a process's telemetry; a second would be a second host.
        let _ = self.read.set(read);
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
    }
}

impl fmt::Debug for DeviceGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceGauges").finish_non_exhaustive()
    }
}
