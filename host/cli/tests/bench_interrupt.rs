//! `tenon bench` when its user interrupts it: what was measured is shown, and who was kept waiting is not forgotten.
//!
//! Interrupts are sent when the server has been asked, not after a time, and no bench outlives its test.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod bench_server;

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bench_server::{http, ms, serving, tenon, wait};
use serde_json::Value;

/// A bench has asked by then, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bench that is interrupted, and that does not outlive a test that fails.
struct Interrupted(Child);

impl Interrupted {
    fn bench(address: SocketAddr, arguments: &[&str]) -> Self {
        let url = format!("http://{address}/x");
        let mut command = tenon(&[&[url.as_str(), "--duration", "1h", "--json", "-"], arguments].concat());
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Interrupts it; what it saved, how it ended, and what it said of that.
    fn ends(mut self) -> (Value, ExitStatus, String) {
        let killed = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let (mut saved, mut said) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut saved).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.0.wait().unwrap();
        (serde_json::from_str(&saved).unwrap_or_else(|error| panic!("{error}: {said}")), status, said)
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_interrupt_shows_what_was_measured() {
    let (send, asked) = mpsc::channel();
    let address = serving(move |_| {
        let _ = send.send(());
        http("200 OK", "", "")
    });
    let bench = Interrupted::bench(address, &["--clients", "1,2"]);
    asked.recv_timeout(PATIENCE).unwrap();
    wait(Duration::from_millis(500));
    let (saved, status, said) = bench.ends();
    assert_eq!((&saved["interrupted"], saved["cells"].as_array().unwrap().len()), (&true.into(), 1), "{saved}");
    let cell = &saved["cells"][0];
    let seconds = cell["seconds"].as_f64().unwrap();
    assert!(cell["requests"].as_u64().unwrap() > 0 && seconds > 0.4 && seconds < 600.0, "{cell}");
    assert!(cell["errors"] == 0 && status.code() == Some(0), "{said}");
}

#[test]
fn an_interrupt_does_not_forget_who_was_kept_waiting() {
    // One good answer, and never another.
    let (send, asked) = mpsc::channel();
    let first = Mutex::new(true);
    let address = serving(move |_| {
        if !std::mem::take(&mut *first.lock().unwrap()) {
            let _ = send.send(());
            wait(Duration::from_secs(3600));
        }
        http("200 OK", "", "")
    });
    for (load, due) in [(&["--rate", "100", "--max-in-flight", "2"][..], 100), (&["--clients", "2"], 2)] {
        let bench = Interrupted::bench(address, load);
        (0..2).for_each(|_| asked.recv_timeout(PATIENCE).unwrap());
        wait(Duration::from_millis(1500));
        let (saved, _, said) = bench.ends();
        let cell = &saved["cells"][0];
        assert_eq!(cell["missed"]["unfinished"], 2, "{cell}");
        assert!(cell["errors"].as_u64().unwrap() >= due && ms(cell, "max") > 1500.0, "{cell}");
        // Who was due came all along, so the half of them waited half as long or longer.
        assert!(ms(cell, "p50") > 500.0 && cell["seconds"].as_f64().unwrap() > 1.4, "{cell} {said}");
    }
}
