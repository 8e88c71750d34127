//! `tenon deploy`: sends a plugin with its `function.toml`, follows what the host does with it, and says what is next.
//!
//! What can be told here is told before anything is sent; what the host decides is shown in its words. `follow` watches
//! a deployment; a revision that is ready serves nobody until it is promoted, unless that was asked for at once.

mod follow;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use ureq::http::{Method, header};

use crate::client::{Host, Question};
use crate::control::ControlFlags;
use crate::failure::{Exit, Failure, Stop, printable};
use crate::inspect::{self, Plugin};
use crate::multipart::{self, Part};
use crate::output::{self, cell};
use crate::problem::refusal_of;
use crate::target::{Name, encode_value};
use crate::times;

/// Sending 64 MiB over a slow line takes minutes.
const SEND_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Flags of `tenon deploy`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tenon deploy acme/intent target/wasm32-wasip2/release/intent.wasm -f function.toml \
    --why 'shorter answers'"
)]
pub(crate) struct DeployFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// The component
    #[arg(value_name = "PLUGIN.wasm")]
    component: PathBuf,
    /// What belongs to the function beside its code
    #[arg(long, short = 'f', value_name = "FILE", default_value = "function.toml")]
    function: PathBuf,
    /// Give it all traffic as soon as it is ready
    #[arg(long)]
    promote: bool,
    /// A sentence for the function's history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// The component's BLAKE3 in hex, as it was built: the host refuses other bytes
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// Do not wait until it is ready
    #[arg(long)]
    no_wait: bool,
    /// Wait this long at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = times::parse, conflicts_with = "no_wait")]
    timeout: Duration,
    /// Leave all judgement to the host
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the deployment as the host's JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &DeployFlags) -> Result<(), Stop> {
    let plugin = inspect::plugin(&flags.component, &flags.function, !flags.no_check)?;
    let question = question(flags, plugin)?;
    let control = flags.control.open_with_key(host)?;
    let mut shown = follow::Shown::new(&flags.name, flags.json);
    shown.say("sending");
    let mut deployment = control.json(question)?;
    if !flags.no_wait {
        deployment = follow::to_its_end(&control, &flags.name, deployment, flags.timeout, &mut shown)?;
    }
    drop(shown);
    if flags.json {
        output::json(&deployment)?;
        return match deployment["state"].as_str() {
            Some("refused") => Err(Stop::Said(refusal(&deployment).exit)),
            _ => Ok(()),
        };
    }
    told(&flags.name, &deployment, flags.promote)
}

fn question(flags: &DeployFlags, plugin: Plugin) -> Result<Question, Failure> {
    let file = flags.component.file_name().unwrap_or_default().to_string_lossy();
    let mut parts = vec![
        Part::file("manifest", "function.toml", "application/toml", plugin.manifest),
        Part::file("component", &file, "application/wasm", plugin.component),
    ];
    parts.extend(flags.digest.iter().map(|digest| Part::field("digest", digest.trim())));
    let (body, kind) = multipart::encode(&parts)?;
    let mut query = Vec::new();
    query.extend(flags.promote.then(|| "promote=true".to_owned()));
    query.extend(flags.why.iter().map(|why| format!("why={}", encode_value(why))));
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    Ok(Question {
        method: Method::POST,
        headers: vec![(header::CONTENT_TYPE, kind)],
        body,
        timeout: SEND_TIMEOUT,
        ..Question::get(&flags.name.path(&format!("/revisions{query}")))
    })
}

fn refusal(deployment: &Value) -> Failure {
    let error = &deployment["error"];
    let mut failure = refusal_of(&cell(error, "code"), error["detail"].as_str().unwrap_or_default());
    if let Some(id) = deployment["id"].as_str() {
        failure.notes.push(format!("deployment {id}"));
    }
    failure
}

/// How it ended, and what can be done now.
fn told(name: &Name, deployment: &Value, promote: bool) -> Result<(), Stop> {
    let revision = cell(deployment, "revision");
    match deployment["state"].as_str() {
        Some("refused") => {
            let mut failure = refusal(deployment);
            failure.message = format!("{name} was refused: {}", failure.message);
            Err(failure.into())
        }
        Some("ready") => {
            output::line(&printable(&format!("{name} revision {revision} is ready{}", aside(deployment))))?;
            if deployment["error"].is_object() {
                return Err(refusal(deployment).into());
            }
            let next = match (deployment["promoted"] == true, promote) {
                (true, _) => {
                    format!("it has all traffic: try `tenon invoke {name}`, go back with `tenon rollback {name}`")
                }
                // The same content as an older revision, or another change came in between.
                (false, true) => format!("it was not promoted: `tenon promote {name} {revision}`"),
                (false, false) => format!(
                    "it has no traffic yet: `tenon promote {name} {revision}`, or a share with `tenon traffic {name} --set`"
                ),
            };
            Ok(output::line(&printable(&next))?)
        }
        _ => {
            let (state, id) = (cell(deployment, "state"), cell(deployment, "id"));
            output::line(&printable(&format!("{name} deployment {id} is {state}")))?;
            Ok(output::line(&format!("`tenon functions {name}` shows the revision when it is ready"))?)
        }
    }
}

fn aside(deployment: &Value) -> String {
    let digest: String = output::digest(deployment);
    let took = deployment["took_ms"].as_f64().map(|ms| format!(", {:.1} s", ms / 1000.0)).unwrap_or_default();
    format!(" (digest {digest}{took})")
}

/// What did not come to an end in time.
fn unfinished(name: &Name, deployment: &Value, timeout: Duration) -> Failure {
    let (state, id) = (cell(deployment, "state"), cell(deployment, "id"));
    let waited = humantime::format_duration(timeout);
    Failure::new(Exit::Capacity, format!("{name} deployment {id} is still {state} after {waited}"))
        .hint(format!("the host goes on: `tenon functions {name}` shows the revision when it is ready"))
}
