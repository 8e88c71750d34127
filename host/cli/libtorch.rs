//! Where libtorch is, and whether it is the release that the host was built for.
//!
//! It loads nothing: the version is read as text from `torch/version.py`, because loading a wrong release ends in
//! a symbol error, or in a crash, that names nobody. The first place that holds a libtorch decides; a wrong one
//! there is refused by name, not passed over for another.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};

/// The release whose C++ interface the host links against; no other is compatible.
pub(crate) const RELEASE: &str = "2.11.0";
/// The variable that names a libtorch.
pub(crate) const VARIABLE: &str = "TENON_LIBTORCH";
/// What must be in the folder for it to be a libtorch that runs.
const LIBRARY: &str = if cfg!(target_os = "macos") { "libtorch_cpu.dylib" } else { "libtorch_cpu.so" };
/// The checkout this program was built in, where set-up lays libtorch out.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Set-up's folder below a checkout.
const SETUP_FOLDER: &str = ".tenon/libtorch/site";
/// A version file is a dozen lines; more is something else.
const VERSION_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A libtorch that fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Libtorch {
    /// The folder with the shared libraries.
    pub(crate) lib: PathBuf,
    /// The whole version, such as `2.11.0+cu130`.
    pub(crate) version: String,
    /// How it was found, in words.
    pub(crate) found_by: String,
}

/// Where to look, apart from the process's real surroundings so that tests can bring their own.
#[derive(Debug)]
pub(crate) struct Places {
    /// The value of [`VARIABLE`].
    pub(crate) explicit: Option<OsString>,
    /// The folder of this program, links resolved.
    pub(crate) binary_dir: Option<PathBuf>,
    /// The checkout of build time.
    pub(crate) checkout: PathBuf,
    /// The working folder.
    pub(crate) working_dir: PathBuf,
}

impl Places {
    /// Those of this process.
    pub(crate) fn here(binary_dir: Option<PathBuf>) -> Self {
        let explicit = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        Self { explicit, binary_dir, checkout: CHECKOUT.into(), working_dir: ".".into() }
    }

    /// The `torch` folders to look at, in order, each with how it would be found.
    fn candidates(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        if let Some(dir) = &self.binary_dir {
            found.push((dir.join("../lib/tenon/libtorch/site"), "beside the program's folder"));
            found.push((dir.join("libtorch/site"), "beside the program"));
        }
        found.push((self.checkout.join(SETUP_FOLDER), "the set-up of the checkout it was built in"));
        found.push((self.working_dir.join(SETUP_FOLDER), "the set-up of the working folder"));
        found.into_iter().map(|(site, how)| (site.join("torch"), how.to_owned())).collect()
    }

    /// Finds libtorch and checks its release, or says what to do.
    pub(crate) fn find(&self) -> Result<Libtorch, Failure> {
        if let Some(value) = &self.explicit {
            let torch = torch_folder(Path::new(value)).ok_or_else(|| {
                let shown = Path::new(value).display();
                Failure::new(Exit::Environment, format!("{VARIABLE}={shown} holds no torch/version.py"))
                    .hint("set it to a site-packages folder with PyTorch's wheel in it, or unset it")
            })?;
            return check(&torch, VARIABLE.to_owned());
        }
        let candidates = self.candidates();
        for (torch, how) in &candidates {
            if torch.join("version.py").is_file() {
                return check(torch, how.clone());
            }
        }
        let mut failure = Failure::new(Exit::Environment, "libtorch was not found")
            .hint(format!("`make demo` in a checkout lays out {RELEASE}, or set {VARIABLE} to a site-packages folder"));
        failure.notes = candidates.iter().map(|(torch, how)| format!("not in {} ({how})", torch.display())).collect();
        Err(failure)
    }
}

/// The `torch` folder meant by a value that may be it, its `lib`, or a folder that contains it.
fn torch_folder(named: &Path) -> Option<PathBuf> {
    let inside = ["", "torch", "site/torch", ".."].map(|part| named.join(part));
    inside.into_iter().find(|folder| folder.join("version.py").is_file())
}

fn check(torch: &Path, found_by: String) -> Result<Libtorch, Failure> {
    let file = torch.join("version.py");
    let shown = file.display();
    let text = read_bounded(&file)
        .map_err(|error| Failure::new(Exit::Environment, format!("cannot read {shown}: {error}")))?;
    let version = version_in(&text).ok_or_else(|| {
        Failure::new(Exit::Environment, format!("{shown} states no __version__")).hint(advice(&found_by))
    })?;
    if version.split('+').next() != Some(RELEASE) {
        let message = format!("libtorch {version} does not fit: the host needs {RELEASE} (read from {shown})");
        return Err(Failure::new(Exit::Environment, message).hint(advice(&found_by)));
    }
    // Resolved, because it ends in a search path that the host keeps for all its life.
    let lib = torch.join("lib").canonicalize().unwrap_or_else(|_| torch.join("lib"));
    if !lib.join(LIBRARY).is_file() {
        let message = format!("libtorch {version} is incomplete: {} lacks {LIBRARY}", lib.display());
        return Err(Failure::new(Exit::Environment, message).hint(advice(&found_by)));
    }
    Ok(Libtorch { lib, version: version.to_owned(), found_by })
}

fn advice(found_by: &str) -> String {
    if found_by == VARIABLE {
        format!("unset {VARIABLE}, or set it to a folder with PyTorch {RELEASE}")
    } else {
        format!("remove that folder and run `make demo` in the checkout, or set {VARIABLE} to PyTorch {RELEASE}")
    }
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = Vec::new();
    File::open(file)?.take(VERSION_FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The value of the line `__version__ = '…'`.
fn version_in(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix("__version__")?.trim_start();
        // Annotated (`__version__: str = '…'`) or not.
        let value = value.split_once('=')?.1.trim();
        let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        value[1..].split(quote).next().filter(|version| !version.is_empty())
    })
}

#[cfg(test)]
#[path = "libtorch_tests.rs"]
mod tests;
