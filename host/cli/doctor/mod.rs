//! `tenon doctor`: everything that has to be true for a host to run here, checked one by one, with what to do.
//!
//! It changes nothing and starts nothing: files and sockets are looked at, so it is safe to run beside a host in
//! service. What is only needed for building or testing is never more than a warning.

mod installation;
mod machine;
mod planes;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::client::Host;
use crate::failure::{Exit, Stop, printable};
use crate::output;

/// Flags of `tenon doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorFlags {
    /// The model repository to look at
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// The host's data folder to look at
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// The host's control plane
    #[arg(long, value_name = "URL", default_value = "127.0.0.1:8081", value_parser = Host::parse)]
    control: Host,
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// A host runs, but something is slower, or missing for building and testing.
    Warn,
    /// A host does not run like this.
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    name: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), advice: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &DoctorFlags) -> Result<(), Stop> {
    let mut checks = installation::checks(flags);
    checks.extend(machine::checks());
    checks.extend(planes::checks(host, &flags.control.clone().trusting(host.trust().clone())));
    let exit = exit_of(&checks);
    if flags.json {
        output::json(&as_json(&checks))?;
    } else {
        show(&checks)?;
    }
    if exit == Exit::Fine { Ok(()) } else { Err(Stop::Said(exit)) }
}

fn exit_of(checks: &[Check]) -> Exit {
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    if failed { Exit::Environment } else { Exit::Fine }
}

fn as_json(checks: &[Check]) -> Value {
    let list: Vec<_> = checks
        .iter()
        .map(|c| json!({ "name": c.name, "level": c.level.name(), "found": c.found, "advice": c.advice }))
        .collect();
    json!({ "ok": exit_of(checks) == Exit::Fine, "checks": list })
}

fn show(checks: &[Check]) -> std::io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    for check in checks {
        let level = check.level.name();
        let style = output::state_style(level);
        output::line(&format!("{style}{level:<4}{style:#}  {:<width$}  {}", check.name, printable(&check.found)))?;
        if let Some(advice) = &check.advice {
            output::line(&format!("      {:<width$}  -> {}", "", printable(advice)))?;
        }
    }
    let count = |level| checks.iter().filter(|check| check.level == level).count();
    output::line(&format!("{} ok, {} warn, {} fail", count(Level::Ok), count(Level::Warn), count(Level::Fail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_fail() {
        let fine = [Check::ok("a", "x"), Check::warn("b", "y", "do z")];
        assert_eq!(exit_of(&fine), Exit::Fine);
        let bad = [Check::ok("a", "x"), Check::fail("b", "y", "do z")];
        assert_eq!(exit_of(&bad), Exit::Environment);
        assert_eq!(as_json(&bad)["checks"][1]["advice"], "do z");
    }
}
