//! The host's two ports: free, a Tenon, or somebody else.
//!
//! It asks as any caller would and carries no token: on the control plane even a refusal shows that a Tenon
//! answers.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use ureq::http::StatusCode;

use super::Check;
use crate::client::{Host, Question};

/// A host that is alive answers health at once.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// All checks of this file.
pub(super) fn checks(data: &Host, control: &Host) -> Vec<Check> {
    vec![plane("data plane", data, "--listen"), plane("control plane", control, "--control-listen")]
}

fn plane(name: &'static str, host: &Host, flag: &str) -> Check {
    let base = host.base();
    if host.is_loopback() {
        match TcpListener::bind(host.authority()) {
            Ok(_) => return Check::ok(name, format!("{base} is free: no host runs there")),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                let advice = format!("choose another address with `tenon serve {flag}`");
                return Check::fail(name, format!("{base} cannot be used: {error}"), advice);
            }
        }
    }
    let mut question = Question::get(if flag == "--listen" { "/health/ready" } else { "/health" });
    question.timeout = HEALTH_TIMEOUT;
    match host.ask(question) {
        Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
            let advice = "`tenon models` says what it waits for; a host that drains answers so as well";
            Check::warn(name, format!("a Tenon answers at {base} but is not ready"), advice)
        }
        Ok(answer) if answer.status.is_success() => Check::ok(name, format!("a Tenon answers at {base}, ready")),
        Ok(_) => Check::ok(name, format!("a Tenon answers at {base}")),
        Err(failure) if host.is_loopback() => {
            let advice = format!("stop that program, or choose another address with `tenon serve {flag}`");
            Check::fail(name, format!("{base} is taken: {}", failure.message), advice)
        }
        Err(failure) => Check::fail(name, failure.message, failure.hint.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::thread;

    use super::super::Level;
    use super::*;

    /// Answers one connection with `text`.
    fn answering(text: &'static str) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(text.as_bytes()).unwrap();
        });
        (address, server)
    }

    #[test]
    fn a_port_is_free_a_tenon_or_somebody_elses() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let check = |address: SocketAddr| plane("p", &Host::parse(&address.to_string()).unwrap(), "--listen");
        assert!(check(free).found.contains("is free"));

        let cases = [
            ("HTTP/1.1 200 OK\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n", Level::Ok, "ready"),
            ("HTTP/1.1 503 Busy\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n", Level::Warn, "not ready"),
            ("HTTP/1.1 200 OK\r\nserver: nginx\r\ncontent-length: 0\r\n\r\n", Level::Fail, "not a Tenon"),
            ("SSH-2.0-OpenSSH_9.2\r\n", Level::Fail, "is taken"),
        ];
        for (text, level, part) in cases {
            let (address, server) = answering(text);
            let check = check(address);
            server.join().unwrap();
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.contains(part), "{check:?}");
        }
    }
}
