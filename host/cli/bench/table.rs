//! Results for people: a line for each cell, and below it what went wrong there.
//!
//! It shows saved figures and adds none.

use super::saved::{Latency, Saved, SavedCell, SavedTarget};
use crate::output::{self, MISSING};

/// A generator that begins this much later than its schedule, at p99, is worth a word.
const LAG_MS_MAX: f64 = 5.0;

/// What was sent, in a few words after a comma.
pub(super) fn bodies(target: &SavedTarget) -> String {
    match (target.bodies, target.body_bytes) {
        (_, 0) => String::new(),
        (1, bytes) => format!(", a body of {bytes} bytes"),
        (bodies, bytes) => format!(", {bodies} bodies of {bytes} bytes in all"),
    }
}

/// Everything that is printed after a run.
pub(super) fn lines(saved: &Saved) -> Vec<String> {
    let target = &saved.target;
    let body = bodies(target);
    let mut lines = vec![
        format!("{} {} (HTTP/{}{body}), latencies in ms", target.method, target.url, target.http),
        String::new(),
        table(saved),
    ];
    let remarks: Vec<_> = saved.cells.iter().flat_map(remarks).collect();
    if !remarks.is_empty() {
        lines.push(String::new());
        lines.extend(remarks);
    }
    if saved.interrupted {
        lines.push("interrupted: these are the figures up to then".to_owned());
    }
    lines
}

fn table(saved: &Saved) -> String {
    let open = saved.settings.kind == "open";
    let first = if open { "rate" } else { "clients" };
    let header = [first, "requests/s", "p50", "p90", "p95", "p99", "p99.9", "max", "requests", "errors"];
    let rows: Vec<_> = saved.cells.iter().map(row).collect();
    output::table(&header, &rows)
}

fn row(cell: &SavedCell) -> Vec<String> {
    let load = cell.clients.map_or_else(|| cell.rate.unwrap_or_default().to_string(), |clients| clients.to_string());
    let mut row = vec![load, figure(cell.requests_per_second)];
    let latency = cell.latency_ms.as_ref();
    let show = |of: fn(&Latency) -> f64| latency.map_or(MISSING.to_owned(), |latency| figure(of(latency)));
    row.extend([show(|l| l.p50), show(|l| l.p90), show(|l| l.p95), show(|l| l.p99), show(|l| l.p999), show(|l| l.max)]);
    row.extend([cell.requests.to_string(), errors(cell)]);
    row
}

fn errors(cell: &SavedCell) -> String {
    if cell.errors == 0 {
        return "0".to_owned();
    }
    format!("{} ({:.1} %)", cell.errors, cell.errors as f64 * 100.0 / cell.requests as f64)
}

/// What a figure cannot say.
fn remarks(cell: &SavedCell) -> Vec<String> {
    let name = cell.name();
    let mut remarks = Vec::new();
    let mut parts: Vec<_> = cell.statuses.iter().filter(|(status, _)| **status >= 400).map(part).collect();
    parts.extend(cell.missed.iter().map(part));
    if !parts.is_empty() {
        let codes: Vec<_> = cell.codes.iter().map(part).collect();
        let codes = if codes.is_empty() { String::new() } else { format!("; codes: {}", codes.join(", ")) };
        remarks.push(format!("{name}: errors: {}{codes}", parts.join(", ")));
    }
    if let Some(held) = cell.held_back.filter(|held| *held > 0) {
        remarks
            .push(format!("{name}: {held} requests waited for a free connection (--max-in-flight); their wait counts"));
    }
    if let Some(lag) = cell.lag_ms.as_ref().filter(|lag| lag.p99 > LAG_MS_MAX) {
        let (p50, p99) = (figure(lag.p50), figure(lag.p99));
        remarks.push(format!(
            "{name}: this program itself began late, by {p50} ms (p50), {p99} ms (p99): the machine is busy"
        ));
    }
    remarks
}

fn part((name, count): (&impl ToString, &u64)) -> String {
    format!("{} ×{count}", name.to_string())
}

/// Three digits that matter, as a person reads them.
pub(super) fn figure(value: f64) -> String {
    let digits = match value {
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
