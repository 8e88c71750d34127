//! Figures for operators: `GET /health` of the control plane.
//!
//! Owns the shape of that document; the figures are asked of those who have them. Refuses to judge: whether requests should
//! come is `/health/ready`.

use std::time::Duration;

use serde_json::{Value, json};

use super::control::Control;

/// Where Linux tells a process's memory.
const STATUS: &str = "/proc/self/status";
const KIB: u64 = 1024;

/// Everything at present.
pub(super) fn figures(control: &Control, uptime: Duration) -> Value {
    let (runtime, telemetry) = (control.runtime(), &control.telemetry);
    let ready = runtime.ready();
    let held = runtime.held_bytes();
    let tenants = runtime.functions().held_bytes().into_iter();
    let tenants = tenants.map(|(tenant, (held, limit))| (tenant, json!({ "held_bytes": held, "limit_bytes": limit })));
    json!({
        "ready": ready.is_ok(),
        "reason": ready.err(),
        "registry": { "trouble": control.overview.trouble() },
        "draining": runtime.admission().is_draining(),
        "version": env!("CARGO_PKG_VERSION"),
        // During a handover two processes answer here.
        "pid": std::process::id(),
        "uptime_s": uptime.as_secs(),
        "invocations_in_flight": telemetry.in_flight().get(),
        "host_memory_bytes": held,
        "memory": {
            "held_bytes": held,
            "limit_bytes": runtime.limit_bytes(),
            "resident_bytes": std::fs::read_to_string(STATUS).ok().and_then(|status| resident_bytes(&status)),
            "tenants": tenants.collect::<serde_json::Map<_, _>>(),
        },
        "devices": telemetry.device_memory(),
        "cache": runtime.remembered().summary(),
        "latest": telemetry.latest(),
        "models": runtime.models(),
    })
}

/// `VmRSS:     1234 kB`
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_off_the_kernels_words() {
        assert_eq!(resident_bytes("Name:\ttenon\nVmRSS:\t   12 kB\nThreads:\t3\n"), Some(12 << 10));
        assert_eq!(resident_bytes("Name:\ttenon\n"), None);
    }
}
