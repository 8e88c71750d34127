//! A control plane that answers from a script, one request to a connection, and the program that asks it: what is tested
//! is this program and not a host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

/// What a scripted server does next.
pub(crate) enum Answer {
    /// A status line's end and a JSON body.
    Json(&'static str, String),
    /// Lines of a log, the connection being cut behind them without an end.
    Lines(&'static str),
    /// The same, and its end.
    All(String),
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Json("200 OK", body.to_owned())
}

pub(crate) fn problem(status: &'static str, code: &str, detail: &str) -> Answer {
    Answer::Json(status, format!(r#"{{"code":"{code}","detail":"{detail}","request_id":"r-1"}}"#))
}

/// What happened: what the program said, and what it asked, in order.
pub(crate) struct Told {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) asked: Vec<String>,
}

/// The program with nothing of this environment that could change what it does.
pub(crate) fn tenon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["TENON_HOST", "TENON_CONTROL", "TENON_DATA", "TENON_KEY", "TENON_ADMIN_TOKEN"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program against a script, with an operator's token.
pub(crate) fn against(script: Vec<Answer>, arguments: &[&str]) -> Told {
    with(script, tenon(arguments).env("TENON_ADMIN_TOKEN", "operators-word"))
}

/// Runs a command against a script.
pub(crate) fn with(script: Vec<Answer>, command: &mut Command) -> Told {
    let (address, server) = serving(script);
    let address = address.to_string();
    let Output { status, stdout, stderr } =
        command.env("TENON_CONTROL", &address).env("TENON_HOST", &address).output().unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (said(stdout), said(stderr));
    // A script that is not played to its end would wait for ever: end it, and let the test's expectations tell.
    while !server.is_finished() {
        drop(TcpStream::connect(&address));
    }
    Told { exit: status.code(), stdout, stderr, asked: server.join().unwrap() }
}

fn serving(script: Vec<Answer>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in script {
            let (mut socket, _) = listener.accept().unwrap();
            let Some(request) = request(&mut socket) else { continue };
            asked.push(request);
            let _ = socket.write_all(&bytes(&answer));
        }
        asked
    });
    (address, server)
}

fn bytes(answer: &Answer) -> Vec<u8> {
    let headers = "x-request-id: r-1\r\nconnection: close\r\n";
    match answer {
        Answer::Json(status, body) => {
            let kind = if body.contains(r#""code""#) { "application/problem+json" } else { "application/json" };
            let length = body.len();
            format!("HTTP/1.1 {status}\r\n{headers}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
        }
        Answer::Lines(lines) => chunked(headers, lines),
        Answer::All(lines) => chunked(headers, lines) + "0\r\n\r\n",
    }
    .into_bytes()
}

fn chunked(headers: &str, lines: &str) -> String {
    let length = lines.len();
    format!(
        "HTTP/1.1 200 OK\r\n{headers}content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{lines}\r\n"
    )
}

/// A whole request as text; none where the connection was only opened.
fn request(socket: &mut impl Read) -> Option<String> {
    let mut asked = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&asked);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        let read = socket.read(&mut piece).ok()?;
        if read == 0 {
            return None;
        }
        asked.extend_from_slice(&piece[..read]);
    }
}
