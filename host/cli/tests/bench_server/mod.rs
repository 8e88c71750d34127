//! A server for the tests of `tenon bench`, and the command that drives it: threads that speak as much HTTP as the bench
//! does, so that what is tested is this program and not a host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What one request brought: its head in lower case, and its body.
pub(crate) type Asked = (String, String);

/// A server on a port of its own; each connection has a thread, `answer` gives the whole answer to each request.
pub(crate) fn serving(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(socket, &*answer));
        }
    });
    address
}

fn serve(mut socket: TcpStream, answer: &dyn Fn(&Asked) -> String) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let answer = answer(&(head, String::from_utf8(body).unwrap()));
        socket.write_all(answer.as_bytes()).ok()?;
        if answer.contains("connection: close") {
            return None;
        }
    }
}

pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn tenon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon"));
    command.arg("bench").args(arguments).env_remove("TENON_HOST").env_remove("TENON_KEY").stdin(Stdio::null());
    command
}

pub(crate) fn wait(time: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

pub(crate) fn ms(cell: &Value, figure: &str) -> f64 {
    cell["latency_ms"][figure].as_f64().unwrap()
}
