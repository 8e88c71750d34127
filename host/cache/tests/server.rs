//! A `redis-server` of a test's own: on a free port, in a folder that goes with it.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::redis::{Cmd, Value};

pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// None, and a word about it, where there is no `redis-server`.
    pub(super) async fn start() -> Option<Self> {
        // Another process may take the port in between: then the server ends at once, and the next try has another port.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.arg("--dir").arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = match command.spawn() {
                Ok(child) => child,
                Err(missing) => return skip(&missing),
            };
            let mut server = Self { child, port, _folder: folder };
            if server.accepts().await {
                return Some(server);
            }
        }
        panic!("redis-server does not come up");
    }

    async fn accepts(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Asks it over a connection of its own.
    pub(super) async fn ask(&self, command: &Cmd) -> Value {
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        command.query_async(&mut client.get_multiplexed_async_connection().await.unwrap()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
fn skip<T>(missing: &std::io::Error) -> Option<T> {
    assert!(std::env::var("TENON_TEST_ALL").is_err(), "redis-server: {missing}");
    eprintln!("SKIPPED, there is no redis-server ({missing}): apt-get install redis-server");
    None
}
