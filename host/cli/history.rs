//! `tenon history`: who changed what about a function, when, and why.
//!
//! It shows the host's log as it is, newest first.

use clap::Args;
use serde_json::Value;

use crate::client::Host;
use crate::control::ControlFlags;
use crate::failure::Stop;
use crate::output::{self, cell};
use crate::target::Name;
use crate::times::instant;

/// Events that a host gives at once.
const EVENTS_MAX: i64 = 1000;

/// Flags of `tenon history`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tenon history acme/intent --limit 10")]
pub(crate) struct HistoryFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// So many of the newest changes
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=EVENTS_MAX))]
    limit: u32,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &HistoryFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let document = control.get(&flags.name.path(&format!("/history?limit={}", flags.limit)))?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    let events = output::list(&document, "events", control.base())?;
    if events.is_empty() {
        return Ok(output::line(&format!("nothing has happened to {} yet", flags.name))?);
    }
    let rows: Vec<_> = events.iter().map(row).collect();
    Ok(output::line(&output::table(&["change", "when", "by", "what", "why"], &rows))?)
}

fn row(event: &Value) -> Vec<String> {
    let mut row = vec![cell(event, "n"), instant(&event["at_ms"])];
    row.extend(["by", "what", "why"].map(|name| cell(event, name)));
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_who_did_what_and_why() {
        let event = json!({ "n": 12, "at_ms": 1_784_980_803_123_u64, "by": "operator", "what": "revision 3 added" });
        assert_eq!(row(&event), ["12", "2026-07-25T12:00:03Z", "operator", "revision 3 added", "-"]);
    }
}
