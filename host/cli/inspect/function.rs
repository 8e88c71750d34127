//! `function.toml`, judged by the host's own code as far as no model is needed.
//!
//! The file of the host that owns the rules is compiled into this program, too: a second set of them would part from the
//! first. The host's limits are its defaults; a host may be set up otherwise, and says so itself when it refuses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;

use crate::failure::{Exit, Failure};

#[allow(unreachable_pub, unfulfilled_lint_expectations, reason = "public and documented in the host")]
#[allow(dead_code, reason = "the host uses the rest")]
#[path = "../../function/case.rs"]
mod case;
#[allow(unreachable_pub, unfulfilled_lint_expectations, reason = "public and documented in the host")]
#[allow(dead_code, reason = "the host uses the rest")]
#[path = "../../function/manifest.rs"]
mod manifest;
#[allow(unreachable_pub, unfulfilled_lint_expectations, reason = "public and documented in the host")]
#[allow(dead_code, reason = "the host uses the rest")]
#[path = "../../function/shallow.rs"]
mod shallow;

use manifest::Manifest;

/// The largest `function.toml` that is read.
const MAX_MANIFEST_BYTES: u64 = 256 << 10;

/// What of the host's limits `function.toml` is judged by.
#[derive(Debug, Serialize)]
pub(super) struct Config {
    pub(super) tenant_memory_bytes: u64,
    pub(super) max_timeout_ms: u64,
    pub(super) max_body_bytes: u64,
}

/// A host that is set up by nobody. A test of the host's holds these against its own.
impl Default for Config {
    fn default() -> Self {
        Self { tenant_memory_bytes: 2 << 30, max_timeout_ms: 300_000, max_body_bytes: 256 << 20 }
    }
}

/// What a `function.toml` says.
#[derive(Debug, Serialize)]
pub(super) struct Function {
    /// The component's file.
    pub(super) component: String,
    /// Models by the plugin's names for them; whether they are there only a host knows.
    pub(super) models: BTreeMap<String, String>,
    pub(super) memory_bytes: u64,
    /// Whether the host reads bodies instead of the plugin.
    pub(super) passthrough: bool,
}

/// Reads and judges; the inner error is what the host would say.
pub(super) fn read(path: &Path) -> Result<Result<Function, String>, Failure> {
    bytes(path).map(|text| judge(&text))
}

/// Reads a file, not much more of it than a host would.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |what: String| {
        Failure::new(Exit::Usage, format!("cannot read {}: {what}", path.display()))
            .hint("give the function.toml that lies beside the component")
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(|error| unreadable(error.to_string()))?;
    Ok(text)
}

/// Judges what was read.
pub(super) fn judge(text: &[u8]) -> Result<Function, String> {
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(format!("function.toml: has more than {MAX_MANIFEST_BYTES} bytes"));
    }
    let text = std::str::from_utf8(text).map_err(|_| "function.toml: is not UTF-8".to_owned())?;
    let manifest = Manifest::read(text, &Config::default()).map_err(|error| error.to_string())?;
    Ok(Function {
        passthrough: manifest.passes_through(),
        models: manifest.models.into_iter().map(|(alias, bound)| (alias, bound.model)).collect(),
        memory_bytes: manifest.limits.memory_bytes,
        component: manifest.component,
    })
}
