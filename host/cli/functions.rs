//! `tenon functions`: what can be invoked, which revision serves, and why a function was refused.
//!
//! It shows what the host says; which revision gets traffic is decided there.

use serde_json::Value;

use crate::client::Host;
use crate::failure::Stop;
use crate::models::{ListFlags, errors, fetch};
use crate::output::{self, MISSING, cell};

const EMPTY: &str = "no functions. Start the host with `tenon serve --dev-functions DIR`, where\n\
    DIR/<tenant>/<function>/ holds function.toml and the component; `make demo` lays one out.";

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &ListFlags) -> Result<(), Stop> {
    let Some(document) = fetch(host, "/v1/functions", flags)? else { return Ok(()) };
    let functions = output::list(&document, "functions", host.base())?;
    if functions.is_empty() {
        return Ok(output::line(EMPTY)?);
    }
    let rows: Vec<_> = functions.iter().map(row).collect();
    output::line(&output::table(&["function", "revision", "state", "digest", "stages", "models"], &rows))?;
    errors(functions, name)
}

fn name(function: &Value) -> String {
    format!("{}/{}", cell(function, "tenant"), cell(function, "function"))
}

fn row(function: &Value) -> Vec<String> {
    let stages: Vec<_> = function["stages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let models = function["models"].as_object();
    let models: Vec<_> =
        models.into_iter().flatten().map(|(name, model)| format!("{name} = {}", plain(model))).collect();
    vec![
        name(function),
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
