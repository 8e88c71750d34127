//! The figures of BENCHMARKS.md, each compared with something in the same run: `make bench`, or a part of it by name,
//! `make bench BENCH=identity`. Servers listen on loopback; loops are bounded in time.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, reason = "a program that prints figures")]

mod apart;
mod around;
mod bare;
mod copy;
mod cores;
mod efficiency;
mod fair;
mod forward;
mod images;
mod instance;
mod latency;
mod neighbour;
mod overload;
mod peers;
mod place;
mod process;
mod remembered;
mod requests;
mod scaling;
mod services;
mod stamp;
mod start;
mod swaps;
mod tenants;
mod watched;
mod wire;

use std::{path::Path, process::ExitCode, time::Duration};

/// What is measured, by name.
const PARTS: [(&str, fn()); 18] = [
    ("instance", instance::measure),
    ("copy", copy::measure),
    ("images", images::measure),
    ("scaling", scaling::measure),
    ("empty", requests::empty),
    ("identity", requests::identity),
    ("neighbour", neighbour::measure),
    ("latency", latency::measure),
    ("overload", overload::measure),
    ("forward", forward::measure),
    ("efficiency", efficiency::measure),
    ("tenants", tenants::measure),
    ("fair", fair::measure),
    ("start", start::measure),
    ("swaps", swaps::measure),
    ("remembered", remembered::measure),
    ("services", services::measure),
    ("peers", peers::measure),
];
/// Turns that each side takes; the median of the ratios is told.
const TURNS: usize = 5;

fn main() -> ExitCode {
    // What begins with `-` is cargo's.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let known = PARTS.map(|(name, _)| name);
    if let Some(unknown) = wanted.iter().find(|part| !known.contains(&&part[..])) {
        eprintln!("error: there is no benchmark `{unknown}`, only {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            measure();
        }
    }
    ExitCode::SUCCESS
}

/// A file that `make bench` has made.
fn made(path: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is missing: run `make bench`", path.display());
    path
}

/// The value below which `share` of the sorted times lie, in microseconds.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index].as_secs_f64() * 1e6
}

/// The middle one.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
