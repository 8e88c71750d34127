//! Programs beside this one: servers on cores of their own, and the load that drives them. No server outlives a benchmark:
//! each leads a group of processes that ends as a whole when its owner is dropped, when this program is gone however that
//! came (`setpriv`), and after a bounded time in any case (`timeout`).

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The longest that a server may run, whatever becomes of this program.
const SERVER_SECONDS: &str = "1200";
/// How long a server may take to listen; some import libraries for seconds.
const START: Duration = Duration::from_secs(120);
/// How long a server may take to end.
const END: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// The cores of whoever serves, and of the load.
pub(crate) const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// The host as a process.
pub(crate) fn host() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tenon-host"))
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// A server on `SERVER_CORE`.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts what `command` says, with one thread for each of libtorch's operations, and waits until it listens.
    pub(crate) fn start(name: &'static str, address: SocketAddr, command: &Command) -> Self {
        // `setpriv` asks for a signal when the thread that is here ends, which is the program's first. `timeout` passes it on
        // to its group, and ends what does not heed it within ten seconds.
        let mut pinned = Command::new("setpriv");
        pinned.args(["--pdeathsig", "TERM", "timeout", "--kill-after=10", SERVER_SECONDS]);
        pinned.args(["taskset", "--cpu-list", SERVER_CORE]).process_group(0);
        pinned.arg(command.get_program()).args(command.get_args());
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        pinned.envs(set).envs([("OMP_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false")]);
        let child = pinned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let child = child.expect("`setpriv`, `timeout` and `taskset` (util-linux, coreutils) are there");
        let mut server = Self { name, address, child };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "{name} ended before it listened; its words are above");
            assert!(start.elapsed() < START, "{name} did not listen within {START:?}");
            pause();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end_by(&mut self.child, kill_process_group);
        // Who of the group is slower than its leader. (Its number is nobody else's yet: numbers are given out in turn.)
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

/// Asks a process to end, and ends it if it does not.
pub(crate) fn end(child: &mut Child) {
    end_by(child, kill_process);
}

fn end_by(child: &mut Child, send: fn(Pid, Signal) -> rustix::io::Result<()>) {
    let pid = Pid::from_child(child);
    // Either may fail only where it has ended already.
    let _ = send(pid, Signal::TERM);
    let start = Instant::now();
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if start.elapsed() > END {
            let _ = send(pid, Signal::KILL);
        }
        pause();
    }
}

/// Lets a moment go by, of which half is in whatever is timed.
#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do, and no reactor runs on it")]
pub(crate) fn pause() {
    std::thread::sleep(LOOK);
}

/// By how many, or how often.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Closed loop: so many clients, each with one request at a time.
    Clients(usize),
    /// Open loop: so many requests per second, whatever the answers take.
    Rate(f64),
}

/// What is sent to whom.
pub(crate) struct Load<'a> {
    pub(crate) url: String,
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
    pub(crate) body: &'a Path,
    pub(crate) content_type: &'static str,
    /// Whether the load has a core of its own.
    pub(crate) pinned: bool,
}

/// What came back.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) errors: f64,
    /// How many of the errors are 429.
    pub(crate) refused: f64,
}

/// Before anything counts.
const WARM_UP: &str = "1s";

impl Load<'_> {
    /// `tenon bench`, until it is over.
    pub(crate) fn drive(&self) -> Cell {
        self.start().finish()
    }

    /// `tenon bench`, beside which something else is measured.
    pub(crate) fn start(&self) -> Driving {
        let tenon = host().with_file_name("tenon");
        let mut command = Command::new(if self.pinned { "taskset" } else { "env" });
        if self.pinned {
            command.args(["--cpu-list", LOAD_CORE]);
        }
        command.arg(&tenon).args(["bench", &self.url]);
        match self.pace {
            Pace::Clients(clients) => command.args(["--clients", &clients.to_string()]),
            Pace::Rate(rate) => command.args(["--rate", &format!("{rate:.1}")]),
        };
        command.args(["--duration", &format!("{}ms", self.duration.as_millis()), "--warm-up", WARM_UP]);
        command.arg("--body").arg(self.body).args(["--content-type", self.content_type, "--json", "-"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        Driving(child.expect("`tenon` is built beside `tenon-host`"))
    }
}

/// `tenon bench` on its way; it ends by itself.
pub(crate) struct Driving(Child);

impl Driving {
    /// What it came to.
    pub(crate) fn finish(self) -> Cell {
        let output = self.0.wait_with_output().expect("it is a child");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "`tenon bench` ended with {}: {text}", output.status);
        let read: serde_json::Value = serde_json::from_str(&text).expect("`tenon bench --json -` gives JSON");
        let cell = &read["cells"][0];
        // Where no answer was good there is no latency, and the errors say so.
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
        Cell {
            requests_per_second: number(&cell["requests_per_second"]),
            p50_ms: number(&cell["latency_ms"]["p50"]),
            p95_ms: number(&cell["latency_ms"]["p95"]),
            p99_ms: number(&cell["latency_ms"]["p99"]),
            errors: number(&cell["errors"]),
            refused: cell["statuses"]["429"].as_f64().unwrap_or(0.0),
        }
    }
}
