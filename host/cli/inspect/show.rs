//! What was found, for people: what it is, what it does, what it asks for, and the verdict last.
//!
//! Everything here comes from a foreign file: names are shown without control characters, and not without end.

use super::Inspected;
use super::component::Sizes;
use super::contract::{NAMESPACE, VERSION};
use super::verdict::Import;
use crate::failure::printable;
use crate::output::{self, MISSING, size as bytes, state_style};

/// Functions of one import that are named; the rest are counted.
const FUNCTIONS_MAX: usize = 12;
/// Imports that are looked at for their packages: a hostile component may have a million of them.
const IMPORTS_MAX: usize = 2000;
/// Imports and exports that are listed.
const NAMES_MAX: usize = 200;

pub(super) fn lines(inspected: &Inspected) -> Vec<String> {
    let verdict = &inspected.verdict;
    let mut lines = Vec::new();
    if let Some(sizes) = &verdict.sizes {
        lines.push(format!("{}: {}", printable(&inspected.file), size(sizes)));
        if !verdict.producers.is_empty() {
            // Versions end where commits and addresses begin.
            let made = verdict.producers.values().flatten().map(|made| made.split(" (").next().unwrap_or(made));
            let made: Vec<_> = made.collect();
            lines.push(format!("made with {}", printable(&made.join(", "))));
        }
        let stages = if verdict.stages.is_empty() { MISSING.to_owned() } else { verdict.stages.join(", ") };
        lines.push(format!("stages: {stages} (contract {VERSION})"));
        lines.push(String::new());
        lines.push(imports(&verdict.imports));
        let other = verdict.exports.iter().filter(|name| !name.starts_with(NAMESPACE));
        let other: Vec<_> = other.take(NAMES_MAX).map(|name| printable(name)).collect();
        if !other.is_empty() {
            lines.push(format!("\nexports that Tenon does not look at: {}", other.join(", ")));
        }
        lines.push(String::new());
    }
    function(inspected, &mut lines);
    verdict_lines(inspected, &mut lines);
    lines
}

fn size(sizes: &Sizes) -> String {
    let most = sizes.memory_max_bytes.map(|most| format!(", at most {}", bytes(most))).unwrap_or_default();
    format!(
        "{} (code {}, data {}, names and debug information {}); memory at the start {}{most}; {} core modules",
        bytes(sizes.file_bytes),
        bytes(sizes.code_bytes),
        bytes(sizes.data_bytes),
        bytes(sizes.custom_bytes),
        bytes(sizes.memory_bytes),
        sizes.core_modules,
    )
}

/// The contract's imports one by one, with what is used of them; all others by package, or there would be nothing else
/// to see: a language's runtime imports a dozen interfaces of WASI.
fn imports(imports: &[Import]) -> String {
    let shown = imports.iter().take(IMPORTS_MAX);
    let (own, others): (Vec<_>, Vec<_>) = shown.partition(|import| import.name.starts_with(NAMESPACE));
    let mut rows: Vec<(String, &str, String)> =
        own.into_iter().map(|import| (import.name.clone(), import.offer, some(&import.functions))).collect();
    for import in others {
        let (package, interface) = split(&import.name);
        match rows.iter_mut().find(|(name, offer, _)| *name == package && *offer == import.offer) {
            Some((.., interfaces)) => *interfaces = format!("{interfaces}, {interface}"),
            None => rows.push((package, import.offer, interface)),
        }
    }
    let more = rows.len().saturating_sub(NAMES_MAX) + imports.len().saturating_sub(IMPORTS_MAX);
    let rows: Vec<_> =
        rows.into_iter().take(NAMES_MAX).map(|(name, offer, used)| vec![name, here(offer), used]).collect();
    let mut table = output::table(&["import", "here", "used of it"], &rows);
    if more > 0 {
        table.push_str(&format!("\n… and {more} more"));
    }
    table
}

/// `wasi:cli/exit@0.2.6` as its package with the version, and the interface.
fn split(name: &str) -> (String, String) {
    let (path, version) = name.split_once('@').map_or((name, None), |(path, version)| (path, Some(version)));
    let (package, interface) = path.split_once('/').unwrap_or((path, MISSING));
    let package = version.map_or(package.to_owned(), |version| format!("{package}@{version}"));
    (package, interface.to_owned())
}

fn here(offer: &str) -> String {
    let here = match offer {
        "refuses" => "every call refuses",
        "not-offered" => "not offered",
        "type" => "a type",
        other => other,
    };
    here.to_owned()
}

fn some(functions: &[String]) -> String {
    let mut some = functions[..functions.len().min(FUNCTIONS_MAX)].join(", ");
    if functions.len() > FUNCTIONS_MAX {
        some.push_str(&format!(" and {} more", functions.len() - FUNCTIONS_MAX));
    }
    if some.is_empty() { MISSING.to_owned() } else { some }
}

fn function(inspected: &Inspected, lines: &mut Vec<String>) {
    let Some(Ok(function)) = &inspected.function else { return };
    for (alias, model) in &function.models {
        lines.push(format!("model {}: {} (only a host can tell whether it fits)", printable(alias), printable(model)));
    }
    let file = std::path::Path::new(&inspected.file).file_name().unwrap_or_default();
    if file != function.component.as_str() {
        lines.push(format!("note: function.toml names {}", printable(&function.component)));
    }
    let start = inspected.verdict.sizes.as_ref().map_or(0, |sizes| sizes.memory_bytes);
    if start > function.memory_bytes {
        let (start, most) = (bytes(start), bytes(function.memory_bytes));
        lines.push(format!("note: it wants {start} of memory at the start, limits.memory_bytes allows {most}"));
    }
}

fn verdict_lines(inspected: &Inspected, lines: &mut Vec<String>) {
    let refusals = inspected.refusals();
    let (good, bad) = (state_style("ok"), state_style("refused"));
    for (code, message) in &refusals {
        lines.push(format!("{bad}refused{bad:#} ({code}): {}", printable(message)));
    }
    if refusals.is_empty() && inspected.verdict.uncertain {
        lines.push("a host may take it: it holds types that cannot be read here".to_owned());
    } else if refusals.is_empty() {
        lines.push(format!("{good}would deploy{good:#}"));
    }
}
