//! How the host tells of itself: metrics, traces, logs, and figures for `/health`.
//!
//! Owns names, bounds and destinations (DESIGN section 11); refuses to know what is measured. It is vocabulary: every room
//! adds to it. What costs is done when somebody asks or away from requests: counting is an atomic addition on a handle
//! resolved before, a request that is not sampled makes no span, and spans are made of what an invocation noted anyway.

mod cached;
mod config;
mod device;
mod guest_log;
mod handles;
mod labels;
mod logs;
mod metrics;
mod otlp;
mod record;
mod report;
mod trace;
mod window;

use std::{sync::Arc, time::Duration, time::Instant};

pub use cached::{ANSWERS, CacheFigures, CachedFunction, CachedTier};
pub use config::{Config, Headers, LogFormat, Protocol};
pub use device::{DeviceActivity, DeviceMemory};
pub use guest_log::{FunctionLog, GuestLogs, Line, LineKind, Passage, Reader};
pub use handles::{FunctionMetrics, ModelMetrics, OUTCOMES};
pub use logs::start as start_logs;
pub use metrics::{Gauge, Telemetry};
pub use otlp::Exporting;
pub use record::{Batch, BatchFacts, Lap, Record, link};
pub use report::{Report, Subject};
pub use trace::{SpanLink, TraceContext};
pub use window::{Latest, follow};

/// Everything that a configuration asks for; the task that sends to a collector, where there is one. Called on the
/// reactor.
pub fn start(config: &Config) -> Result<(Arc<Telemetry>, Option<Exporting>), String> {
    let mut telemetry = Telemetry::new();
    let slow_after = Duration::from_millis(config.slow_request_ms);
    telemetry.slow = (!slow_after.is_zero()).then(|| report::SlowLog::new(slow_after));
    let exporting = otlp::start(config, telemetry.gathering().clone(), telemetry.exports.clone())?;
    let exporting = exporting.map(|(exporter, exporting)| {
        // OpenTelemetry's own default: everything.
        telemetry.tracing = Some((exporter, config.sample_ratio.unwrap_or(1.0)));
        exporting
    });
    Ok((Arc::new(telemetry), exporting))
}

impl Telemetry {
    /// Where an invocation of this trace notes its stages; `None` where nobody would see them. Decides for a trace that
    /// begins here.
    fn record(&self, trace: &mut TraceContext) -> Option<Arc<Record>> {
        let (exporter, share) = self.tracing.as_ref()?;
        trace.sample(*share);
        trace.is_sampled().then(|| Record::new(*trace, exporter.clone()))
    }

    /// What guests said and how they failed.
    pub fn guest_logs(&self) -> &Arc<GuestLogs> {
        &self.guest_logs
    }

    /// How requests went within the last minute.
    pub fn latest(&self) -> Latest {
        self.windows.latest(Instant::now())
    }
}
