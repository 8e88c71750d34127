//! `tenon logs`: what a function's plugin said, and where it trapped, as it happens.
//!
//! Lines come one by one from a host and are shown one by one; every one is bounded, and a host that falls silent is
//! told from a function that has nothing to say, because a host sends an empty line now and then.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::Value;

use crate::client::{Host, Question};
use crate::control::ControlFlags;
use crate::failure::{Exit, Failure, Stop, printable};
use crate::output::{self, MISSING, cell};
use crate::target::Name;
use crate::times::instant_ms;

/// Lines of the past that can be asked for.
const TAIL_MAX: i64 = 10_000;
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// A host that follows sends something every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// As much of an invocation's id as tells its lines apart; `--json` has the whole.
const INVOCATION_CHARS: usize = 13;

/// Flags of `tenon logs`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tenon logs acme/intent -f\n  tenon logs acme/intent --tail 1000 --json | jq .text"
)]
pub(crate) struct LogsFlags {
    /// <tenant>/<function>
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// So many of the newest lines first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=TAIL_MAX))]
    tail: u32,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's lines as they are, one JSON object each
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &LogsFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let path = flags.name.path(&format!("/logs?follow={}&tail={}", flags.follow, flags.tail));
    let mut lines = control.stream(Question { timeout: SILENCE_MAX, ..Question::get(&path) })?;
    let broken = |error: io::Error| {
        Failure::new(Exit::Environment, format!("the log of {} ends here: {error}", flags.name))
            .hint("the host has gone, or the way to it: ask again")
    };
    let mut end = None;
    while let Some(line) = next(&mut lines).map_err(broken)? {
        show(line.trim(), flags.json)?;
        end = ended(line.trim()).or(end);
    }
    match end.as_deref() {
        // The key has ended, or may not read it any more: whoever follows would otherwise take silence for peace.
        Some("forbidden") => {
            Err(Failure::new(Exit::Request, format!("the log of {} ends here for this key", flags.name))
                .hint("give one that is valid and may `deploy`: `tenon keys` makes one")
                .into())
        }
        None if flags.follow => Err(broken(io::Error::other("it was cut off")).into()),
        // All was said that there was to say: a host that goes away, or a function that does, is no failure of the log's.
        _ => Ok(()),
    }
}

/// Why the host says that nothing more will come, where this line says so.
fn ended(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["kind"] == "end").then(|| cell(&entry, "code"))
}

fn next(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
    }
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}

fn show(line: &str, json: bool) -> Result<(), Stop> {
    match serde_json::from_str::<Value>(line) {
        _ if line.is_empty() => Ok(()),
        _ if json => Ok(output::line(&printable(line))?),
        Ok(entry) => Ok(output::line(&text(&entry))?),
        // Not as agreed, and still somebody's words.
        Err(_) => Ok(output::line(&printable(line))?),
    }
}

/// `2026-07-25T12:00:03.123Z error r3 01a1fa42-e04c the text`, and below it what belongs to it.
fn text(entry: &Value) -> String {
    let level = if entry["kind"] == "trap" { "trap".to_owned() } else { cell(entry, "level") };
    let style = style(&level);
    let dim = Style::new().dimmed();
    let revision = entry["revision"].as_u64().map_or_else(|| MISSING.to_owned(), |revision| format!("r{revision}"));
    let invocation: String = cell(entry, "invocation").chars().take(INVOCATION_CHARS).collect();
    let head = format!("{} {style}{:5}{style:#}", instant_ms(&entry["at_ms"]), printable(&level));
    let said = printable(entry["text"].as_str().unwrap_or_default());
    let mut said = said.trim_end().lines();
    let first = said.next().unwrap_or_default();
    let mut shown = format!("{head} {dim}{revision} {}{dim:#} {first}", printable(&invocation));
    let backtrace = backtrace(&entry["backtrace"]);
    for line in said.map(str::to_owned).chain(backtrace.lines().map(printable)) {
        shown.push_str(&format!("\n    {line}"));
    }
    shown
}

/// Text, or a list of frames.
fn backtrace(value: &Value) -> String {
    match value {
        Value::Array(frames) => frames
            .iter()
            .map(|frame| frame.as_str().map_or_else(|| frame.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join("\n"),
        value => value.as_str().unwrap_or_default().to_owned(),
    }
}

fn style(level: &str) -> Style {
    match level {
        "error" | "critical" | "trap" => AnsiColor::Red.on_default(),
        "warn" => AnsiColor::Yellow.on_default(),
        "debug" | "trace" => Style::new().dimmed(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trap_has_its_backtrace_below() {
        let entry = json!({ "at_ms": 1_784_980_803_123_u64, "level": "error", "kind": "trap", "revision": 3,
            "invocation": "01a1fa42-e04c-7770-91dd-6d236b7d2401", "text": "unreachable\u{1b}[2J", "backtrace": "0: a\n1: b" });
        let shown = anstream::adapter::strip_str(&text(&entry)).to_string();
        let expected = "2026-07-25T12:00:03.123Z trap  r3 01a1fa42-e04c unreachable\u{fffd}[2J\n    0: a\n    1: b";
        assert_eq!(shown, expected);
        let bare = anstream::adapter::strip_str(&text(&json!({ "level": "info", "text": "a\nb\n" }))).to_string();
        assert_eq!(bare, "- info  - - a\n    b");
        assert_eq!(backtrace(&json!(["a", "b"])), "a\nb");
    }

    #[test]
    fn an_end_says_why() {
        assert_eq!(ended(r#"{"kind":"end","code":"draining"}"#).as_deref(), Some("draining"));
        for other in ["", "x", r#"{"kind":"log","code":"draining"}"#, r#"{"text":"end"}"#] {
            assert_eq!(ended(other), None, "{other}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let long = vec![b'x'; LINE_BYTES_MAX as usize + 1];
        assert!(next(&mut &long[..]).is_err());
        let mut lines = &b"a\n\nb"[..];
        let read: Vec<_> = std::iter::from_fn(|| next(&mut lines).unwrap()).collect();
        assert_eq!(read, ["a\n", "\n", "b"]);
    }
}
