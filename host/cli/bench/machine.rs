//! The machine that drives, as far as it helps to compare two runs: no names, no addresses.
//!
//! It reads files below `/proc`; where there are none, the figures are empty.

use std::fs;
use std::thread;

use super::saved::Machine;
use crate::failure::{Exit, Failure};

/// Open files beside connections: the program's own, the reactor's.
const OTHER_FILES: u64 = 64;

/// What is known here.
pub(super) fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    Machine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        memory_bytes: memory.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default().saturating_mul(1024),
        load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
    }
}

/// Makes room for so many connections, or says how.
pub(super) fn allow_connections(connections: u64) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let needed = connections + OTHER_FILES;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|current| current >= needed) {
            return Ok(());
        }
        // The hard limit is the administrator's word, the soft one only a default.
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        if limit.maximum.is_none_or(|most| most >= needed) && setrlimit(Resource::Nofile, raised).is_ok() {
            return Ok(());
        }
        let most = limit.maximum.or(limit.current).unwrap_or_default();
        let message = format!("{connections} connections need {needed} open files, and this shell allows {most}");
        Err(Failure::new(Exit::Environment, message).hint(format!("`ulimit -n {needed}`, or fewer clients")))
    }
    #[cfg(not(unix))]
    {
        let _ = (connections, OTHER_FILES);
        Ok(())
    }
}
