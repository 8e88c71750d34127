//! `tenon invoke`: one request to a function, its answer on standard output, what is known about it beside.
//!
//! It does not know any function's format: bodies go out and come back as they are, and only JSON is made
//! readable on a terminal. Standard output carries the body and nothing else, so that it can be piped.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::http::{HeaderName, HeaderValue, Method, header};

use crate::client::{ANSWER_TIMEOUT, Answer, BODY_BYTES_MAX, Host, Question};
use crate::failure::{Exit, Failure, Stop, printable};
use crate::problem::{exit_of, failure_of};
use crate::target::Target;
use crate::{key, output, timing};

/// Beyond the deadline given to the host, so that its own 504 arrives and can be shown.
const DEADLINE_SLACK: Duration = Duration::from_secs(5);

/// Set by this program or by HTTP itself; a second one would make the request ambiguous.
const OWN_HEADERS: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::CONNECTION];

/// Flags of `tenon invoke`.
#[derive(Args, Debug)]
pub(crate) struct InvokeFlags {
    /// <tenant>/<function>[@revision][/path][?query], for example demo/reranker
    #[arg(value_parser = Target::parse)]
    target: Target,
    /// `-` reads the body from standard input
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["data", "body", "get"])]
    stdin: Option<String>,
    /// The body, as text
    #[arg(long, short, value_name = "TEXT", conflicts_with_all = ["body", "get"])]
    data: Option<String>,
    /// A file with the body (`-` for standard input)
    #[arg(long, short, value_name = "FILE", conflicts_with = "get")]
    body: Option<PathBuf>,
    /// Send a GET without a body instead of a POST
    #[arg(long)]
    get: bool,
    /// The body's type [default: JSON when the body is JSON, else plain text or bytes]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<HeaderValue>,
    /// A header to send, may be repeated; the key in TENON_KEY is sent as `authorization` where none is given
    #[arg(long, short = 'H', value_name = "NAME:VALUE", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The host's deadline for the answer; the function's own limit caps it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: Option<u64>,
    /// Show the answer's status and headers on standard error
    #[arg(long)]
    show_headers: bool,
    /// Print status, headers, timings and body as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &InvokeFlags) -> Result<(), Stop> {
    let answer = host.ask(question(flags)?)?;
    if flags.show_headers {
        show_headers(&answer);
    }
    if flags.json {
        output::json(&as_json(&answer))?;
        let status = answer.status.as_u16();
        let exit = exit_of(status, code(&answer).as_deref().unwrap_or_default());
        return if exit == Exit::Fine { Ok(()) } else { Err(Stop::Said(exit)) };
    }
    if answer.status.is_client_error() || answer.status.is_server_error() {
        return Err(failure_of(&answer).into());
    }
    show_body(&answer)?;
    if io::stderr().is_terminal() {
        output::aside(&timing::line(&answer));
    }
    Ok(())
}

fn question(flags: &InvokeFlags) -> Result<Question, Failure> {
    let body = read_body(flags)?;
    let mut headers = flags.header.clone();
    if let Some(kind) = content_type(flags, &body) {
        headers.push((header::CONTENT_TYPE, kind));
    }
    let mut timeout = ANSWER_TIMEOUT;
    if let Some(ms) = flags.timeout_ms {
        headers.push((HeaderName::from_static("x-tenon-timeout-ms"), HeaderValue::from(ms)));
        timeout = Duration::from_millis(ms).saturating_add(DEADLINE_SLACK);
    }
    if let Some(key) = key::given()?
        && !headers.iter().any(|(name, _)| name == header::AUTHORIZATION)
    {
        headers.push((header::AUTHORIZATION, key::bearer(&key)?));
    }
    let method = if flags.get { Method::GET } else { Method::POST };
    Ok(Question { method, path: flags.target.path(), headers, body, timeout })
}

fn read_body(flags: &InvokeFlags) -> Result<Vec<u8>, Failure> {
    if let Some(text) = &flags.data {
        return Ok(text.clone().into_bytes());
    }
    match &flags.body {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            read_bounded(file, path)
        }
        None if flags.stdin.is_none() => Ok(Vec::new()),
        _ => {
            if io::stdin().is_terminal() && io::stderr().is_terminal() {
                output::aside("reading the body from standard input; Ctrl-D ends it");
            }
            read_bounded(io::stdin().lock(), Path::new("standard input"))
        }
    }
}

fn read_bounded(source: impl Read, name: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    source.take(BODY_BYTES_MAX + 1).read_to_end(&mut body).map_err(|error| unreadable(name, &error))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        let message = format!("the body in {} is larger than {BODY_BYTES_MAX} bytes", name.display());
        return Err(Failure::new(Exit::Request, message));
    }
    Ok(body)
}

fn unreadable(name: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("cannot read the body from {}: {error}", name.display()))
        .hint("give a readable file with --body, text with --data, or - for standard input")
}

/// The type that was named, or the one the body looks like.
fn content_type(flags: &InvokeFlags, body: &[u8]) -> Option<HeaderValue> {
    let named = flags.header.iter().any(|(name, _)| name == header::CONTENT_TYPE);
    if named || body.is_empty() && flags.content_type.is_none() {
        return None;
    }
    Some(flags.content_type.clone().unwrap_or_else(|| HeaderValue::from_static(guess(body))))
}

fn guess(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        "application/json"
    } else if std::str::from_utf8(body).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    let name: HeaderName = name.trim().parse().map_err(|error| format!("`{name}`: {error}"))?;
    if OWN_HEADERS.contains(&name) {
        return Err(format!("`{name}` is set by the request itself"));
    }
    let value = value.trim().parse().map_err(|error| format!("the value of {name}: {error}"))?;
    Ok((name, value))
}

fn show_body(answer: &Answer) -> io::Result<()> {
    if io::stdout().is_terminal()
        && answer.is_json()
        && let Ok(value) = serde_json::from_slice::<Value>(&answer.body)
    {
        return output::json(&value);
    }
    output::bytes(&answer.body)
}

fn show_headers(answer: &Answer) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{}", answer.status);
    for (name, value) in &answer.headers {
        let _ = writeln!(err, "{name}: {}", printable(&String::from_utf8_lossy(value.as_bytes())));
    }
}

fn code(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body["code"].as_str().map(str::to_owned)
}

/// The whole answer as one object. A body that is not text is left out: run again without `--json` for its bytes.
fn as_json(answer: &Answer) -> Value {
    let parsed = if answer.is_json() { serde_json::from_slice(&answer.body).ok() } else { None };
    let body: Option<Value> = parsed.or_else(|| std::str::from_utf8(&answer.body).ok().map(Value::from));
    let mut headers = serde_json::Map::new();
    for (name, value) in &answer.headers {
        headers.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into());
    }
    json!({
        "status": answer.status.as_u16(),
        "request_id": answer.header("x-request-id"),
        "revision": answer.header("x-tenon-revision"),
        "cache": answer.header("x-tenon-cache"),
        "timing": timing::json(answer),
        "headers": headers,
        "body_bytes": answer.body.len(),
        "body": body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_look_like_their_type() {
        assert_eq!(guess(br#"{"query": "a"}"#), "application/json");
        assert_eq!(guess(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(guess(&[0xff, 0xd8]), "application/octet-stream");
    }

    #[test]
    fn headers_are_checked() {
        let (name, value) = parse_header("X-A: b:c ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-a", "b:c"));
        for text in ["x-a", "x a: b", "content-length: 3", "x-a: b\u{1}c"] {
            assert!(parse_header(text).is_err(), "{text}");
        }
    }
}
