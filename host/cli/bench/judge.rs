//! Whether a run was good enough: nothing succeeded, too many errors, a figure over its limit.
//!
//! It reads saved figures and decides how the program ends; what the figures are is `saved`'s matter. A run in which
//! nothing succeeded fails whatever was asked, because its table would look like one of a very quick server.

use std::time::Duration;

use super::flags::parse_duration;
use super::saved::{Latency, Saved, SavedCell};
use super::wire::Missed;
use crate::failure::{Exit, Failure};
use crate::problem::exit_of;

const HINT: &str = "`tenon invoke` shows one answer whole; `tenon doctor` looks at the host";

/// `p99>50ms`: a run in which a cell's figure is over it fails.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    figure: Figure,
    name: String,
    most: Duration,
}

type Figure = fn(&Latency) -> f64;

const FIGURES: [(&str, Figure); 8] = [
    ("p50", |latency| latency.p50),
    ("p90", |latency| latency.p90),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("p99.9", |latency| latency.p999),
    ("p999", |latency| latency.p999),
    ("max", |latency| latency.max),
    ("mean", |latency| latency.mean),
];

impl Limit {
    /// Reads a flag.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, most) = text.split_once('>').ok_or("write a figure and a limit, such as p99>50ms")?;
        let names = FIGURES.map(|(name, _)| name).join(", ");
        let known = FIGURES.iter().find(|(known, _)| *known == name.trim());
        let (name, figure) = known.ok_or_else(|| format!("`{}` is not one of {names}", name.trim()))?;
        Ok(Self { figure: *figure, name: (*name).to_owned(), most: parse_duration(most)? })
    }

    fn broken_by(&self, cell: &SavedCell) -> Option<String> {
        // What never answered is not quick; the waits in vain are cut where the timeout cut them.
        let latency = cell.latency_ms.as_ref().filter(|_| cell.errors < cell.requests);
        let Some(latency) = latency else {
            return Some(format!("{}: no good answer, so {} is not within {:?}", cell.name(), self.name, self.most));
        };
        let (found, most) = ((self.figure)(latency), self.most.as_secs_f64() * 1e3);
        (found > most).then(|| format!("{}: {} is {found:.3} ms, over {most} ms", cell.name(), self.name))
    }
}

/// The verdict on a run.
pub(super) fn judge(saved: &Saved, max_errors: Option<f64>, limits: &[Limit]) -> Result<(), Failure> {
    let cells = &saved.cells;
    let requests: u64 = cells.iter().map(|cell| cell.requests).sum();
    let errors: u64 = cells.iter().map(|cell| cell.errors).sum();
    if requests == 0 {
        let message =
            if saved.interrupted { "interrupted before anything was measured" } else { "nothing was measured" };
        return Err(Failure::new(Exit::Capacity, message).hint("measure for longer with --duration"));
    }
    if errors == requests {
        return Err(worst(cells, saved, format!("none of {requests} requests succeeded")));
    }
    if let Some(most) = max_errors
        && let Some(cell) = cells.iter().find(|cell| cell.errors as f64 > most * cell.requests as f64)
    {
        let (errors, requests) = (cell.errors, cell.requests);
        let message = format!("{}: {errors} of {requests} requests failed, more than {most} of them", cell.name());
        return Err(worst(std::slice::from_ref(cell), saved, message));
    }
    match limits.iter().find_map(|limit| cells.iter().find_map(|cell| limit.broken_by(cell))) {
        Some(broken) => Err(Failure::new(Exit::Capacity, broken)),
        None => Ok(()),
    }
}

/// A failure whose exit code is that of the most frequent error.
fn worst(cells: &[SavedCell], saved: &Saved, message: String) -> Failure {
    let mut seen: Vec<(u64, String, Exit)> = Vec::new();
    let mut see = |n: u64, name: String, exit: Exit| match seen.iter_mut().find(|(_, known, _)| *known == name) {
        Some((count, ..)) => *count += n,
        None => seen.push((n, name, exit)),
    };
    for cell in cells {
        let bad = cell.statuses.iter().filter(|(status, _)| **status >= 400);
        bad.for_each(|(status, n)| see(*n, format!("status {status}"), exit_of(*status, "")));
        for (name, n) in &cell.missed {
            let lost = name == Missed::Connect.name() || name == Missed::Broken.name();
            see(*n, name.clone(), if lost { Exit::Environment } else { Exit::Capacity });
        }
    }
    let worst = seen.into_iter().max_by_key(|(count, ..)| *count);
    let Some((count, name, exit)) = worst else { return Failure::new(Exit::Tenon, message) };
    let mut failure = Failure::new(exit, message);
    failure.notes.push(format!("most often: {name}, {count} times, at {}", saved.target.url));
    failure.notes.extend(codes(cells));
    failure.hint(HINT)
}

/// Codes that errors gave.
fn codes(cells: &[SavedCell]) -> Option<String> {
    let mut names: Vec<_> = cells.iter().flat_map(|cell| cell.codes.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("codes: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::flags::Load;
    use super::super::run::Driven;
    use super::super::saved::Sum;
    use super::super::tally::{Ended, Tally};
    use super::super::wire::Answered;
    use super::*;

    fn cell(results: impl IntoIterator<Item = Result<Answered, Missed>>) -> SavedCell {
        let mut tally = Tally::new().unwrap();
        let from = Instant::now();
        let to = from + Duration::from_millis(20);
        results.into_iter().for_each(|result| {
            tally.count(Ended { result, from, to, bytes_out: 0, in_time: true });
        });
        let mut sum = Sum::new(Load::Closed(1));
        sum.add(Driven { tally, time: Duration::from_secs(1), interrupted: false });
        sum.cell().unwrap()
    }

    fn status(status: u16) -> Result<Answered, Missed> {
        Ok(Answered { status, bytes: 0, code: None, retry_after: None })
    }

    #[test]
    fn a_cell_without_a_good_answer_breaks_every_limit() {
        let (wide, narrow) = (Limit::parse("p99>1s").unwrap(), Limit::parse("p99>5ms").unwrap());
        let good = cell([status(200), status(503)]);
        assert!(wide.broken_by(&good).is_none());
        assert!(narrow.broken_by(&good).unwrap().contains("over 5 ms"));
        for bad in [cell([]), cell([status(503)]), cell([Err(Missed::Timeout)]), cell([Err(Missed::Connect)])] {
            let said = wide.broken_by(&bad).unwrap();
            assert_eq!(said, "1 client: no good answer, so p99 is not within 1s");
        }
    }

    #[test]
    fn limits_are_read() {
        let limit = Limit::parse("p99.9>1500ms").unwrap();
        assert_eq!((limit.name.as_str(), limit.most), ("p99.9", Duration::from_millis(1500)));
        for text in ["p99", "p98>1s", "p99>fast", "p99>0s"] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }
}
