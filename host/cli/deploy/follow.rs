//! A deployment on its way: asked for again and again, shown as a line that turns on a terminal, as plain lines elsewhere.
//!
//! It knows which states are the last ones and nothing of what they mean.

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::Value;

use super::unfinished;
use crate::control::Control;
use crate::failure::{Exit, Failure, printable};
use crate::output::{self, cell};
use crate::target::{Name, encode_value};
use crate::times::Patience;

/// Looks in a row that may come to nothing.
const MISSED_MAX: u32 = 5;

/// What a person sees meanwhile, on standard error.
pub(super) struct Shown {
    name: String,
    spinner: ProgressBar,
    plain: bool,
    last: String,
}

impl Shown {
    /// Nothing at all where machines read.
    pub(super) fn new(name: &Name, quiet: bool) -> Self {
        let spinner = if quiet { ProgressBar::hidden() } else { output::spinner(&name.to_string()) };
        Self { name: name.to_string(), plain: spinner.is_hidden() && !quiet, spinner, last: String::new() }
    }

    /// Says where it is, once.
    pub(super) fn say(&mut self, what: &str) {
        if self.last == what {
            return;
        }
        what.clone_into(&mut self.last);
        let line = format!("{}: {}", self.name, printable(what));
        if self.plain {
            output::aside(&line);
        }
        self.spinner.set_message(line);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

/// Asks until the deployment is ready or refused.
pub(super) fn to_its_end(
    control: &Control,
    name: &Name,
    mut deployment: Value,
    timeout: Duration,
    shown: &mut Shown,
) -> Result<Value, Failure> {
    let path = name.path(&format!("/deployments/{}", encode_value(&cell(&deployment, "id"))));
    let mut patience = Patience::new(timeout);
    let mut missed = 0;
    while !is_over(&deployment) {
        shown.say(&stage(&deployment));
        if !patience.wait() {
            return Err(unfinished(name, &deployment, timeout));
        }
        match control.get(&path) {
            Ok(now) => (deployment, missed) = (now, 0),
            // The host is at work, whether or not this look at it came through.
            Err(failure) if passing(&failure) && missed < MISSED_MAX => missed += 1,
            Err(failure) => return Err(lost(name, failure)),
        }
    }
    Ok(deployment)
}

/// What another look may not meet.
fn passing(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Environment | Exit::Capacity)
}

fn lost(name: &Name, mut failure: Failure) -> Failure {
    failure.notes.push(format!("{name} was sent: `tenon functions {name}` shows whether it has become a revision"));
    failure
}

fn is_over(deployment: &Value) -> bool {
    matches!(deployment["state"].as_str(), Some("ready" | "refused"))
}

/// `compiling`, or `cases, 2 of 5`.
fn stage(deployment: &Value) -> String {
    let state = cell(deployment, "state");
    match (deployment["done"].as_u64(), deployment["total"].as_u64()) {
        (Some(done), Some(total)) if state == "cases" && total > 0 => format!("{state}, {done} of {total}"),
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cases_are_counted_and_an_end_is_known() {
        assert_eq!(stage(&json!({ "state": "cases", "done": 2, "total": 5 })), "cases, 2 of 5");
        assert_eq!(stage(&json!({ "state": "compiling", "done": 0, "total": 5 })), "compiling");
        assert_eq!(stage(&json!({})), "-");
        for (state, over) in [("ready", true), ("refused", true), ("queued", false), ("new-word", false)] {
            assert_eq!(is_over(&json!({ "state": state })), over, "{state}");
        }
    }
}
