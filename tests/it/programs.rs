//! Programs that some tests need, Debian's or PyPI's. Where one is missing its test says that it is skipped and what installs it;
//! where everything must be tested (`TENON_TEST_ALL=1`, as in CI) that is a failure.

#![allow(clippy::print_stderr, reason = "a skipped test should be seen")]

use std::{
    path::Path,
    process::{Child, Command},
};

/// Where packages of PyPI's lie.
const PYTHON: &str = ".tenon/python";

/// A program that runs; ended with the test, however that ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command for `program`, unless it is missing and may be.
pub fn program(program: &str, package: &str) -> Option<Command> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if found {
        return Some(Command::new(program));
    }
    skipped(&format!("{program} is missing: apt-get install -y --no-install-recommends {package}"))
}

/// Python with a package of PyPI's, likewise; `package` is what pip is told.
pub fn python(module: &str, package: &str) -> Option<Command> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(PYTHON);
    let mut python = program("python3", "python3")?;
    python.env("PYTHONPATH", &folder);
    if folder.join(module).is_dir() {
        return Some(python);
    }
    skipped(&format!("{module} is missing: python3 -m pip install --target {PYTHON} {package}"))
}

/// Python with PyTorch, as `setup/pytorch.py` sets it up.
pub fn pytorch() -> Option<Command> {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tenon/pytorch/site");
    if !site.join("torch/__init__.py").is_file() {
        return skipped("PyTorch is missing: make libtorch && python3.11 setup/pytorch.py");
    }
    let mut python = program("python3.11", "python3.11")?;
    python.env("PYTHONPATH", site);
    Some(python)
}

fn skipped<T>(missing: &str) -> Option<T> {
    assert!(std::env::var("TENON_TEST_ALL").as_deref() != Ok("1"), "{missing}");
    eprintln!("skipped: {missing}");
    None
}
