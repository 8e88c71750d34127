//! `tenon models load` and `tenon models unload`: what serves is changed while the host runs.
//!
//! It sends the order and waits until the host has followed it or says why not; it does not look into the repository,
//! which may be on another machine.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::client::{Host, Question};
use crate::control::{ControlFlags, post};
use crate::failure::{Exit, Failure, Stop};
use crate::models;
use crate::output::{self, cell};

/// Reading a large model and measuring it on a busy machine takes minutes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What is to be done to a model.
#[derive(Subcommand, Debug)]
pub(crate) enum Change {
    /// Bring a model to what its folder says: new versions come up, changed ones are replaced, those that are gone leave
    Load(LoadFlags),
    /// Take a model out of service although its files are there; load brings it back
    Unload(UnloadFlags),
}

/// Flags of both.
#[derive(Args, Debug)]
pub(crate) struct ChangeFlags {
    /// The model's name
    model: String,
    /// This version alone
    #[arg(long = "version", value_name = "N")]
    number: Option<u64>,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `tenon models load`.
#[derive(Args, Debug)]
pub(crate) struct LoadFlags {
    #[command(flatten)]
    change: ChangeFlags,
}

/// Flags of `tenon models unload`.
#[derive(Args, Debug)]
pub(crate) struct UnloadFlags {
    #[command(flatten)]
    change: ChangeFlags,
    /// Even where functions are left without a model: they answer 503 until it is loaded again
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, change: &Change) -> Result<(), Stop> {
    let (flags, what, order) = match change {
        Change::Load(LoadFlags { change }) => (change, "load", json!({})),
        Change::Unload(UnloadFlags { change, force }) => (change, "unload", json!({ "force": force })),
    };
    let question = question(flags, what, order)?;
    let control = flags.control.open(host)?;
    let spinner = output::spinner(&format!("{what} {} at {}", flags.model, control.base()));
    let document = control.json(question);
    spinner.finish_and_clear();
    let document = document?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    let versions = output::list(&document, "models", control.base())?;
    if versions.is_empty() {
        return Ok(output::line(&format!("{} is gone: its folder is, too", flags.model))?);
    }
    for version in versions {
        output::line(&line(version))?;
    }
    models::errors(versions, models::name)
}

fn question(flags: &ChangeFlags, what: &str, mut order: Value) -> Result<Question, Failure> {
    let path = format!("/admin/v1/models/{}/{what}", flags.model);
    // Names of models need no encoding; what does need it is none.
    let plain = !flags.model.is_empty() && !flags.model.contains(['/', '?', '#', '%']);
    if !plain || path.parse::<Uri>().is_err() {
        let message = format!("`{}` is not the name of a model", flags.model);
        return Err(Failure::new(Exit::Usage, message).hint("`tenon models` lists what this host has"));
    }
    if let Some(number) = flags.number {
        order["version"] = number.into();
    }
    Ok(Question { timeout: CHANGE_TIMEOUT, ..post(&path, &order) })
}

/// `minilm@2 ready, serving, 4 lanes on cpu`.
fn line(version: &Value) -> String {
    let state = cell(version, "state");
    let style = output::state_style(&state);
    let mut rest = String::new();
    if version["serving"] == true {
        rest.push_str(", serving");
    }
    if state == "ready" {
        rest.push_str(&format!(", {} lanes on {}", cell(version, "instances"), cell(version, "device")));
    }
    let printable = crate::failure::printable;
    format!("{} {style}{}{style:#}{}", printable(&models::name(version)), printable(&state), printable(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_serves() {
        let ready =
            json!({ "name": "m", "version": 2, "state": "ready", "serving": true, "instances": 4, "device": "cpu" });
        let plain = |version: &Value| anstream::adapter::strip_str(&line(version)).to_string();
        assert_eq!(plain(&ready), "m@2 ready, serving, 4 lanes on cpu");
        assert_eq!(plain(&json!({ "name": "m", "version": 1, "state": "unloaded" })), "m@1 unloaded");
    }
}
