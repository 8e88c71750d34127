//! An explanation for people: the batches as a table, what they come to, what would run now, and the advice last, where
//! the eye is when the command ends.
//!
//! Everything is shown as the host says it; what a host does not say is left out or a dash.

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::failure::printable;
use crate::output::{self, MISSING, cell, state_style};

/// Batches to come that are shown one by one.
const COMING: usize = 5;
/// Advice that tells what is so and asks for nothing.
const NOTES: [&str; 6] = ["never-waits", "no-gain", "idle", "one-tenant", "few-batches", "no-batches"];

/// The whole page; `last` batches, each with its rows where they are wanted.
pub(super) fn lines(document: &Value, last: usize, rows: bool) -> Vec<String> {
    let mut lines = vec![title(document)];
    let batches: Vec<_> = list(&document["batches"]).iter().take(last).collect();
    if !batches.is_empty() {
        let header = ["ago", "rows", "requests", "tenants", "waiting", "closed by", "padding", "queue", "instance"];
        let header: Vec<_> = header.into_iter().chain(["predicted", "lane"]).collect();
        let table: Vec<_> = batches.iter().map(|batch| row(batch)).collect();
        lines.extend([String::new(), output::table(&header, &table)]);
    }
    if rows && !batches.is_empty() {
        let table: Vec<_> = batches.iter().flat_map(|batch| parts(batch)).collect();
        lines.extend([String::new(), output::table(&["batch", "rows of", "rows", "elements", "queue"], &table)]);
    }
    if !list(&document["batches"]).is_empty() {
        lines.extend([String::new(), figures(&document["figures"])]);
    }
    lines.push(String::new());
    now(&document["queue"], &mut lines);
    lines.push(String::new());
    list(&document["advice"]).iter().for_each(|advice| lines.extend(said(advice)));
    lines
}

fn title(document: &Value) -> String {
    let (bold, of) = (Style::new().bold(), &document["settings"]);
    let name = printable(&format!("{}@{}", cell(document, "model"), cell(document, "version")));
    let mut line = format!("{bold}{name}{bold:#} on {}: ", printable(&cell(document, "device")));
    line.push_str(&counted(of["lanes"].as_u64().unwrap_or(0), "lane"));
    line.push_str(&format!(", batches of at most {} rows", cell(of, "max_batch_size")));
    if !of["max_batch_elements"].is_null() {
        line.push_str(&format!(", {} elements", cell(of, "max_batch_elements")));
    }
    line.push_str(&format!(" and {}", time(&of["max_batch_ms"])));
    if of["max_queue_delay_ms"].as_f64().is_some_and(|delay| delay > 0.0) {
        line.push_str(&format!(" after at most {}", time(&of["max_queue_delay_ms"])));
    }
    line.push_str(&format!("; {} rows may wait, for {}", cell(of, "max_queue_size"), time(&of["queue_timeout_ms"])));
    line
}

fn row(batch: &Value) -> Vec<String> {
    let queues = || list(&batch["parts"]).iter().filter_map(|part| part["queue_ms"].as_f64());
    let (least, most) = queues().fold((f64::INFINITY, 0.0_f64), |(least, most), ms| (least.min(ms), most.max(ms)));
    let range = [least, most].map(|ms| time(&Value::from(ms)));
    let queue = if least.is_infinite() {
        MISSING.to_owned()
    } else if range[0] == range[1] {
        range[0].clone()
    } else {
        range.join(" - ")
    };
    // More than one run is a batch that threw.
    let runs = batch["runs"].as_u64().filter(|runs| *runs > 1).map(|runs| format!(" in {runs} runs"));
    vec![
        time(&batch["ago_ms"]),
        cell(batch, "rows"),
        cell(batch, "requests"),
        cell(batch, "tenants"),
        cell(batch, "waiting_rows"),
        cell(batch, "reason"),
        padding(batch),
        queue,
        time(&batch["instance_ms"]) + &runs.unwrap_or_default(),
        time(&batch["predicted_ms"]),
        cell(batch, "lane"),
    ]
}

/// The requests of a batch, the first one beside the batch's age.
fn parts(batch: &Value) -> Vec<Vec<String>> {
    let (parts, requests) = (list(&batch["parts"]), batch["requests"].as_u64().unwrap_or(0) as usize);
    let one = |(index, part): (usize, &Value)| {
        let ago = if index == 0 { time(&batch["ago_ms"]) } else { String::new() };
        let (shortest, longest) = (cell(part, "shortest"), cell(part, "longest"));
        let elements = if shortest == longest { shortest } else { format!("{shortest} - {longest}") };
        let whose = format!("{}/{}", cell(part, "tenant"), cell(part, "function"));
        vec![ago, whose, cell(part, "rows"), elements, time(&part["queue_ms"])]
    };
    let mut rows: Vec<_> = parts.iter().enumerate().map(one).collect();
    if requests > parts.len() {
        let more = format!("… and {}", counted((requests - parts.len()) as u64, "more request"));
        rows.push(vec![String::new(), more, String::new(), String::new(), String::new()]);
    }
    rows
}

fn figures(figures: &Value) -> String {
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let reasons = figures["reasons"].as_object();
    let reasons: Vec<_> =
        reasons.into_iter().flatten().map(|(name, share)| format!("{name} {}", percent(share))).collect();
    let batches = counted(figures["batches"].as_u64().unwrap_or(0), "batch");
    let mut text = format!(
        "{batches} in {}: {:.1} rows each, {} at most; closed by {}; padding {}\nrows waited {} (p50), {} (p95); a batch \
         took {}",
        time(&figures["window_ms"]),
        number("rows_mean"),
        cell(figures, "rows_most"),
        printable(&reasons.join(", ")),
        percent(&figures["padding_share"]),
        time(&figures["queue_p50_ms"]),
        time(&figures["queue_p95_ms"]),
        time(&figures["instance_mean_ms"])
    );
    if number("predicted_mean_ms") > 0.0 {
        text.push_str(&format!(", the profile says {}", time(&figures["predicted_mean_ms"])));
    }
    text.push_str(&format!("; lanes were busy {}", percent(&figures["busy_share"])));
    if let Some(cost) = figures["further_row_cost"].as_f64() {
        text.push_str(&format!("; a further row costs {cost:.2} of a first one"));
    }
    text
}

fn now(queue: &Value, lines: &mut Vec<String>) {
    let rows = queue["rows"].as_u64().unwrap_or(0);
    if rows == 0 {
        return lines.push("now: no row waits".into());
    }
    let batches = queue["batches"].as_u64().unwrap_or(0);
    let wait = if rows == 1 { "waits" } else { "wait" };
    lines.push(format!("now: {} {wait} and would run in {}:", counted(rows, "row"), counted(batches, "batch")));
    let next = list(&queue["next"]);
    for batch in next.iter().take(COMING) {
        let rows = counted(batch["rows"].as_u64().unwrap_or(0), "row");
        let requests = counted(batch["requests"].as_u64().unwrap_or(0), "request");
        let reason = printable(&cell(batch, "reason"));
        let mut line = format!("  {rows} of {requests}, closed by {reason}, padding {}", padding(batch));
        if !batch["predicted_ms"].is_null() {
            line.push_str(&format!(", some {}", time(&batch["predicted_ms"])));
        }
        if batch["wait_ms"].as_f64().is_some_and(|wait| wait > 0.0) {
            line.push_str(&format!(", after {} for company", time(&batch["wait_ms"])));
        }
        lines.push(line);
    }
    if batches > next.len().min(COMING) as u64 {
        lines.push(format!("  … and {} more", batches - next.len().min(COMING) as u64));
    }
}

/// What is so, and below it what to do.
fn said(advice: &Value) -> [String; 2] {
    let code = advice["code"].as_str().unwrap_or_default();
    let style = match code {
        "fine" => state_style("ok"),
        note if NOTES.contains(&note) => AnsiColor::Cyan.on_default(),
        _ => state_style("warn"),
    };
    let (says, next) = (printable(&cell(advice, "says")), printable(&cell(advice, "next")));
    [format!("{style}*{style:#} {says}"), format!("  {next}")]
}

fn padding(batch: &Value) -> String {
    match (batch["elements"].as_f64(), batch["padded_elements"].as_f64()) {
        (Some(real), Some(padded)) if padded > 0.0 => percent(&Value::from((1.0 - real / padded).max(0.0))),
        _ => MISSING.to_owned(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn counted(count: u64, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "batch") => format!("{count} batches"),
        _ => format!("{count} {what}s"),
    }
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or_else(|| MISSING.to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// Milliseconds in the unit that people would use.
fn time(ms: &Value) -> String {
    match ms.as_f64() {
        None => MISSING.to_owned(),
        Some(ms) if ms >= 120_000.0 => format!("{:.0} min", ms / 60_000.0),
        Some(ms) if ms >= 10_000.0 => format!("{:.0} s", ms / 1000.0),
        Some(ms) if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) if ms >= 10.0 || ms == 0.0 => format!("{ms:.0} ms"),
        Some(ms) if ms >= 1.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{:.0} µs", ms * 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Value {
        json!({ "max_batch_size": 8, "max_batch_elements": 4096, "max_batch_ms": 250.0, "max_queue_delay_ms": 0.0,
            "max_queue_size": 16, "queue_timeout_ms": 2000.0, "lanes": 1 })
    }

    fn plain(document: &Value, rows: bool) -> String {
        anstream::adapter::strip_str(&lines(document, 12, rows).join("\n")).to_string()
    }

    #[test]
    fn a_page_reads_from_batches_to_advice() {
        let part = |queue: f64| {
            json!({ "tenant": "t", "function": "f", "rows": 1, "queue_ms": queue, "shortest": 4,
            "longest": 9 })
        };
        let batch = json!({ "ago_ms": 1500.0, "rows": 3, "requests": 3, "tenants": 1, "waiting_rows": 9,
            "reason": "time", "elements": 30, "padded_elements": 40, "instance_ms": 78.4, "predicted_ms": 60.0,
            "runs": 3, "lane": 0, "parts": [part(0.02), part(12.0)] });
        let document = json!({ "model": "m\u{1b}[2J", "version": 1, "device": "cpu", "settings": settings(),
            "batches": [batch],
            "figures": { "batches": 1, "window_ms": 78.4, "rows_mean": 3.0, "rows_most": 3, "reasons": { "time": 1.0 },
                "padding_share": 0.25, "queue_p50_ms": 0.02, "queue_p95_ms": 12.0, "instance_mean_ms": 78.4,
                "predicted_mean_ms": 60.0, "further_row_cost": 0.4, "busy_share": 1.0 },
            "queue": { "rows": 9, "batches": 7, "next": [{ "rows": 1, "requests": 1, "reason": "full", "elements": 1,
                "padded_elements": 1, "predicted_ms": null, "wait_ms": 3.0 }] },
            "advice": [{ "code": "padding", "says": "So it is.", "next": "Do this." }] });
        let expected = "\
m\u{fffd}[2J@1 on cpu: 1 lane, batches of at most 8 rows, 4096 elements and 250 ms; 16 rows may wait, for 2.0 s

AGO    ROWS  REQUESTS  TENANTS  WAITING  CLOSED BY  PADDING  QUEUE          INSTANCE         PREDICTED  LANE
1.5 s  3     3         1        9        time       25 %     20 µs - 12 ms  78 ms in 3 runs  60 ms      0

BATCH  ROWS OF               ROWS  ELEMENTS  QUEUE
1.5 s  t/f                   1     4 - 9     20 µs
       t/f                   1     4 - 9     12 ms
       … and 1 more request

1 batch in 78 ms: 3.0 rows each, 3 at most; closed by time 100 %; padding 25 %
rows waited 20 µs (p50), 12 ms (p95); a batch took 78 ms, the profile says 60 ms; lanes were busy 100 %; a \
further row costs 0.40 of a first one

now: 9 rows wait and would run in 7 batches:
  1 row of 1 request, closed by full, padding 0 %, after 3.0 ms for company
  … and 6 more

* So it is.
  Do this.";
        assert_eq!(plain(&document, true), expected);
    }

    #[test]
    fn a_model_that_ran_nothing_and_a_host_that_says_nothing_are_shown_all_the_same() {
        let document = json!({ "model": "m", "version": 2, "device": "cpu", "settings": settings(), "batches": [],
            "figures": { "batches": 0 }, "queue": { "rows": 0, "batches": 0, "next": [] },
            "advice": [{ "code": "no-batches", "says": "No batch.", "next": "Invoke." }] });
        let text = plain(&document, true);
        assert!(text.ends_with("\n\nnow: no row waits\n\n* No batch.\n  Invoke.") && !text.contains("NaN"), "{text}");
        assert!(plain(&json!(null), true).starts_with("-@- on -: 0 lanes"));
    }
}
