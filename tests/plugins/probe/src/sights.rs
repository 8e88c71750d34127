//! What a guest sees and what host calls tell it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};
use tenon_sdk::{Failure, HostCall, Inference, Rejection, Request, Response, Step, Tensor, config, logging};

use crate::query;

const FILL: u8 = b'.';

/// The answer of those paths that need no model.
pub(crate) fn answer(path: &str, request: &Request) -> Result<Option<Step>, Rejection> {
    let seen = match path {
        "/respond" => return respond(request).map(Some),
        "/header" => return Ok(Some(header(request).or_trap().into())),
        "/log" => log(request)?,
        "/stdout" => write_out(),
        "/endless-line" => endless_line(query::number(request, "bytes", 1)?),
        #[cfg(target_arch = "wasm32")]
        "/flood" => flood(query::value(request, "how").as_deref()),
        "/sealed" => outcome(write_after_giving(), "ok"),
        "/big-tensor" => {
            let bytes = query::number(request, "bytes", 1)?;
            outcome(Tensor::create("UINT8", &[1, bytes]).map(drop), "ok")
        }
        "/leave" => leave(query::number(request, "tensors", 1)?),
        "/let-go" => let_go(),
        "/config" => json!(config::get_all().into_iter().collect::<BTreeMap<_, _>>()),
        "/echo" => echo(request),
        "/env" => surroundings(),
        _ => return Ok(None),
    };
    Ok(Some(Response::json(200, &seen).or_trap().into()))
}

thread_local! {
    /// Kept by an instance that serves again, as a runtime keeps what its garbage collector has not found yet.
    static LEFT: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
}

fn leave(tensors: usize) -> Value {
    let made: Result<Vec<_>, _> = (0..tensors).map(|_| Tensor::create("UINT8", &[1, 1000])).collect();
    LEFT.with_borrow_mut(|left| {
        left.extend(made.or_trap());
        json!({ "left": left.len() })
    })
}

/// Also looks at them: what stood behind them is gone.
fn let_go() -> Value {
    let left = LEFT.take();
    let bytes: u64 = left.iter().map(Tensor::size).sum();
    json!({ "let_go": left.len(), "bytes": bytes })
}

fn outcome(result: Result<(), Failure>, fine: &str) -> Value {
    match result {
        Ok(()) => json!({ "code": fine }),
        Err(failure) => json!({ "code": failure.code, "detail": failure.detail }),
    }
}

fn respond(request: &Request) -> Result<Step, Rejection> {
    let status = query::number(request, "status", 200)?;
    let body = vec![FILL; query::number(request, "bytes", 0)?];
    let response = Response::new(status, "text/plain");
    match response.write(&body) {
        Ok(()) => Ok(response.into()),
        Err(failure) => Ok(Response::json(200, &outcome(Err(failure), "ok")).or_trap().into()),
    }
}

fn header(request: &Request) -> Result<Response, Failure> {
    let name = query::value(request, "name").unwrap_or_default();
    let value = query::value(request, "value").unwrap_or_default();
    let response = Response::new(200, "application/json");
    let seen = outcome(response.header(&name, &value), "sent");
    response.write(seen.to_string().as_bytes())?;
    Ok(response)
}

fn log(request: &Request) -> Result<Value, Rejection> {
    let lines: u64 = query::number(request, "lines", 1)?;
    let message = String::from_utf8_lossy(&vec![FILL; query::number(request, "bytes", 10)?]).into_owned();
    for line in 0..lines {
        logging::log(logging::Level::Info, &format!("{line} {message}"));
    }
    Ok(json!({ "lines": lines }))
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "where they end up is what is tried here")]
fn write_out() -> Value {
    println!("the probe on standard output");
    eprintln!("the probe on standard error");
    json!({ "written": true })
}

/// One line without an end, as a library would write it.
fn endless_line(bytes: usize) -> Value {
    use std::io::Write as _;
    let piece = [FILL; 1 << 12];
    let written = (0..bytes / piece.len()).try_for_each(|_| std::io::stdout().write_all(&piece));
    tried(written.map(|()| "written".to_owned()))
}

/// Standard output without the manners of a library, which asks how much may be written.
#[cfg(target_arch = "wasm32")]
fn flood(how: Option<&str>) -> Value {
    const FLOOD_BYTES: usize = 100 << 20;
    let stream = wasip2::cli::stdout::get_stdout();
    let written = match how {
        Some("zeroes") => stream.write_zeroes(u64::MAX),
        Some("blocking") => stream.blocking_write_and_flush(&vec![FILL; FLOOD_BYTES]),
        Some("random") => return json!(wasip2::random::random::get_random_bytes(u64::MAX).len()),
        _ => stream.write(&vec![FILL; FLOOD_BYTES]),
    };
    json!(format!("{written:?}"))
}

fn write_after_giving() -> Result<(), Failure> {
    let tensor = Tensor::create("FP32", &[1, 1])?;
    let inference = Inference::new("identity").input("x", &tensor)?;
    let written = tensor.write(0, &1.0_f32.to_le_bytes());
    drop(inference);
    written
}

fn echo(request: &Request) -> Value {
    json!({
        "method": request.method(),
        "path": request.path(),
        "query": request.query(),
        "headers": request.headers(),
        "tenant": request.tenant(),
        "body_size": request.body_size(),
        "body": String::from_utf8_lossy(&request.body()),
        "part": String::from_utf8_lossy(&request.read_body(1, 3)),
        "time_left_ms": request.time_left_ms(),
    })
}

/// All that a sandboxed guest should find empty or closed.
fn surroundings() -> Value {
    let mut input = Vec::new();
    let read = std::io::stdin().read_to_end(&mut input);
    json!({
        "variables": std::env::vars().collect::<Vec<_>>(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "stdin": tried(read.map(|bytes| bytes.to_string())),
        "file": tried(std::fs::read_to_string("/etc/hostname")),
        "folder": tried(std::fs::read_dir("/").map(|entries| entries.count().to_string())),
        "write": tried(std::fs::write("/tmp/probe", "x").map(|()| "written".to_owned())),
        "connect": tried(std::net::TcpStream::connect("127.0.0.1:22").map(|_| "connected".to_owned())),
        "listen": tried(std::net::TcpListener::bind("127.0.0.1:0").map(|_| "bound".to_owned())),
    })
}

fn tried(result: std::io::Result<String>) -> Value {
    match result {
        Ok(seen) => json!({ "ok": seen }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}
