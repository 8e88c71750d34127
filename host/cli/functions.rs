//! `tenon functions`: what can be invoked, which revision serves, and why a function was refused; with a name, that
//! function and its revisions.
//!
//! It shows what the host says; which revision gets traffic is decided there. The list is what a caller may see, one
//! function is looked at as its owner.

use clap::Args;
use serde_json::{Value, json};

use crate::client::Host;
use crate::control::ControlFlags;
use crate::failure::{Stop, printable};
use crate::models::{ListFlags, errors, fetch};
use crate::output::{self, MISSING, cell, state_style};
use crate::target::Name;
use crate::times::instant;
use crate::traffic::percent;

/// Flags of `tenon functions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tenon functions\n  tenon functions acme/intent")]
pub(crate) struct FunctionsFlags {
    /// <tenant>/<function>, to see its revisions
    #[arg(value_parser = Name::parse)]
    name: Option<Name>,
    #[command(flatten)]
    list: ListFlags,
    #[command(flatten)]
    control: ControlFlags,
}

const EMPTY: &str = "no function serves. Promote a revision with `tenon promote`, deploy one with `tenon deploy`, or start the host with `tenon serve --dev-functions DIR`,\n\
    where DIR/<tenant>/<function>/ holds function.toml and the component; `make demo` lays one out.";

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &FunctionsFlags) -> Result<(), Stop> {
    match &flags.name {
        Some(name) => one(host, name, flags),
        None => list(host, &flags.list),
    }
}

fn one(host: &Host, name: &Name, flags: &FunctionsFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let function = control.get(&name.path(""))?;
    let document = control.get(&name.path("/revisions"))?;
    if flags.list.json {
        return Ok(output::json(&json!({ "function": function, "revisions": document["revisions"] }))?);
    }
    let revisions = output::list(&document, "revisions", control.base())?;
    let state = cell(&function, "state");
    let style = state_style(&state);
    let error = function["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    output::line(&format!("{name} {style}{}{style:#}{}", printable(&state), printable(&error)))?;
    let total: f64 = revisions.iter().filter_map(|revision| revision["share"].as_f64()).sum();
    let rows: Vec<_> = revisions.iter().map(|revision| revision_row(revision, total)).collect();
    Ok(output::line(&output::table(&["revision", "traffic", "digest", "size", "added", "by", "note"], &rows))?)
}

fn revision_row(revision: &Value, total: f64) -> Vec<String> {
    let quarantined = revision["quarantined"].as_str().map(|why| format!("in quarantine: {why}"));
    vec![
        cell(revision, "number"),
        percent(revision["share"].as_f64(), total),
        output::digest(revision),
        revision["component_bytes"].as_u64().map_or_else(|| MISSING.to_owned(), output::size),
        instant(&revision["added_ms"]),
        cell(revision, "by"),
        or_missing(quarantined.unwrap_or_default()),
    ]
}

fn list(host: &Host, flags: &ListFlags) -> Result<(), Stop> {
    let Some(document) = fetch(host, "/v1/functions", flags)? else { return Ok(()) };
    let functions = output::list(&document, "functions", host.base())?;
    if functions.is_empty() {
        return Ok(output::line(EMPTY)?);
    }
    let rows: Vec<_> = functions.iter().map(row).collect();
    output::line(&output::table(&["function", "revision", "state", "digest", "stages", "models"], &rows))?;
    errors(functions, full_name)
}

fn full_name(function: &Value) -> String {
    format!("{}/{}", cell(function, "tenant"), cell(function, "function"))
}

fn row(function: &Value) -> Vec<String> {
    let stages: Vec<_> = function["stages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let models = function["models"].as_object();
    let models: Vec<_> =
        models.into_iter().flatten().map(|(name, model)| format!("{name} = {}", plain(model))).collect();
    vec![
        full_name(function),
        cell(function, "revision"),
        cell(function, "state"),
        output::digest(function),
        or_missing(stages.join(", ")),
        or_missing(models.join("\n")),
    ]
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn or_missing(text: String) -> String {
    if text.is_empty() { MISSING.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_shows_its_traffic_and_its_quarantine() {
        let revision = json!({ "number": 3, "digest": "0123456789abcdef", "component_bytes": 81920,
            "added_ms": 1_784_980_803_123_u64, "by": "ci", "share": 10, "quarantined": "trapped 5 times" });
        let expected =
            ["3", "10 %", "0123456789ab", "80.0 KiB", "2026-07-25T12:00:03Z", "ci", "in quarantine: trapped 5 times"];
        assert_eq!(revision_row(&revision, 100.0), expected);
        assert_eq!(revision_row(&json!({}), 0.0), ["-"; 7]);
    }

    #[test]
    fn a_row_shows_stages_and_bound_models() {
        let function = json!({
            "tenant": "demo", "function": "reranker", "revision": 2, "state": "ready",
            "digest": "blake3:0123456789abcdef", "stages": ["validate", "preprocess"],
            "models": { "encoder": "minilm@1" },
        });
        let expected = ["demo/reranker", "2", "ready", "0123456789ab", "validate, preprocess", "encoder = minilm@1"];
        assert_eq!(row(&function), expected);
        assert_eq!(row(&json!({ "tenant": "t" })), ["t/-", "-", "-", "-", "-", "-"]);
    }
}
