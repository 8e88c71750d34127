//! What an error answer means for the person who asked: the code of `application/problem+json` read into whose
//! fault it was and what to try next.
//!
//! It does not print and does not fetch. The table is here alone, so that a new code of the host needs one line;
//! an unknown code falls back to its status, because hosts and command lines are not always of one age.

use serde_json::Value;
use ureq::http::StatusCode;

use crate::client::Answer;
use crate::failure::{Exit, Failure};

/// The longest piece of a body that is not a problem document and is shown all the same.
const EXCERPT_CHARS_MAX: usize = 400;

/// Code, whose fault, what to try next.
type Row = (&'static str, Exit, &'static str);

/// Codes of the host. Codes of guests are their own and stand for a 4xx.
const TABLE: &[Row] = &[
    ("unauthenticated", Exit::Request, "give a key in TENON_KEY"),
    ("forbidden", Exit::Request, "this key may not do that: ask the tenant's operator for one that may"),
    ("function-not-found", Exit::Request, "`tenon functions` lists what this host serves"),
    ("revision-not-found", Exit::Request, "leave out @revision for the one in traffic; `tenon functions` lists them"),
    ("tenant-not-found", Exit::Request, "`tenon tenants` lists them, and `tenon tenants set` makes one"),
    ("key-not-found", Exit::Request, "`tenon keys <tenant>` lists them"),
    (
        "deployment-not-found",
        Exit::Request,
        "a host remembers for an hour what it took: `tenon functions` has the outcome",
    ),
    ("conflict", Exit::Request, "look at what is there (`tenon history`), then do it again or do something else"),
    ("quota", Exit::Request, "remove what is no longer needed, or ask an operator for more (`tenon tenants set`)"),
    ("manifest", Exit::Function, "put function.toml right: `tenon inspect PLUGIN.wasm -f function.toml` says more"),
    ("component", Exit::Function, "`tenon inspect PLUGIN.wasm` says what the component lacks"),
    ("binding", Exit::Function, "compare [models] in function.toml with `tenon models`"),
    ("case", Exit::Function, "the function answers otherwise than its [[case]] expects: mend the plugin, or the case"),
    ("digest-mismatch", Exit::Request, "what arrived is not what was meant: build and deploy again"),
    (
        "model-not-granted",
        Exit::Request,
        "this tenant may not use that model: an operator grants it with `tenon tenants set --models`",
    ),
    ("model-not-found", Exit::Request, "`tenon models` lists what this host has"),
    ("model-refused", Exit::Request, "what served goes on serving: put the files right and load again"),
    (
        "model-in-use",
        Exit::Request,
        "load another version that fits, bind the functions elsewhere, or insist with --force: they answer 503 then",
    ),
    ("model-busy", Exit::Capacity, "wait for the other change to end"),
    ("body-timeout", Exit::Request, "the way to the host is slow: ask again, from nearer if you can"),
    ("body-too-large", Exit::Request, "send less, or raise limits.body_bytes in the function's function.toml"),
    (
        "too-many-rows",
        Exit::Request,
        "split the request; limits.max_rows in function.toml and max_request_rows in model.toml bound it",
    ),
    ("rate-limited", Exit::Capacity, "send more slowly"),
    ("concurrency-limit", Exit::Capacity, "keep fewer requests in flight"),
    ("too-many-followers", Exit::Capacity, "end another `tenon logs -f`, or read without following"),
    ("queue-full", Exit::Capacity, "the model is busy: send fewer at once, or give it more instances in model.toml"),
    ("tenant-memory", Exit::Capacity, "the tenant holds all memory it may: keep fewer or smaller requests in flight"),
    ("plugin-trap", Exit::Function, "the plugin crashed: its log, under this request id, has the backtrace"),
    (
        "plugin-contract",
        Exit::Function,
        "the plugin broke its contract: compare what it sends with the model's inputs (`tenon models`)",
    ),
    (
        "plugin-memory",
        Exit::Function,
        "the plugin ran out of memory: raise limits.memory_bytes in function.toml, or send less",
    ),
    (
        "plugin-deadline",
        Exit::Function,
        "the plugin used up its CPU time: raise limits.cpu_ms in function.toml, or send less",
    ),
    ("model-failed", Exit::Function, "the model threw on this request's rows: the host's log has its words"),
    ("host-memory", Exit::Capacity, "the host is out of memory at the moment"),
    ("device-memory", Exit::Capacity, "the device is out of memory at the moment"),
    ("model-unavailable", Exit::Capacity, "`tenon models` says what keeps the model from serving"),
    ("draining", Exit::Capacity, "this host is shutting down: ask another, or wait for its successor"),
    ("deadline-exceeded", Exit::Capacity, "allow more with --timeout-ms, up to limits.timeout_ms in function.toml"),
    ("queue-timeout", Exit::Capacity, "the model is busy: its queue took longer than queue_timeout_ms in model.toml"),
    ("internal", Exit::Tenon, "a fault of Tenon itself: look in the host's log for this request id, and report it"),
];

/// Whose fault an answer is, from its status and code.
pub(crate) fn exit_of(status: u16, code: &str) -> Exit {
    // A guest may choose any code for its own 4xx, so there the status has the last word.
    let by_status = match status {
        200..=399 => Exit::Fine,
        429 => Exit::Capacity,
        400..=499 => Exit::Request,
        502 => Exit::Function,
        503 | 504 => Exit::Capacity,
        _ => Exit::Tenon,
    };
    match row(code) {
        Some((_, exit, _)) if status >= 500 => *exit,
        _ => by_status,
    }
}

/// Whose fault it is that a host did not take what was deployed, and what to try next. What a new code means is told
/// by its detail; most likely it is about the function.
pub(crate) fn refusal_of(code: &str, detail: &str) -> Failure {
    let failure =
        |exit| Failure::new(exit, if detail.is_empty() { code.to_owned() } else { format!("{code}: {detail}") });
    row(code).map_or_else(|| failure(Exit::Function), |(_, exit, hint)| failure(*exit).hint(*hint))
}

fn row(code: &str) -> Option<&'static Row> {
    TABLE.iter().find(|(known, ..)| *known == code)
}

/// The failure that an answer of 4xx or 5xx stands for.
pub(crate) fn failure_of(answer: &Answer) -> Failure {
    let status = answer.status;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let code = body["code"].as_str().unwrap_or_default();
    let exit = exit_of(status.as_u16(), code);
    let title = body["title"].as_str().filter(|title| *title != code).unwrap_or_default();
    let mut message =
        format!("{} {}", status.as_u16(), first_of(&[code, status.canonical_reason().unwrap_or_default()]));
    for part in [title, detail(&body).as_str()] {
        if !part.is_empty() {
            message.push_str(": ");
            message.push_str(part);
        }
    }
    let mut failure = Failure::new(exit, message);
    if let Some(pointer) = body["pointer"].as_str() {
        failure.notes.push(format!("at {}", if pointer.is_empty() { "the whole body" } else { pointer }));
    }
    if body.is_null() && !answer.body.is_empty() {
        failure.notes.push(excerpt(&answer.body));
    }
    if let Some(id) = body["request_id"].as_str().or_else(|| answer.header("x-request-id")) {
        failure.notes.push(format!("request id {id}"));
    }
    match (hint(status, code), answer.header("retry-after")) {
        (Some(hint), Some(after)) => failure.hint(format!("{hint}; try again in {after} s")),
        (Some(hint), None) => failure.hint(hint),
        (None, Some(after)) => failure.hint(format!("try again in {after} s")),
        (None, None) => failure,
    }
}

fn hint(status: StatusCode, code: &str) -> Option<&'static str> {
    if let Some((_, _, hint)) = row(code) {
        return Some(hint);
    }
    match status.as_u16() {
        404 => Some("`tenon functions` lists what this host serves"),
        405 => Some("functions take POST and GET"),
        400..=499 => Some("change the request as the message says"),
        _ => None,
    }
}

/// The detail of a problem, or the message of the shapes that functions may choose instead (`openai`, `tei`).
fn detail(body: &Value) -> String {
    let found = [&body["detail"], &body["error"]["message"], &body["error"], &body["message"]];
    found.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
}

fn first_of<'a>(texts: &[&'a str]) -> &'a str {
    texts.iter().find(|text| !text.is_empty()).copied().unwrap_or_default()
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut short: String = text.trim().chars().take(EXCERPT_CHARS_MAX).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ureq::http::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str, retry_after: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", seconds.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers, body: body.into(), elapsed: Duration::ZERO }
    }

    #[test]
    fn every_code_has_its_exit() {
        let cases = [
            (Exit::Request, 401, "unauthenticated"),
            (Exit::Request, 403, "forbidden"),
            (Exit::Request, 404, "function-not-found revision-not-found model-not-found"),
            (Exit::Request, 408, "body-timeout"),
            (Exit::Request, 409, "model-refused model-in-use"),
            (Exit::Request, 413, "body-too-large too-many-rows"),
            (Exit::Request, 422, "no-documents internal plugin-trap"), // a guest's own words
            (Exit::Capacity, 429, "rate-limited concurrency-limit queue-full tenant-memory"),
            (Exit::Function, 502, "plugin-trap plugin-contract plugin-memory model-failed unheard-of"),
            (Exit::Function, 504, "plugin-deadline"),
            (Exit::Capacity, 503, "host-memory device-memory model-unavailable draining model-busy unheard-of"),
            (Exit::Capacity, 504, "deadline-exceeded queue-timeout unheard-of"),
            (Exit::Tenon, 500, "internal unheard-of"),
            (Exit::Fine, 200, "-"),
        ];
        for (exit, status, codes) in cases {
            for code in codes.split(' ') {
                assert_eq!(exit_of(status, code), exit, "{status} {code}");
            }
        }
    }

    #[test]
    fn a_problem_becomes_two_lines_and_notes() {
        let body = r#"{"title":"Queue full","status":429,"detail":"model minilm: 256 rows wait",
            "code":"queue-full","request_id":"r-1"}"#;
        let failure = failure_of(&answer(429, body, Some("2")));
        assert_eq!(failure.message, "429 queue-full: Queue full: model minilm: 256 rows wait");
        assert_eq!(failure.notes, ["request id r-1"]);
        assert!(failure.hint.unwrap().ends_with("try again in 2 s"));
    }

    #[test]
    fn a_guests_rejection_points_to_the_place() {
        let body = r#"{"detail":"must be a string","code":"document-type","pointer":"/documents/3"}"#;
        let failure = failure_of(&answer(422, body, None));
        assert_eq!(failure.exit, Exit::Request);
        assert_eq!(failure.message, "422 document-type: must be a string");
        assert_eq!(failure.notes, ["at /documents/3"]);
    }

    #[test]
    fn other_shapes_still_say_something() {
        let openai = failure_of(&answer(400, r#"{"error":{"message":"bad input"}}"#, None));
        assert_eq!(openai.message, "400 Bad Request: bad input");
        let plain = failure_of(&answer(502, "upstream sad", None));
        assert_eq!((plain.message.as_str(), plain.notes[0].as_str()), ("502 Bad Gateway", "upstream sad"));
    }
}
