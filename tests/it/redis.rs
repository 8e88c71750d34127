//! A `redis-server` of a test's own, and what is done to it: on a free port, in a folder that goes with it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tenon_host::config::Config;

/// How long one may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// None, and a word about it, where there is no `redis-server`.
    pub fn start() -> Option<Self> {
        // Another process may take the port in between: then the server ends at once, and the next try has another port.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Self::at(port)?;
            if server.accepts() {
                return Some(server);
            }
        }
        panic!("redis-server does not come up");
    }

    #[expect(clippy::print_stderr, reason = "a test that does not run says so")]
    fn at(port: u16) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Self { child, port }),
            Err(missing) => {
                assert!(std::env::var("TENON_TEST_ALL").is_err(), "redis-server: {missing}");
                eprintln!("SKIPPED, there is no redis-server ({missing}): apt-get install redis-server");
                None
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a few milliseconds, before the test begins")]
    fn accepts(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Where it is, for a host that is to use it.
    pub fn configure(&self, config: &mut Config) {
        config.cache.redis_url = Some(format!("redis://127.0.0.1:{}", self.port));
    }

    /// What it answers to a command, as it stands on the wire; the commands of tests have short answers.
    pub fn ask(&self, command: &str) -> String {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        line.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = vec![0; 1 << 20];
        let mut length = line.read(&mut answer).unwrap();
        // A list may come in several pieces.
        line.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while let Ok(more @ 1..) = line.read(&mut answer[length..]) {
            length += more;
        }
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Another one at the same port, with nothing in it.
    pub fn again(&mut self) {
        self.kill();
        *self = Self::at(self.port).unwrap();
        assert!(self.accepts());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status();
        self.kill();
    }
}
