//! Tests that look at the whole process, and so need one of their own. nextest gives one to every test; where `cargo test`
//! runs all of them on threads of one process, such a test runs this program again with nothing else in it.

use std::process::Command;

/// Tells the second process that it is the one. No name of Tenon's: those configure hosts.
const MARK: &str = "ALONE_IN_THIS_PROCESS";
const PAGE_BYTES: u64 = 4096;

/// A process in which one test runs and nothing else.
pub struct Alone(());

impl Alone {
    /// This process, if `test` (with its module) has it to itself. Otherwise the test is run in another, where it must
    /// pass; here nothing is left to do.
    #[allow(clippy::print_stdout, reason = "what a test says is said where it was called")]
    pub fn run(test: &str) -> Option<Self> {
        let of_nextest = std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
        if of_nextest || std::env::var_os(MARK).is_some() {
            return Some(Self(()));
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([test, "--exact", "--nocapture", "--test-threads", "1"]).env(MARK, "1");
        let output = again.output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        print!("{said}");
        // A name that no test has would pass as well.
        assert!(output.status.success() && said.contains(" 1 passed"), "{test}: {}\n{said}\n{error}", output.status);
        None
    }

    /// What the process holds in memory at present: host, client and test.
    pub fn resident_bytes(&self) -> u64 {
        let figures = std::fs::read_to_string("/proc/self/statm").unwrap();
        figures.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * PAGE_BYTES
    }
}
