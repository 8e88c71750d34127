//! What the machine offers: driver, kernel, memory, cores, open files, and the tools for building and testing.
//!
//! It reads files below `/proc` and looks along PATH instead of running anything: a tool that is asked for its
//! version may start to download itself. On systems without `/proc` it says that it does not know.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use super::Check;

/// The CUDA driver's library, as the loader knows it.
const DRIVER: &str = "libcuda.so.1";
/// Where loaders look when the cache does not know (WSL keeps its driver apart).
const LIBRARY_DIRS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib"];
/// The first kernel with PAGEMAP_SCAN, by which a used instance's memory is reset page by page.
const KERNEL_PAGEMAP_SCAN: (u64, u64) = (6, 7);
/// A small model, its profile run and the instance pool want about this much.
const MEMORY_KIB_MIN: u64 = 2 * 1024 * 1024;
/// A connection is a file; below this, a busy host refuses connections before it sheds load.
const OPEN_FILES_MIN: u64 = 4096;
const WASM_TARGET: &str = "wasm32-wasip2";

/// All checks of this file.
pub(super) fn checks() -> Vec<Check> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    let proc = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
    vec![
        driver(),
        kernel(proc("sys/kernel/osrelease").trim()),
        memory(&proc("meminfo")),
        open_files(&proc("self/limits")),
        tools(&path),
        wasm_target(),
        redis(&path),
    ]
}

fn driver() -> Check {
    const NAME: &str = "CUDA driver";
    // The cache lists names as plain text between zero bytes.
    let cache = fs::read("/etc/ld.so.cache").unwrap_or_default();
    let cached = cache.windows(DRIVER.len()).any(|window| window == DRIVER.as_bytes());
    let search = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let dirs = env::split_paths(&search).chain(LIBRARY_DIRS.map(PathBuf::from));
    match dirs.map(|dir| dir.join(DRIVER)).find(|file| file.exists()) {
        Some(file) => Check::ok(NAME, format!("present: {}", file.display())),
        None if cached => Check::ok(NAME, format!("present: {DRIVER}")),
        None => Check::ok(NAME, "none: models run on the CPU"),
    }
}

fn kernel(release: &str) -> Check {
    const NAME: &str = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u64>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return Check::warn(NAME, "unknown: no /proc/sys/kernel/osrelease", "hosts run on Linux");
    };
    if (major, minor) >= KERNEL_PAGEMAP_SCAN {
        return Check::ok(NAME, format!("{release}, has pagemap_scan"));
    }
    let (major, minor) = KERNEL_PAGEMAP_SCAN;
    Check::warn(
        NAME,
        format!("{release} has no pagemap_scan"),
        format!("Linux {major}.{minor} resets plugin memory faster"),
    )
}

fn memory(meminfo: &str) -> Check {
    const NAME: &str = "memory and cores";
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (Some(total), Some(available)) = (kib("MemTotal"), kib("MemAvailable")) else {
        return Check::warn(NAME, format!("memory unknown, {cores} cores"), "hosts run on Linux");
    };
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    let found = format!("{:.1} GiB of {:.1} GiB available, {cores} cores", gib(available), gib(total));
    if available < MEMORY_KIB_MIN {
        return Check::warn(
            NAME,
            found,
            format!("a host with a small model wants about {:.0} GiB", gib(MEMORY_KIB_MIN)),
        );
    }
    Check::ok(NAME, found)
}

fn open_files(limits: &str) -> Check {
    const NAME: &str = "open files";
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let Some(soft) = line.and_then(|line| line.split_whitespace().next()) else {
        return Check::warn(NAME, "limit unknown", "hosts run on Linux");
    };
    if soft.parse::<u64>().is_ok_and(|soft| soft < OPEN_FILES_MIN) {
        return Check::warn(
            NAME,
            format!("limit {soft}"),
            "`ulimit -n 65536` before `tenon serve`: a connection is a file",
        );
    }
    Check::ok(NAME, format!("limit {soft}"))
}

/// Needed to build Tenon or a plugin, not to run a host.
fn tools(path: &[PathBuf]) -> Check {
    const NAME: &str = "build tools";
    let wanted: [(&str, &[&str]); 3] =
        [("cargo", &["cargo"]), ("python3", &["python3"]), ("a C++ compiler", &["c++", "g++", "clang++"])];
    let missing: Vec<_> =
        wanted.iter().filter(|(_, any)| !any.iter().any(|tool| on_path(path, tool))).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Check::ok(NAME, "cargo, python3, a C++ compiler");
    }
    let advice = "only for building: rustup from rustup.rs; on Debian `apt-get install python3 g++`";
    Check::warn(NAME, format!("missing: {}", missing.join(", ")), advice)
}

fn on_path(path: &[PathBuf], tool: &str) -> bool {
    path.iter().any(|dir| dir.join(tool).is_file())
}

fn wasm_target() -> Check {
    const NAME: &str = "wasm target";
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".rustup")));
    let toolchains = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let installed = toolchains.into_iter().flatten().flatten();
    let having = installed.filter(|entry| entry.path().join("lib/rustlib").join(WASM_TARGET).is_dir());
    let mut names: Vec<_> = having.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        let advice = format!("only for building plugins: `rustup target add {WASM_TARGET}`");
        return Check::warn(NAME, format!("{WASM_TARGET} was not found"), advice);
    }
    names.sort();
    Check::ok(NAME, format!("{WASM_TARGET} of {}", names.join(", ")))
}

fn redis(path: &[PathBuf]) -> Check {
    const NAME: &str = "redis-server";
    if on_path(path, "redis-server") {
        return Check::ok(NAME, "present");
    }
    let advice = "only for tests and a shared cache: on Debian `apt-get install redis-server`";
    Check::warn(NAME, "not on PATH", advice)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, level) in [
            ("6.18.44-fc-v6", Level::Ok),
            ("6.7.0", Level::Ok),
            ("6.6.99", Level::Warn),
            ("5.15.0-1-amd64", Level::Warn),
            ("10.0", Level::Ok),
            ("", Level::Warn),
        ] {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }

    #[test]
    fn proc_files_are_read_where_they_are_and_missed_where_not() {
        assert_eq!(memory("MemTotal: 8388608 kB\nMemAvailable:   4194304 kB\n").level, Level::Ok);
        assert_eq!(memory("MemTotal: 8388608 kB\nMemAvailable:   1024 kB\n").level, Level::Warn);
        assert_eq!(memory("").level, Level::Warn);
        assert_eq!(open_files("Max open files   1024    524288   files\n").level, Level::Warn);
        assert_eq!(open_files("Max open files   unlimited    unlimited   files\n").level, Level::Ok);
        assert_eq!(open_files("").level, Level::Warn);
    }

    #[test]
    fn a_missing_tool_is_only_a_warning() {
        assert_eq!(tools(&[]).level, Level::Warn);
        assert_eq!(redis(&[]).level, Level::Warn);
    }
}
