//! Where an answer's time went, read from the headers `server-timing` and `x-process-time`.
//!
//! Reading only: what cannot be read is left out, because a header that a proxy has changed must not spoil an
//! answer that is otherwise fine.

use serde_json::{Value, json};

use crate::client::Answer;

/// One stage of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    /// As the host calls it: `cache`, `validate`, `preprocess`, `queue`, `infer`, `postprocess`.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) dur_ms: f64,
}

/// The stages of a `server-timing` header, in its order; entries without a duration are left out.
pub(crate) fn stages(header: &str) -> Vec<Stage> {
    header.split(',').filter_map(stage).collect()
}

fn stage(entry: &str) -> Option<Stage> {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let dur = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("dur").then(|| value.trim().trim_matches('"'))
    })?;
    let dur_ms: f64 = dur.parse().ok().filter(|ms: &f64| ms.is_finite())?;
    Some(Stage { name: name.to_owned(), dur_ms })
}

/// One line for people: revision, cache outcome, the host's time and its stages.
pub(crate) fn line(answer: &Answer) -> String {
    let mut parts = vec![answer.status.as_u16().to_string()];
    if let Some(revision) = answer.header("x-tenon-revision") {
        parts.push(format!("revision {revision}"));
    }
    if let Some(cache) = answer.header("x-tenon-cache") {
        parts.push(format!("cache {cache}"));
    }
    if let Some(ms) = answer.header("x-process-time") {
        parts.push(format!("{ms} ms in the host"));
    }
    parts.push(format!("{:.1} ms from here", answer.elapsed.as_secs_f64() * 1e3));
    let stages = stages(answer.header("server-timing").unwrap_or_default());
    let mut line = parts.join(", ");
    if !stages.is_empty() {
        let stages: Vec<_> = stages.iter().map(|stage| format!("{} {:.2}", stage.name, stage.dur_ms)).collect();
        line.push_str(&format!(" ({})", stages.join(", ")));
    }
    line
}

/// The same for machines; what the host did not say is null.
pub(crate) fn json(answer: &Answer) -> Value {
    let stages = stages(answer.header("server-timing").unwrap_or_default());
    let stages: Vec<_> = stages.iter().map(|s| json!({ "name": s.name, "dur_ms": s.dur_ms })).collect();
    let process_time: Option<f64> = answer.header("x-process-time").and_then(|text| text.trim().parse().ok());
    json!({
        "elapsed_ms": answer.elapsed.as_secs_f64() * 1e3,
        "process_time_ms": process_time,
        "stages": stages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_in_order_and_damage_is_skipped() {
        let read = stages(r#"cache;dur=0.01, validate;desc="a";dur=0.5,queue;DUR="3", total, ;dur=1, infer;dur=x"#);
        let names: Vec<_> = read.iter().map(|s| (s.name.as_str(), s.dur_ms)).collect();
        assert_eq!(names, [("cache", 0.01), ("validate", 0.5), ("queue", 3.0)]);
        assert_eq!(stages(""), []);
    }
}
