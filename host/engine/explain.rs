//! `tenon explain`: why a model batches as it does, as one document.
//!
//! Owns the document's shape. Refuses to know how it is shown, and to disturb anything: the queue is copied once under
//! its lock, and what lanes note is theirs.

use std::time::Instant;

use serde::Serialize;

use super::{
    advice::{Advice, Settings, advice},
    figures::{Figures, ms},
    history::{self, History, Past},
    manifest::Manifest,
    profile::Profile,
    waiting::Waiting,
};

/// Batches that are foreseen; of what comes behind them rows are counted.
const FORESEEN_BATCHES: usize = 32;

/// Why a model batches as it does.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// Where it computes.
    pub device: String,
    /// What bounds its batches.
    pub settings: Settings,
    /// What a batch is expected to take, by the elements of its rows.
    pub profile: Vec<Expected>,
    /// The last batches taken together.
    pub figures: Figures,
    /// The last batches, latest first.
    pub batches: Vec<Ran>,
    /// What waits at this moment, and what would become of it.
    pub queue: Foreseen,
    /// What follows from the figures.
    pub advice: Vec<Advice>,
}

/// One line of the profile.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Elements of each row, padding included.
    pub row_elements: u64,
    /// A batch of one row.
    pub first_row_ms: f64,
    /// Each further row.
    pub further_row_ms: f64,
}

/// A batch that ran.
#[derive(Clone, Debug, Serialize)]
pub struct Ran {
    /// How long ago it began.
    pub ago_ms: f64,
    /// Which lane ran it.
    pub lane: usize,
    /// Why no more rows were taken.
    pub reason: &'static str,
    /// Rows.
    pub rows: usize,
    /// Requests that they belong to.
    pub requests: usize,
    /// Tenants among `parts`.
    pub tenants: usize,
    /// Rows that waited when it was formed, its own included.
    pub waiting_rows: usize,
    /// Requests that they belonged to.
    pub waiting_requests: usize,
    /// Elements of its rows.
    pub elements: u64,
    /// The same with padding.
    pub padded_elements: u64,
    /// Time on the instance.
    pub instance_ms: f64,
    /// What the profile says of such a batch.
    pub predicted_ms: Option<f64>,
    /// Times that rows were given to the model: more than 1 where it threw.
    pub runs: usize,
    /// The rows of the first requests, request by request.
    pub parts: Vec<Part>,
}

/// The rows of one request in a batch.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Whose.
    pub tenant: String,
    /// Of which function.
    pub function: String,
    /// How many.
    pub rows: usize,
    /// How long each waited.
    pub queue_ms: f64,
    /// Elements of the shortest.
    pub shortest: u64,
    /// Elements of the longest.
    pub longest: u64,
}

/// What waits, and what would run if lanes were free now and nothing else came.
#[derive(Clone, Debug, Serialize)]
pub struct Foreseen {
    /// Rows that wait.
    pub rows: usize,
    /// Batches of them that are foreseen.
    pub batches: usize,
    /// In the order in which lanes would take them.
    pub next: Vec<Next>,
}

/// A batch that would run.
#[derive(Clone, Debug, Serialize)]
pub struct Next {
    /// How long it would wait for company first.
    pub wait_ms: f64,
    /// Why no more rows are taken.
    pub reason: &'static str,
    /// Rows.
    pub rows: usize,
    /// Requests that they belong to.
    pub requests: usize,
    /// Elements of its rows.
    pub elements: u64,
    /// The same with padding.
    pub padded_elements: u64,
    /// What the profile says that it takes.
    pub predicted_ms: Option<f64>,
    /// The rows of the first requests.
    pub parts: Vec<Part>,
}

/// Everything there is to say: `named` is name, version and device.
pub(super) fn explain(
    named: (String, u64, String),
    (manifest, lanes): (&Manifest, usize),
    profile: &Profile,
    (history, waiting): (&History, &Waiting),
) -> Explanation {
    let (model, version, device) = named;
    let (now, batches) = (Instant::now(), history.batches());
    let settings = Settings {
        max_batch_size: manifest.max_batch_size,
        max_batch_elements: Some(manifest.max_batch_elements).filter(|most| *most < u64::MAX),
        max_batch_ms: ms(manifest.max_batch),
        max_queue_delay_ms: ms(manifest.max_queue_delay),
        max_queue_size: manifest.max_queue_size,
        queue_timeout_ms: ms(manifest.queue_timeout),
        lanes,
    };
    let figures = Figures::of(&batches, lanes, Some(profile));
    let expected = profile.curves().iter().map(|curve| Expected {
        row_elements: curve.elements,
        first_row_ms: curve.first_us / 1e3,
        further_row_ms: curve.further_us / 1e3,
    });
    Explanation {
        model,
        version,
        device,
        profile: expected.collect(),
        advice: advice(&figures, &settings),
        settings,
        figures,
        batches: batches.iter().rev().map(|past| ran(past, now, profile)).collect(),
        queue: foreseen(waiting, profile, now),
    }
}

fn ran(past: &Past, now: Instant, profile: &Profile) -> Ran {
    let mut tenants: Vec<&str> = past.parts.iter().map(|part| &*part.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    Ran {
        ago_ms: ms(now.saturating_duration_since(past.began)),
        lane: past.lane,
        reason: past.reason,
        rows: past.rows,
        requests: past.requests,
        tenants: tenants.len(),
        waiting_rows: past.waited.rows,
        waiting_requests: past.waited.requests,
        elements: past.elements.0,
        padded_elements: past.elements.1,
        instance_ms: ms(past.time),
        predicted_ms: profile.predict(past.rows, past.row_elements()).map(ms),
        runs: past.runs,
        parts: past.parts.iter().map(part).collect(),
    }
}

fn part(part: &history::Part) -> Part {
    Part {
        tenant: part.tenant.to_string(),
        function: part.function.to_string(),
        rows: part.rows,
        queue_ms: ms(part.queue),
        shortest: part.elements.0,
        longest: part.elements.1,
    }
}

fn foreseen(waiting: &Waiting, profile: &Profile, now: Instant) -> Foreseen {
    let (batches, left) = waiting.foreseen(FORESEEN_BATCHES);
    let rows = left + batches.iter().map(|(formed, _)| formed.rows.len()).sum::<usize>();
    let next = batches.iter().map(|(formed, wait)| {
        let would = Past::of(formed, now + *wait);
        Next {
            wait_ms: ms(*wait),
            reason: would.reason,
            rows: would.rows,
            requests: would.requests,
            elements: would.elements.0,
            padded_elements: would.elements.1,
            predicted_ms: profile.predict(would.rows, would.row_elements()).map(ms),
            parts: would.parts.iter().map(part).collect(),
        }
    });
    Foreseen { rows, batches: batches.len(), next: next.collect() }
}
