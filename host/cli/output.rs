//! Standard output: tables and colour for people, JSON for machines, bytes as they are.
//!
//! It knows nothing of what is written. Whether colour is shown is decided by anstream alone (terminal, NO_COLOR);
//! everything that came from a host loses its control characters before it reaches a table.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::failure::{Exit, Failure, Stop, printable};

const SPINNER_TICK: Duration = Duration::from_millis(100);
/// As much of a digest as tells two revisions apart; `--json` has the whole.
const DIGEST_CHARS: usize = 12;
/// Shown for what a host does not say.
pub(crate) const MISSING: &str = "-";

/// Rows of text under headings, columns aligned, without borders.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // Recorders and build services say 0 columns where they do not know: better long lines than one letter in each.
    if table.width() == Some(0) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
    // Every cell is padded by one on both sides; at the edges that is only noise.
    let lines: Vec<_> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Writes a line of text.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// The colour of a state, so that a table and a list speak alike.
pub(crate) fn state_style(state: &str) -> Style {
    match state {
        "ready" | "ok" => AnsiColor::Green.on_default(),
        "loading" | "warn" => AnsiColor::Yellow.on_default(),
        "failed" | "refused" | "fail" => AnsiColor::Red.on_default(),
        _ => Style::new(),
    }
}

/// Writes JSON: indented on a terminal, one line elsewhere.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    let text = if io::stdout().is_terminal() { format!("{value:#}") } else { value.to_string() };
    line(&text)
}

/// Writes bytes as they are; on a terminal the prompt still begins on a line of its own.
pub(crate) fn bytes(body: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(body)?;
    if out.is_terminal() && !body.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A remark for people on standard error; that nobody reads there does not concern it.
pub(crate) fn aside(text: &str) {
    let dim = Style::new().dimmed();
    let _ = writeln!(anstream::stderr().lock(), "{dim}{}{dim:#}", printable(text));
}

/// What has happened, on standard error, where somebody looks on.
pub(crate) fn notice(text: &str) {
    let cyan = AnsiColor::Cyan.on_default().bold();
    let _ = writeln!(anstream::stderr().lock(), "{cyan}tenon:{cyan:#} {}", printable(text));
}

/// What people must not miss, on standard error.
pub(crate) fn warning(text: &str) {
    let yellow = AnsiColor::Yellow.on_default().bold();
    let _ = writeln!(anstream::stderr().lock(), "{yellow}warning:{yellow:#} {}", printable(text));
}

/// Turns on a terminal while something takes its time; nothing elsewhere.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(SPINNER_TICK);
    spinner
}

/// The beginning of an object's digest.
pub(crate) fn digest(object: &Value) -> String {
    let digest = cell(object, "digest");
    digest.rsplit(':').next().unwrap_or_default().chars().take(DIGEST_CHARS).collect()
}

/// A size as people say it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A member of a JSON object as the text of a cell.
pub(crate) fn cell(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::Null => MISSING.to_owned(),
        Value::String(text) if text.is_empty() => MISSING.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The list under `name` in a host's answer, or a failure when the answer is not of that shape.
pub(crate) fn list<'a>(document: &'a Value, name: &str, base: &str) -> Result<&'a Vec<Value>, Stop> {
    document[name].as_array().ok_or_else(|| {
        let message = format!("the answer of {base} has no list `{name}`");
        Failure::new(Exit::Environment, message).hint("is this a Tenon of about this age? `tenon doctor` says").into()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_aligned_and_defused() {
        let rows = vec![vec!["minilm@1".into(), "ready".into()], vec!["x\u{1b}[2J".into(), MISSING.into()]];
        assert_eq!(table(&["model", "state"], &rows), "MODEL     STATE\nminilm@1  ready\nx\u{fffd}[2J     -");
    }

    #[test]
    fn cells_show_what_is_there() {
        let object = json!({ "version": 1, "name": "a", "empty": "", "none": null });
        let cells = ["version", "name", "empty", "none", "absent"].map(|name| cell(&object, name));
        assert_eq!(cells, ["1", "a", "-", "-", "-"]);
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        assert!(list(&json!({ "models": [] }), "models", "x").is_ok());
        assert!(list(&json!([1]), "models", "x").is_err());
    }
}
