//! One shell in which a page's commands run one after another, as in a terminal, and the host that is started from it.
//!
//! Refuses to know the page. The host is this file's to end, also where the test fails.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Told apart from everything that commands say.
const END: &str = "--- end of block, status ";
/// How long a host may take to serve, in steps of a fifth of a second; it may have to measure the model first.
const START_ATTEMPTS: u32 = 600;

pub(crate) struct Shell {
    child: Child,
    commands: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    host: Option<String>,
}

impl Shell {
    /// A shell in `folder`, with nothing of this environment that could configure Tenon, and free ports.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TENON_")) {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("TENON_LISTEN", "127.0.0.1:0").env("TENON_CONTROL_LISTEN", "127.0.0.1:0");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, said) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut shell = Self { child, commands, said, host: None };
        shell.try_run("exec 2>&1");
        shell
    }

    /// Runs commands, the last of which may fail; gives what they said.
    pub(crate) fn try_run(&mut self, commands: &str) -> String {
        self.block("set +e", commands).0
    }

    /// Runs commands that must not fail.
    pub(crate) fn run(&mut self, commands: &str) -> String {
        let (said, status) = self.block("set -e", commands);
        assert_eq!(status, "0", "`{commands}` failed:\n{said}");
        said
    }

    fn block(&mut self, mode: &str, commands: &str) -> (String, String) {
        let script = format!(
            "{mode}\n{{\n{commands}\n}} < /dev/null\nstatus=$?; set +e; printf '\\n%s%s\\n' '{END}' \"$status\"\n"
        );
        let stdin = self.commands.as_mut().expect("open until the end");
        stdin.write_all(script.as_bytes()).unwrap();
        stdin.flush().unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            assert!(read > 0, "`{commands}` ended the shell:\n{said}");
            if let Some(status) = line.strip_prefix(END) {
                return (said, status.trim().to_owned());
            }
            said.push_str(&line);
        }
    }

    /// Whether a program is there.
    pub(crate) fn has(&mut self, program: &str) -> bool {
        !self.try_run(&format!("command -v {program}")).trim().is_empty()
    }

    /// Waits until the host that was started last serves, and makes it the one that `tenon` asks; gives its address.
    pub(crate) fn host_serves(&mut self, log: &Path) -> String {
        self.host = Some(self.run("echo $!").trim().to_owned());
        for _ in 0..START_ATTEMPTS {
            let text = fs::read_to_string(log).unwrap_or_default();
            // The control plane is told last.
            if text.contains("control plane on ") {
                let (_, after) = text.split_once("data plane on http://").expect("told before the control plane");
                let address = after.split([',', ' ', '\n']).next().unwrap_or_default().to_owned();
                self.run(&format!("export TENON_HOST=http://{address}"));
                return address;
            }
            let lives = self.try_run("kill -0 $! && echo yes");
            assert!(lives.contains("yes"), "the host ended before it served:\n{text}");
            self.run("sleep 0.2");
        }
        panic!("the host does not serve:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Ends the host as the page does, and waits for its end.
    pub(crate) fn end_host(&mut self) {
        let pid = self.host.take().expect("a host was started");
        self.run(&format!("kill %1; wait {pid}"));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(pid) = self.host.take() {
            // It may have ended by itself.
            let _ = Command::new("kill").arg(pid).status();
        }
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
