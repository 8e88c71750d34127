//! `tenon bench --compare OLD.json NEW.json`: two saved runs cell by cell, and which differences mean something.
//!
//! The rule is plain: a figure differs when the lowest and highest of one run's turns do not overlap the other's. Runs
//! without several turns (`--repeat`) cannot tell noise from change, and this says so instead of guessing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::saved::{FORMAT, Latency, Repetition, Saved, SavedCell};
use super::table::figure;
use crate::failure::{Exit, Failure, Stop};
use crate::output::{self, MISSING};

/// A saved run of a thousand cells with a hundred turns each is far smaller.
const SAVED_BYTES_MAX: u64 = 256 << 20;

/// Whether a difference is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Meaning {
    /// The turns of the two runs do not overlap.
    Differs,
    /// They do.
    WithinNoise,
    /// One of the runs has a single turn.
    Unknown,
}

/// One figure of a cell in both runs.
#[derive(Debug, Serialize)]
struct Pair {
    old: f64,
    new: f64,
    ratio: f64,
    meaning: Meaning,
}

/// A cell that both runs have.
#[derive(Debug, Serialize)]
struct Compared {
    clients: Option<u32>,
    rate: Option<f64>,
    requests_per_second: Option<Pair>,
    p50_ms: Option<Pair>,
    p99_ms: Option<Pair>,
    errors_old: u64,
    errors_new: u64,
}

#[derive(Debug, Serialize)]
struct Comparison {
    old: String,
    new: String,
    /// What else is different between the two.
    notes: Vec<String>,
    cells: Vec<Compared>,
}

/// Runs the comparison.
pub(super) fn run(paths: &[PathBuf], json: Option<&Path>) -> Result<(), Stop> {
    let [old, new] = paths else { return Err(Failure::new(Exit::Usage, "two saved runs are compared").into()) };
    let (saved_old, saved_new) = (read(old)?, read(new)?);
    let cells: Vec<_> = saved_old.cells.iter().filter_map(|cell| compared(cell, &saved_new)).collect();
    if cells.is_empty() {
        let message = format!("{} and {} have no cell in common", old.display(), new.display());
        return Err(Failure::new(Exit::Usage, message).hint("measure both with the same --clients or --rate").into());
    }
    let notes = notes(&saved_old, &saved_new, cells.len());
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let comparison = Comparison { old, new, notes, cells };
    if let Some(path) = json {
        let value = super::as_json(&comparison)?;
        if path.as_os_str() == "-" {
            return Ok(output::json(&value)?);
        }
        super::write(path, &format!("{value:#}\n"))?;
    }
    show(&comparison)
}

fn read(path: &Path) -> Result<Saved, Failure> {
    let wrong = |what: String| {
        Failure::new(Exit::Usage, format!("{}: {what}", path.display()))
            .hint("give two files that `tenon bench … --json FILE` has written")
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(SAVED_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let saved: Saved = serde_json::from_str(&text).map_err(|error| wrong(format!("not a saved run: {error}")))?;
    if saved.format != FORMAT {
        return Err(wrong(format!("its format is `{}`, `{FORMAT}` is read here", saved.format)));
    }
    Ok(saved)
}

fn compared(old: &SavedCell, run: &Saved) -> Option<Compared> {
    let new = run.cells.iter().find(|cell| cell.clients == old.clients && cell.rate == old.rate)?;
    let latency = |of: fn(&Latency) -> f64| {
        let turn = move |turn: &Repetition| turn.latency_ms.as_ref().map(of);
        let whole = |cell: &SavedCell| cell.latency_ms.as_ref().map(of);
        pair(whole(old)?, whole(new)?, turns(old, turn), turns(new, turn))
    };
    let rate = |turn: &Repetition| Some(turn.requests_per_second);
    let (rate_old, rate_new) = (old.requests_per_second, new.requests_per_second);
    Some(Compared {
        clients: old.clients,
        rate: old.rate,
        requests_per_second: pair(rate_old, rate_new, turns(old, rate), turns(new, rate)),
        p50_ms: latency(|latency| latency.p50),
        p99_ms: latency(|latency| latency.p99),
        errors_old: old.errors,
        errors_new: new.errors,
    })
}

/// The lowest and highest of a cell's turns; none of fewer than two.
fn turns(cell: &SavedCell, figure: impl Fn(&Repetition) -> Option<f64>) -> Option<(f64, f64)> {
    let figures: Vec<_> = cell.repetitions.iter().filter_map(figure).collect();
    let range = figures.iter().fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(*one), high.max(*one)));
    (figures.len() > 1).then_some(range)
}

/// None where there is nothing to divide by.
fn pair(old: f64, new: f64, turns_old: Option<(f64, f64)>, turns_new: Option<(f64, f64)>) -> Option<Pair> {
    let meaning = match (turns_old, turns_new) {
        (Some(old), Some(new)) if old.0 <= new.1 && new.0 <= old.1 => Meaning::WithinNoise,
        (Some(_), Some(_)) => Meaning::Differs,
        _ => Meaning::Unknown,
    };
    (old > 0.0).then(|| Pair { old, new, ratio: new / old, meaning })
}

/// What besides the server could explain a difference.
fn notes(old: &Saved, new: &Saved, common: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differ = |what: &str, old: String, new: String| {
        if old != new {
            notes.push(format!("{what}: {old} then, {new} now"));
        }
    };
    differ("target", old.target.url.clone(), new.target.url.clone());
    differ("HTTP", old.target.http.clone(), new.target.http.clone());
    differ("bytes of bodies", old.target.body_bytes.to_string(), new.target.body_bytes.to_string());
    differ(
        "cpu",
        format!("{} × {}", old.machine.cores, old.machine.cpu),
        format!("{} × {}", new.machine.cores, new.machine.cpu),
    );
    differ("tenon", old.tenon.clone(), new.tenon.clone());
    let settings = |saved: &Saved| serde_json::to_value(&saved.settings).unwrap_or_default();
    let (then, now) = (settings(old), settings(new));
    for (name, value) in then.as_object().into_iter().flatten() {
        // More turns are no other way of measuring.
        if name != "repeat" {
            differ(name, value.to_string(), now[name].to_string());
        }
    }
    let alone = old.cells.len() + new.cells.len() - 2 * common;
    if alone > 0 {
        notes.push(format!("{alone} cells are in one of the runs alone"));
    }
    notes
}

fn show(comparison: &Comparison) -> Result<(), Stop> {
    let rows: Vec<_> = comparison.cells.iter().map(row).collect();
    output::line(&output::table(&["cell", "requests/s", "p50 ms", "p99 ms", "errors"], &rows))?;
    output::line("")?;
    let pairs = || comparison.cells.iter().flat_map(|cell| [&cell.requests_per_second, &cell.p50_ms, &cell.p99_ms]);
    let any = |meaning| pairs().flatten().any(|pair| pair.meaning == meaning);
    if any(Meaning::Unknown) {
        output::line(
            "?  a run without several turns: noise and change cannot be told apart; measure both with --repeat 5",
        )?;
    }
    if any(Meaning::WithinNoise) {
        output::line("≈  within noise: the turns of the two runs overlap")?;
    }
    comparison.notes.iter().try_for_each(|note| output::line(&format!("note: {}", crate::failure::printable(note))))?;
    Ok(())
}

fn row(cell: &Compared) -> Vec<String> {
    let name = match (cell.clients, cell.rate) {
        (Some(clients), _) => format!("{clients} clients"),
        (None, rate) => format!("{}/s", rate.unwrap_or_default()),
    };
    let show = |pair: &Option<Pair>| {
        pair.as_ref().map_or(MISSING.to_owned(), |pair| {
            let mark = match pair.meaning {
                Meaning::Differs => "",
                Meaning::WithinNoise => " ≈",
                Meaning::Unknown => " ?",
            };
            format!("{} → {} ({:.2}×{mark})", figure(pair.old), figure(pair.new), pair.ratio)
        })
    };
    let errors = format!("{} → {}", cell.errors_old, cell.errors_new);
    vec![name, show(&cell.requests_per_second), show(&cell.p50_ms), show(&cell.p99_ms), errors]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_turns_that_do_not_overlap_are_a_difference() {
        let meaning = |old, new| pair(10.0, 12.0, old, new).unwrap().meaning;
        assert_eq!(meaning(Some((9.0, 11.0)), Some((11.5, 12.5))), Meaning::Differs);
        assert_eq!(meaning(Some((9.0, 11.6)), Some((11.5, 12.5))), Meaning::WithinNoise);
        assert_eq!(meaning(Some((13.0, 14.0)), Some((11.5, 12.5))), Meaning::Differs);
        assert_eq!(meaning(None, Some((11.5, 12.5))), Meaning::Unknown);
        assert!(pair(0.0, 1.0, None, None).is_none());
    }
}
