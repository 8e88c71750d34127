//! `tenon inspect`: what a component exports, imports and needs, and whether a host would take it, before it is deployed.
//!
//! It runs nothing and asks no host. `component` reads the file, `types` compares with `wit/`, `function` judges
//! `function.toml`, `verdict` says what the host would say; `contract` and the rules of `function.toml` are the host's own
//! files, so that there is one of each.

mod component;
#[allow(unreachable_pub, unfulfilled_lint_expectations, reason = "public and documented in the host")]
#[allow(dead_code, reason = "the host uses the rest")]
#[path = "../../sandbox/contract.rs"]
mod contract;
mod function;
mod show;
mod types;
mod verdict;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Stop};
use crate::output;
use component::Bytes;
use contract::VERSION;
use function::Function;
use verdict::{Limits, Verdict};

/// A `function.toml` that a host refuses.
const MANIFEST_CODE: &str = "function-toml";

/// Flags of `tenon inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectFlags {
    /// The component, such as target/wasm32-wasip2/release/words.wasm
    #[arg(value_name = "PLUGIN.wasm")]
    component: PathBuf,
    /// The function.toml to be deployed with it: judged, too, but for what only a host with its models can
    #[arg(long, short, value_name = "FILE")]
    function: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything that is shown.
struct Inspected {
    file: String,
    verdict: Verdict,
    /// What `function.toml` says, or why it is refused; none where none was given.
    function: Option<Result<Function, String>>,
}

/// Runs the command.
pub(crate) fn run(flags: &InspectFlags) -> Result<(), Stop> {
    let limits = Limits::default();
    let bytes = component::read(&flags.component, limits.component_bytes)?;
    let function = flags.function.as_deref().map(function::read).transpose()?;
    let passthrough = matches!(&function, Some(Ok(function)) if function.passthrough);
    let verdict = verdict::judge(&bytes, &limits, passthrough);
    let inspected = Inspected { file: flags.component.display().to_string(), verdict, function };
    if flags.json {
        output::json(&inspected.as_json(&limits))?;
    } else {
        show::lines(&inspected).iter().try_for_each(|line| output::line(line))?;
    }
    if inspected.refusals().is_empty() { Ok(()) } else { Err(Stop::Said(Exit::Function)) }
}

/// A function as it is sent to a host.
pub(crate) struct Plugin {
    pub(crate) component: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// Reads both files of a function; where `judged`, what a host would refuse at once is refused here, in its words.
pub(crate) fn plugin(component: &Path, manifest: &Path, judged: bool) -> Result<Plugin, Failure> {
    let limits = Limits::default();
    let bytes = component::read(component, limits.component_bytes)?;
    let text = function::bytes(manifest)?;
    if judged {
        let function = function::judge(&text);
        let passthrough = matches!(&function, Ok(function) if function.passthrough);
        let verdict = verdict::judge(&bytes, &limits, passthrough);
        let inspected = Inspected { file: component.display().to_string(), verdict, function: Some(function) };
        if let Some((code, why)) = inspected.refusals().into_iter().next() {
            let file = if code == MANIFEST_CODE { manifest } else { component };
            let hint = "`tenon inspect` says more; --no-check leaves the judgement to the host, which may be newer";
            let message = format!("{} would be refused ({code}): {why}", file.display());
            return Err(Failure::new(Exit::Function, message).hint(hint));
        }
    }
    match bytes {
        Bytes::Whole(component) => Ok(Plugin { component, manifest: text }),
        Bytes::TooLarge(size) => {
            let message = format!("{} has {size} bytes, at most {}", component.display(), limits.component_bytes);
            Err(Failure::new(Exit::Function, message).hint("build with --release, and strip debug information"))
        }
    }
}

impl Inspected {
    /// What a host would say, by code and sentence.
    fn refusals(&self) -> Vec<(&'static str, String)> {
        let manifest = self.function.as_ref().and_then(|function| function.as_ref().err());
        let manifest = manifest.map(|why| (MANIFEST_CODE, why.clone()));
        let component = self.verdict.refusal.as_ref().map(|refusal| (refusal.code(), refusal.to_string()));
        // The host reads function.toml first.
        manifest.into_iter().chain(component).collect()
    }

    fn as_json(&self, limits: &Limits) -> Value {
        let verdict = &self.verdict;
        let refusals = self.refusals();
        let deploys = (!verdict.uncertain || !refusals.is_empty()).then_some(refusals.is_empty());
        let refusals: Vec<_> =
            refusals.into_iter().map(|(code, message)| json!({ "code": code, "message": message })).collect();
        let function = self.function.as_ref().and_then(|function| function.as_ref().ok());
        json!({
            "file": self.file,
            "contract": VERSION,
            "deploys": deploys,
            "refusals": refusals,
            "stages": verdict.stages,
            "imports": verdict.imports,
            "exports": verdict.exports,
            "sizes": verdict.sizes,
            "producers": verdict.producers,
            "function": function,
            "limits": { "sandbox": limits, "function": function::Config::default() },
        })
    }
}
