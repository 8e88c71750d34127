//! `--wait`: a change is in the store at once, and in force on a host when that host has read it. This waits for all.
//!
//! Which hosts there are is told by the host that is asked. One that has not been heard of for a while is taken for gone
//! and shown as such: nobody should wait for a machine that was switched off.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::control::Control;
use crate::failure::{Exit, Failure, Stop};
use crate::output::{self, MISSING, cell};
use crate::target::Name;
use crate::times::{self, Patience};

/// Hosts tell of themselves every 30 s, and one that says nothing for 90 s is not listed any more.
const SILENCE_MS_MAX: u64 = 95_000;

/// Flags of whoever waits.
#[derive(Args, Debug)]
pub(super) struct WaitFlags {
    /// Wait until every host has applied the change, and show each
    #[arg(long)]
    pub(super) wait: bool,
    /// Wait this long at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = times::parse, requires = "wait")]
    timeout: Duration,
}

/// How the wait ended.
pub(super) struct Waited {
    /// The hosts as they told.
    pub(super) hosts: Value,
    /// The same for people.
    pub(super) table: String,
    /// What is not as it should be.
    pub(super) failure: Option<Failure>,
}

/// Where one host is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Applied,
    Behind,
    /// It has read the change and cannot serve the function.
    Failed(String),
    Gone,
}

/// Waits until every live host has applied change `n`.
pub(super) fn everywhere(
    control: &Control,
    name: &Name,
    n: Option<u64>,
    flags: &WaitFlags,
    quiet: bool,
) -> Result<Waited, Stop> {
    let n = n.ok_or_else(|| Failure::new(Exit::Environment, "the host did not tell the change's number"))?;
    let mut patience = Patience::new(flags.timeout);
    let spinner = if quiet { indicatif::ProgressBar::hidden() } else { output::spinner("waiting for all hosts") };
    loop {
        let document = control.get("/admin/v1/hosts")?;
        let hosts = output::list(&document, "hosts", control.base())?;
        let states = states(hosts, name, n);
        let behind = states.iter().filter(|state| **state == State::Behind).count();
        if behind > 0 && patience.wait() {
            continue;
        }
        spinner.finish_and_clear();
        let rows: Vec<_> = hosts.iter().zip(&states).map(|(host, state)| row(host, state)).collect();
        let table = output::table(&["host", "applied", "state"], &rows);
        return Ok(Waited {
            table,
            failure: failure(name, n, &states, flags.timeout),
            hosts: document["hosts"].clone(),
        });
    }
}

fn states(hosts: &[Value], name: &Name, n: u64) -> Vec<State> {
    let heard = |host: &Value| host["at_ms"].as_u64();
    // Compared among themselves: this machine's clock may be wrong.
    let newest = hosts.iter().filter_map(heard).max().unwrap_or(0);
    let state = |host: &Value| {
        if host["self"] != true && heard(host).is_some_and(|at| at + SILENCE_MS_MAX < newest) {
            return State::Gone;
        }
        if host["applied"].as_u64().is_none_or(|applied| applied < n) {
            return State::Behind;
        }
        let failed = host["failed"][name.to_string()].as_str();
        failed.map_or(State::Applied, |why| State::Failed(why.to_owned()))
    };
    hosts.iter().map(state).collect()
}

fn row(host: &Value, state: &State) -> Vec<String> {
    let name = match cell(host, "name") {
        name if name == MISSING => cell(host, "host"),
        name => name,
    };
    let own = if host["self"] == true { " (asked)" } else { "" };
    let state = match state {
        State::Applied => "applied".to_owned(),
        State::Behind => "behind".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
        State::Gone => format!("not heard of since {}", times::instant(&host["at_ms"])),
    };
    vec![format!("{name}{own}"), cell(host, "applied"), state]
}

fn failure(name: &Name, n: u64, states: &[State], timeout: Duration) -> Option<Failure> {
    let count = |wanted: fn(&State) -> bool| states.iter().filter(|state| wanted(state)).count();
    let (behind, failed) = (count(|s| *s == State::Behind), count(|s| matches!(s, State::Failed(_))));
    if failed > 0 {
        let message = format!("{failed} of {} hosts cannot serve {name} as it is now", states.len());
        return Some(Failure::new(Exit::Function, message).hint(format!("go back with `tenon rollback {name}`")));
    }
    let waited = humantime::format_duration(timeout);
    let message = format!("{behind} of {} hosts have not applied change {n} within {waited}", states.len());
    (behind > 0).then(|| {
        Failure::new(Exit::Capacity, message)
            .hint("the change is in force where it was applied; the others serve what they had and go on trying")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_live_host_has_to_follow() {
        let name = Name::parse("a/f").unwrap();
        let hosts = json!([
            { "host": "1", "applied": 7, "at_ms": 100_000, "self": true },
            { "host": "2", "applied": 6, "at_ms": 99_000 },
            { "host": "3", "applied": 8, "at_ms": 99_000, "failed": { "a/f": "no such model", "b/g": "x" } },
            { "host": "4", "applied": 1, "at_ms": 1_000 },
            { "host": "5", "applied": 9, "failed": { "b/g": "x" } },
        ]);
        let states = states(hosts.as_array().unwrap(), &name, 7);
        let failed = State::Failed("no such model".to_owned());
        assert_eq!(states, [State::Applied, State::Behind, failed, State::Gone, State::Applied]);
        let timeout = Duration::from_secs(30);
        assert_eq!(failure(&name, 7, &states, timeout).unwrap().exit, Exit::Function);
        let late = failure(&name, 7, &states[..2], timeout).unwrap();
        assert_eq!(
            (late.exit, &late.message[..]),
            (Exit::Capacity, "1 of 2 hosts have not applied change 7 within 30s")
        );
        assert!(failure(&name, 7, &[State::Applied, State::Gone], timeout).is_none());
    }
}
