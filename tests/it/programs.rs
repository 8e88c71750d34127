//! Programs of Debian's that some tests need. Where one is missing its test says that it is skipped and what installs it;
//! where everything must be tested (`TENON_TEST_ALL=1`, as in CI) that is a failure.

#![allow(clippy::print_stderr, reason = "a skipped test should be seen")]

use std::process::Command;

/// A command for `program`, unless it is missing and may be.
pub fn program(program: &str, package: &str) -> Option<Command> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if found {
        return Some(Command::new(program));
    }
    let missing = format!("{program} is missing: apt-get install -y --no-install-recommends {package}");
    assert!(std::env::var("TENON_TEST_ALL").as_deref() != Ok("1"), "{missing}");
    eprintln!("skipped: {missing}");
    None
}
