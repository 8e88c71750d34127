//! `tenon drain`: a host takes nothing new, ends what it has begun, and stops.
//!
//! It gives the order; how long the rest may take is the host's to know.

use clap::Args;
use serde_json::json;

use crate::client::Host;
use crate::control::{ControlFlags, post};
use crate::failure::Stop;
use crate::output;

/// Flags of `tenon drain`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tenon drain --control 127.0.0.1:8081")]
pub(crate) struct DrainFlags {
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &DrainFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let document = control.json(post("/admin/v1/drain", &json!({})))?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    Ok(output::line(&format!("{} drains: it takes nothing new and ends what it has begun", control.base()))?)
}
