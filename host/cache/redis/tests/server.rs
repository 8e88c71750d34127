//! A `redis-server` of a test's own: on a free port, in a folder that goes with it.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use ::redis::{Client, Cmd, Value};

pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    pub(super) folder: tempfile::TempDir,
    args: Vec<String>,
}

impl Server {
    /// None, and a word about it, where there is no `redis-server`.
    pub(super) async fn start() -> Option<Self> {
        Self::with(&["--port", "{port}"]).await
    }

    /// With these arguments, in which `{port}` and `{dir}` are replaced.
    pub(super) async fn with(args: &[&str]) -> Option<Self> {
        Self::within(tempfile::tempdir().unwrap(), args).await
    }

    pub(super) async fn within(folder: tempfile::TempDir, args: &[&str]) -> Option<Self> {
        let port = free_port();
        let dir = folder.path().display().to_string();
        let fill = |arg: &&str| arg.replace("{port}", &port.to_string()).replace("{dir}", &dir);
        let mut all: Vec<String> = args.iter().map(fill).collect();
        all.extend(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &dir].map(String::from));
        let child = spawn(&all)?;
        let server = Self { child, port, folder, args: all };
        server.accepts().await;
        Some(server)
    }

    /// Again, as it was at first: what it held is gone.
    pub(super) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.args).unwrap();
        self.accepts().await;
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Asks it over a connection of its own.
    pub(super) async fn ask(&self, command: &Cmd) -> Value {
        self.try_ask(command).await.unwrap()
    }

    pub(super) async fn try_ask(&self, command: &Cmd) -> ::redis::RedisResult<Value> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        command.query_async(&mut client.get_multiplexed_async_connection().await?).await
    }

    /// The same, in words.
    pub(super) async fn run(&self, words: &str) -> Value {
        let mut words = words.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        self.ask(&command).await
    }

    async fn accepts(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not start: {:?}", self.args);
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill(); // also one that is stopped
    }
}

/// Below those that the system gives to whoever asks for any, so that none goes to somebody else while a server is away.
/// A cluster's servers talk to each other on a port 10,000 above theirs, which is free as well.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 120 * 100) as u16;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Relaxed)) % 12_000;
        if [port, port + 10_000].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn spawn(args: &[String]) -> Option<Child> {
    let spawned = Command::new("redis-server").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match spawned {
        Ok(child) => Some(child),
        Err(error) if std::env::var_os("TENON_TEST_ALL").is_some_and(|all| all == "1") => {
            panic!("redis-server cannot be started ({error}): apt-get install redis-server")
        }
        Err(error) => {
            eprintln!("SKIPPED: redis-server cannot be started ({error}): apt-get install redis-server");
            None
        }
    }
}
