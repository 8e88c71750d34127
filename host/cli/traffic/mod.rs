//! `tenon promote`, `tenon rollback` and `tenon traffic`: which revisions of a function get which share of its requests.
//!
//! The host decides and remembers; here is what people write (`latest`, `2=90,3=10`) read into what the host takes.
//! `applied` waits until every host follows.

mod applied;
mod shares;

use clap::Args;
use serde_json::{Value, json};

use crate::client::Host;
use crate::control::{Control, ControlFlags, post, put};
use crate::failure::{Exit, Failure, Stop, printable};
use crate::output;
use crate::target::Name;
use applied::WaitFlags;
pub(crate) use shares::percent;
use shares::{Revision, Shares, Sticky};

/// Of the only revision, where every number would do.
const WHOLE: u64 = 100;

/// What every change has in common.
#[derive(Args, Debug)]
struct ChangeFlags {
    /// A sentence for the function's history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `tenon promote`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tenon promote acme/intent\n  tenon promote acme/intent 3 --wait --why 'canary was fine'"
)]
pub(crate) struct PromoteFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// The revision's number
    #[arg(default_value = "latest", value_parser = Revision::parse)]
    revision: Revision,
    /// Even one that was put in quarantine
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Flags of `tenon rollback`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tenon rollback acme/intent --wait --why 'too many 502'")]
pub(crate) struct RollbackFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Flags of `tenon traffic`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tenon traffic acme/intent\n  tenon traffic acme/intent --set 2=90,latest=10 \
    --sticky header:x-user")]
pub(crate) struct TrafficFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// Revisions and their weights; what is not named gets nothing
    #[arg(long, value_name = "REVISION=WEIGHT,…", value_parser = Shares::parse)]
    set: Option<Shares>,
    /// What always meets the same revision: nothing (none), the same request (request: method, path and query), a
    /// caller's key (key), or a header's value (header:NAME)
    #[arg(long, value_name = "BY", value_parser = Sticky::parse)]
    sticky: Option<Sticky>,
    /// Even revisions that were put in quarantine
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Runs `tenon promote`.
pub(crate) fn promote(host: &Host, flags: &PromoteFlags) -> Result<(), Stop> {
    let control = flags.change.control.open_with_key(host)?;
    let shares = Shares::of(flags.revision, WHOLE);
    let mut order = json!({ "shares": shares.resolved(&control, &flags.name)? });
    if flags.force {
        order["force"] = true.into();
    }
    changed(&control, &flags.name, put(&flags.name.path("/traffic"), &flags.change.with_why(order)), &flags.change)
}

/// Runs `tenon rollback`.
pub(crate) fn rollback(host: &Host, flags: &RollbackFlags) -> Result<(), Stop> {
    let control = flags.change.control.open_with_key(host)?;
    let order = flags.change.with_why(json!({}));
    changed(&control, &flags.name, post(&flags.name.path("/rollback"), &order), &flags.change)
}

/// Runs `tenon traffic`.
pub(crate) fn run(host: &Host, flags: &TrafficFlags) -> Result<(), Stop> {
    let control = flags.change.control.open_with_key(host)?;
    let path = flags.name.path("/traffic");
    let now = control.get(&path)?;
    if flags.set.is_none() && flags.sticky.is_none() {
        return show(&flags.name, &now, flags.change.json);
    }
    let split = &now["split"];
    let shares = match &flags.set {
        Some(shares) => shares.resolved(&control, &flags.name)?,
        None if split["shares"].is_array() => split["shares"].clone(),
        None => return Err(none_yet(&flags.name).into()),
    };
    let mut order = json!({ "shares": shares });
    // A change of weights leaves everybody where the old rule put them, as far as it can.
    match (&flags.sticky, &split["sticky"]) {
        (Some(sticky), _) => order["sticky"] = sticky.as_json(),
        (None, Value::Null) => {}
        (None, sticky) => order["sticky"] = sticky.clone(),
    }
    if flags.force {
        order["force"] = true.into();
    }
    changed(&control, &flags.name, put(&path, &flags.change.with_why(order)), &flags.change)
}

fn none_yet(name: &Name) -> Failure {
    Failure::new(Exit::Usage, format!("{name} has no traffic whose rule could change"))
        .hint(format!("say which revisions get it with --set, or `tenon promote {name}`"))
}

/// Orders, shows what is in force then, and waits where that was asked for.
fn changed(control: &Control, name: &Name, question: crate::client::Question, flags: &ChangeFlags) -> Result<(), Stop> {
    let mut answer = control.json(question)?;
    if !flags.json {
        show(name, &answer, false)?;
    }
    if !flags.wait.wait {
        return if flags.json { Ok(output::json(&answer)?) } else { Ok(()) };
    }
    let waited = applied::everywhere(control, name, answer["n"].as_u64(), &flags.wait, flags.json)?;
    if flags.json {
        answer["hosts"] = waited.hosts;
        output::json(&answer)?;
    } else {
        output::line(&waited.table)?;
    }
    waited.failure.map_or(Ok(()), |failure| Err(failure.into()))
}

impl ChangeFlags {
    fn with_why(&self, mut order: Value) -> Value {
        if let Some(why) = &self.why {
            order["why"] = why.as_str().into();
        }
        order
    }
}

fn show(name: &Name, answer: &Value, json: bool) -> Result<(), Stop> {
    if json {
        return Ok(output::json(answer)?);
    }
    let line = match answer["split"]["shares"].as_array() {
        Some(shares) if !shares.is_empty() => format!("{name}: {}", shares::text(&answer["split"])),
        _ => format!("{name} has no traffic: `tenon promote {name}` gives it to the latest revision"),
    };
    Ok(output::line(&printable(&line))?)
}
