//! `tenon serve`: puts the host in its place: finds the binary and the libtorch that belong together, and becomes
//! the host.
//!
//! It reads no configuration and listens to nothing: the process is replaced (same pid), so signals, exit status
//! and standard streams are the host's own and no parent has to pass them on.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::{Exit, Failure, Stop};
use crate::libtorch::Places;

/// The other half of the pair.
pub(crate) const HOST_BINARY: &str = if cfg!(windows) { "tenon-host.exe" } else { "tenon-host" };
/// Where the loader looks first.
const LOADER_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// Flags of `tenon serve`, as the host knows them; it checks their values and has their defaults.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeFlags {
    /// A configuration file (tenon.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where callers invoke functions [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Where operators reach the host, always with a token [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    pub(crate) control_listen: Option<String>,
    /// The model repository [default: ./models]
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// What the host keeps: measured profiles, the admin token [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Serve functions from DIR/<tenant>/<function>/, and again when they change
    #[arg(long, value_name = "DIR")]
    pub(crate) dev_functions: Option<PathBuf>,
    /// Take over from the host that serves from the same data folder: load everything, get its sockets, and
    /// let it finish; no request is refused
    #[arg(long)]
    pub(crate) handover: bool,
    /// Load the configuration, say what is wrong with it, and stop
    #[arg(long)]
    pub(crate) check: bool,
    /// Further arguments for tenon-host, after `--`
    #[arg(last = true, value_name = "HOST ARGS")]
    pub(crate) further: Vec<OsString>,
}

impl ServeFlags {
    /// The same flags as the host's arguments; what was not given stays the host's to decide.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let paths = [
            ("--config", &self.config),
            ("--models", &self.models),
            ("--data", &self.data),
            ("--dev-functions", &self.dev_functions),
        ];
        for (flag, value) in paths {
            arguments.extend(value.iter().flat_map(|value| [flag.into(), value.clone().into_os_string()]));
        }
        for (flag, value) in [("--listen", &self.listen), ("--control-listen", &self.control_listen)] {
            arguments.extend(value.iter().flat_map(|value| [flag.into(), value.into()]));
        }
        for (flag, given) in [("--handover", self.handover), ("--check", self.check)] {
            arguments.extend(given.then(|| flag.into()));
        }
        arguments.extend(self.further.iter().cloned());
        arguments
    }
}

/// Runs the command; returns only when the host could not be started.
pub(crate) fn run(flags: &ServeFlags) -> Result<(), Stop> {
    let command = command(flags)?;
    Err(become_host(command).into())
}

/// The host with its flags, ready to be started.
pub(crate) fn command(flags: &ServeFlags) -> Result<Command, Failure> {
    let binary_dir = binary_dir()?;
    let host = find_host(&binary_dir)?;
    let libtorch = Places::here(Some(binary_dir)).find()?;
    let search = with_first(&libtorch.lib, env::var_os(LOADER_PATH))?;
    let mut command = Command::new(&host);
    command.args(flags.arguments()).env(LOADER_PATH, search);
    Ok(command)
}

/// The folder of this program, links resolved: people link `tenon` into their PATH, and the pair stays together.
pub(crate) fn binary_dir() -> Result<PathBuf, Failure> {
    let own = env::current_exe().and_then(|path| path.canonicalize());
    let own = own.map_err(|error| Failure::new(Exit::Environment, format!("cannot find my own binary: {error}")))?;
    own.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new(Exit::Environment, format!("{} lies in no folder", own.display())))
}

/// The host's binary beside this one.
pub(crate) fn find_host(binary_dir: &Path) -> Result<PathBuf, Failure> {
    let host = binary_dir.join(HOST_BINARY);
    if host.is_file() {
        return Ok(host);
    }
    let message = format!("{HOST_BINARY} is not beside this program, in {}", binary_dir.display());
    Err(Failure::new(Exit::Environment, message)
        .hint("in a checkout: `cargo build`; else install both binaries together"))
}

/// The loader's search path with ours in front: an older libtorch of a Python environment must not win.
fn with_first(lib: &Path, existing: Option<OsString>) -> Result<OsString, Failure> {
    let existing = existing.filter(|value| !value.is_empty()).unwrap_or_default();
    let rest = env::split_paths(&existing).filter(|path| !path.as_os_str().is_empty() && path != lib);
    env::join_paths([lib.to_path_buf()].into_iter().chain(rest)).map_err(|error| {
        let message = format!("{} cannot stand in {LOADER_PATH}: {error}", lib.display());
        Failure::new(Exit::Environment, message).hint("move libtorch to a folder whose path has no colon")
    })
}

#[cfg(unix)]
fn become_host(mut command: Command) -> Failure {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Failure::new(Exit::Environment, format!("cannot start {}: {error}", Path::new(command.get_program()).display()))
        .hint("is it built for this machine and executable? `tenon doctor` looks further")
}

#[cfg(not(unix))]
fn become_host(_command: Command) -> Failure {
    Failure::new(Exit::Environment, "hosts run on Linux").hint("invoke one elsewhere with --host")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ServeFlags,
    }

    #[test]
    fn flags_reach_the_host_as_they_were_given() {
        let given =
            ["serve", "--listen", "127.0.0.1:0", "--models", "m", "--check", "--handover", "--", "--new-flag", "x"];
        let arguments = Line::parse_from(given).flags.arguments();
        let expected = ["--models", "m", "--listen", "127.0.0.1:0", "--handover", "--check", "--new-flag", "x"];
        assert_eq!(arguments, expected);
        assert!(Line::parse_from(["serve"]).flags.arguments().is_empty());
    }

    #[test]
    fn ours_is_first_and_there_once() {
        let lib = Path::new("/t/lib");
        assert_eq!(with_first(lib, None).unwrap(), "/t/lib");
        assert_eq!(with_first(lib, Some("".into())).unwrap(), "/t/lib");
        assert_eq!(with_first(lib, Some("/a:/t/lib::/b".into())).unwrap(), "/t/lib:/a:/b");
        assert!(with_first(Path::new("/t:x/lib"), None).is_err());
    }
}
