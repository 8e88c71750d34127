//! `tenon-host` as a process: signals, exit codes, and messages that name what is wrong.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    raw::Raw,
    support::{Answer, TestHost, client, eventually},
};

/// The binary with nothing of the environment that could configure it, in an empty folder.
pub fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    with(Command::new(env!("CARGO_BIN_EXE_tenon-host")), folder, arguments)
}

/// The same around another program, which is to become the host.
pub fn with(mut command: Command, folder: &TempDir, arguments: &[&str]) -> Command {
    let ours =
        std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("TENON_") || name.starts_with("OTEL_"));
    for name in ours {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String) {
    output(command(folder, arguments))
}

/// Exit code and log of what ends by itself.
pub fn output(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// A process that serves; ended with the test.
pub struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    pub data: String,
    pub control: String,
    /// What the log said until it served.
    pub began: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub fn start(folder: &TempDir, arguments: &[&str]) -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"];
        Self::serving(command(folder, &[&ports, arguments].concat()))
    }

    /// Runs it until it serves.
    pub fn serving(command: Command) -> Self {
        let mut process = Self::begun(command);
        assert!(process.reads("control plane on "), "the host ended before it served:\n{}", process.began);
        let address = |name| {
            let line = process.began.lines().find_map(|line| Some(line.split_once(name)?.1))?;
            Some(line.split(',').next()?.to_owned())
        };
        (process.data, process.control) = (address("data plane on ").unwrap(), address("control plane on ").unwrap());
        process
    }

    /// Runs it, and waits for nothing.
    pub fn begun(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, data: String::new(), control: String::new(), began: String::new() }
    }

    /// Reads the log until a line has this in it; false where it ends before.
    pub fn reads(&mut self, what: &str) -> bool {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            self.began.push_str(&line);
            if std::mem::take(&mut line).contains(what) {
                return true;
            }
        }
        false
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; gives exit code and the rest of the log.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        eventually("the process ends", async || self.child.try_wait().unwrap().is_some()).await;
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains() {
    // Laid out as for a host in this process, then given to one of its own.
    let folder = TestHost::new().probe().into_folder();
    let client = client().build().unwrap();
    for signal in ["TERM", "INT"] {
        let process =
            Process::start(&folder, &["--models", "models", "--data", "data", "--dev-functions", "functions"]);
        let token = std::fs::read_to_string(folder.path().join("data/admin-token")).unwrap();
        let health = async || {
            let asked = client.get(format!("{}/health", process.control)).bearer_auth(token.trim()).send().await;
            Answer::of(asked.unwrap()).await.json()
        };
        // In flight for as long as the test likes: half a body.
        let mut uploading = Raw::connect(&process.data).await;
        uploading
            .send(b"POST /v1/functions/test/probe/echo HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n01234")
            .await;
        eventually("it is in flight", async || health().await["invocations_in_flight"] == 1).await;
        process.signal(signal);
        eventually("the host drains", async || health().await["draining"] == true).await;
        let late = client.post(format!("{}/v1/functions/test/probe/state", process.data)).send().await.unwrap();
        Answer::of(late).await.is_problem(503, "draining");
        uploading.send(b"56789").await;
        let answer = uploading.answer().await.unwrap();
        assert_eq!((answer.status, &answer.json()["body"]), (200, &"0123456789".into()), "{signal}");
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(log.contains("draining"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let folder = TestHost::new().probe().into_folder();
    let process = Process::start(&folder, &["--models", "models", "--data", "data", "--dev-functions", "functions"]);
    let mut stuck = Raw::connect(&process.data).await;
    stuck.send(b"POST /v1/functions/test/probe/echo HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n01234").await;
    let ready = format!("{}/health/ready", process.data);
    let client = client().build().unwrap();
    let status = async || client.get(&ready).send().await.map(|answer| answer.status().as_u16()).ok();
    eventually("the host is ready", async || status().await == Some(200)).await;
    process.signal("TERM");
    eventually("the host drains", async || status().await == Some(503)).await;
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[test]
fn check_reads_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (code, log) = run(&folder, &["--check"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("configuration is fine"), "{log}");
}

#[test]
fn a_bad_configuration_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenon.toml");
    for (text, named) in [
        ("[http]\nlissten = \"127.0.0.1:1\"", &["tenon.toml", "lissten", "did you mean `listen`", "2"][..]),
        ("[sandbox]\nmax_instances = 0", &["sandbox.max_instances"]),
        ("[http]\nlisten = \"nowhere\"", &["tenon.toml", "line 2", "socket address"]),
        ("[limits]\ntenant_memory_bytes = 99999999999", &["limits.tenant_memory_bytes"]),
        ("[engine]\nlanes = 0", &["lanes"]),
        ("[http]\nlisten = \"127.0.0.1:1\"\ncontrol_listen = \"127.0.0.1:1\"", &["http.control_listen"]),
        ("[http.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"", &["http.tls", "c.pem"]),
        ("[http", &["tenon.toml", "line 1"]),
        ("[kitchen]", &["kitchen"]),
        ("[telemetry]\nsample_ratio = 2", &["telemetry.sample_ratio"]),
        ("[telemetry]\notlp_endpoint = \"collector:4317\"", &["telemetry.otlp_endpoint", "http://"]),
        ("[telemetry]\nlog_format = \"xml\"", &["line 2", "json"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, log) = run(&folder, &["--check"]);
        assert_eq!(code, Some(1), "{text}: {log}");
        for named in named {
            assert!(log.contains(named), "{text} does not tell of {named}: {log}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let (code, log) = run(&folder, &["--config", "nowhere.toml"]);
    assert!(code == Some(1) && log.contains("nowhere.toml"), "{log}");
    let (code, log) = run(&folder, &["--listen", "nowhere"]);
    assert!(code == Some(2) && log.contains("--listen"), "{log}");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    for (arguments, named) in [
        (vec!["--listen", &address, "--control-listen", "127.0.0.1:0"], vec!["--listen", &address[..]]),
        (vec!["--listen", "127.0.0.1:0", "--control-listen", &address], vec!["--control-listen", &address]),
        (vec!["--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--models", "gone"], vec!["gone"]),
        (
            vec!["--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--dev-functions", "lost"],
            vec!["--dev-functions", "lost"],
        ),
    ] {
        let (code, log) = run(&folder, &arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {log}");
        for named in named {
            assert!(log.contains(named), "{arguments:?} does not tell of {named}: {log}");
        }
    }
}
