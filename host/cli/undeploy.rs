//! `tenon undeploy`: a function is there no more, for callers who know it and for those who deploy.
//!
//! Its history stays with the host; what is in flight ends as it began.

use clap::Args;
use serde_json::json;

use crate::client::Host;
use crate::control::{ControlFlags, delete};
use crate::failure::Stop;
use crate::output;
use crate::target::Name;

/// Flags of `tenon undeploy`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tenon undeploy acme/intent")]
pub(crate) struct UndeployFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    #[command(flatten)]
    control: ControlFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &UndeployFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    control.ask(delete(&flags.name.path("")))?;
    if flags.json {
        return Ok(output::json(&json!({ "function": flags.name.to_string(), "removed": true }))?);
    }
    Ok(output::line(&format!("{} is gone, with all its revisions", flags.name))?)
}
