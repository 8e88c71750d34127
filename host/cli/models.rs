//! `tenon models`: what the host has loaded, what it takes and gives, and why something does not serve.
//!
//! It shows what the host says and computes nothing, so it stays right when the host grows new fields.

use clap::Args;
use serde_json::Value;
use ureq::http::header;

use crate::client::{Host, Question};
use crate::failure::Stop;
use crate::key;
use crate::loading::{self, Change};
use crate::output::{self, MISSING, cell};
use crate::problem::failure_of;

/// Flags of the lists.
#[derive(Args, Debug)]
pub(crate) struct ListFlags {
    /// Print the host's JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `tenon models`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelsFlags {
    #[command(flatten)]
    list: ListFlags,
    #[command(subcommand)]
    change: Option<Change>,
}

const EMPTY: &str = "no models. A model is a folder models/<name>/ with model.toml and <version>/model.pt;\n\
    `make demo` lays one out, and `tenon doctor` says what is wrong with those that are there.";

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &ModelsFlags) -> Result<(), Stop> {
    match &flags.change {
        Some(change) => loading::run(host, change),
        None => list(host, &flags.list),
    }
}

fn list(host: &Host, flags: &ListFlags) -> Result<(), Stop> {
    let Some(document) = fetch(host, "/v1/models", flags)? else { return Ok(()) };
    let models = output::list(&document, "models", host.base())?;
    if models.is_empty() {
        return Ok(output::line(EMPTY)?);
    }
    let rows: Vec<_> = models.iter().map(row).collect();
    let header = ["model", "state", "platform", "device", "instances", "max batch", "queue", "inputs", "outputs"];
    output::line(&output::table(&header, &rows))?;
    errors(models, name)
}

/// `minilm@1`.
pub(crate) fn name(model: &Value) -> String {
    format!("{}@{}", cell(model, "name"), cell(model, "version"))
}

/// Fetches a list of the data plane; `None` when `--json` has already shown it.
pub(crate) fn fetch(host: &Host, path: &str, flags: &ListFlags) -> Result<Option<Value>, Stop> {
    let mut question = Question::get(path);
    if let Some(key) = key::given()? {
        question.headers.push((header::AUTHORIZATION, key::bearer(&key)?));
    }
    let answer = host.ask(question)?;
    if !answer.status.is_success() {
        return Err(failure_of(&answer).into());
    }
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    if !flags.json {
        return Ok(Some(document));
    }
    match document {
        // Not JSON after all: the caller's own parser says it better than we do.
        Value::Null => output::bytes(&answer.body)?,
        document => output::json(&document)?,
    }
    Ok(None)
}

/// Below a table: what the host says of each entry that does not serve.
pub(crate) fn errors(entries: &[Value], name: impl Fn(&Value) -> String) -> Result<(), Stop> {
    for entry in entries {
        if let Some(error) = entry["error"].as_str() {
            let state = cell(entry, "state");
            let style = output::state_style(&state);
            let text = crate::failure::printable(&format!("{} {state}", name(entry)));
            output::line(&format!("{style}{text}{style:#}: {}", crate::failure::printable(error)))?;
        }
    }
    Ok(())
}

fn row(model: &Value) -> Vec<String> {
    let mut row = vec![name(model)];
    row.extend(["state", "platform", "device", "instances", "max_batch_size", "queue_rows"].map(|n| cell(model, n)));
    row.extend(["inputs", "outputs"].map(|n| tensors(&model[n])));
    row
}

/// `input_ids INT64[rows, seq]`, one to a line.
fn tensors(list: &Value) -> String {
    let Some(list) = list.as_array().filter(|list| !list.is_empty()) else { return MISSING.to_owned() };
    let lines: Vec<_> = list
        .iter()
        .map(|tensor| {
            let shape: Vec<_> = tensor["shape"].as_array().into_iter().flatten().map(dimension).collect();
            format!("{} {}[{}]", cell(tensor, "name"), cell(tensor, "datatype"), shape.join(", "))
        })
        .collect();
    lines.join("\n")
}

fn dimension(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_shows_shapes_and_what_is_missing() {
        let model = json!({
            "name": "minilm", "version": 1, "state": "ready", "max_batch_size": 32, "colour": "new field",
            "inputs": [
                { "name": "input_ids", "datatype": "INT64", "shape": ["rows", "seq"] },
                { "name": "scale", "datatype": "FP32", "shape": ["rows", 1] },
            ],
        });
        let expected =
            ["minilm@1", "ready", "-", "-", "-", "32", "-", "input_ids INT64[rows, seq]\nscale FP32[rows, 1]", "-"];
        assert_eq!(row(&model), expected);
        assert_eq!(row(&json!(null))[0], "-@-");
    }
}
