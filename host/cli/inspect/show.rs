//! What was found, for people: what it is, what it does, what it asks for, and the verdict last.
//!
//! Everything here comes from a foreign file: names are shown without control characters, and not without end.

use super::Inspected;
use super::component::Sizes;
use super::contract::VERSION;
use super::verdict::Import;
use crate::failure::printable;
use crate::output::{self, MISSING, state_style};

/// Functions of one import that are named; the rest are counted.
const FUNCTIONS_MAX: usize = 12;
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
        let other = verdict.exports.iter().filter(|name| !name.starts_with(super::contract::NAMESPACE));
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

fn imports(imports: &[Import]) -> String {
    let rows: Vec<_> = imports.iter().take(NAMES_MAX).map(row).collect();
    let mut table = output::table(&["import", "here", "used of it"], &rows);
    if imports.len() > NAMES_MAX {
        table.push_str(&format!("\n… and {} more", imports.len() - NAMES_MAX));
    }
    table
}

fn row(import: &Import) -> Vec<String> {
    let here = match import.offer {
        "refuses" => "every call refuses",
        "not-offered" => "not offered",
        "type" => "a type",
        other => other,
    };
    let mut functions = import.functions[..import.functions.len().min(FUNCTIONS_MAX)].join(", ");
    if import.functions.len() > FUNCTIONS_MAX {
        functions.push_str(&format!(" and {} more", import.functions.len() - FUNCTIONS_MAX));
    }
    vec![import.name.clone(), here.to_owned(), functions]
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

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}
