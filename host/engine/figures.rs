//! What the last batches of a model come to: one set of figures, for people and for `advice`.
//!
//! Pure: owns the arithmetic; refuses to know where batches come from and what follows from the figures.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{history::Past, profile::Profile};

/// What several batches come to. All times are in milliseconds, all shares of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Batches that are counted here.
    pub batches: usize,
    /// From the start of the first to the end of the last.
    pub window_ms: f64,
    /// Rows of all.
    pub rows: usize,
    /// Rows of a batch: the mean.
    pub rows_mean: f64,
    /// Rows of a batch: the most.
    pub rows_most: usize,
    /// Batches of one row, as a share.
    pub alone_share: f64,
    /// Rows that waited when a batch was formed, its own included: the mean.
    pub waiting_mean: f64,
    /// The same: the most.
    pub waiting_most: usize,
    /// Shares of the batches by the reason they were closed.
    pub reasons: BTreeMap<&'static str, f64>,
    /// Share of all elements that was padding.
    pub padding_share: f64,
    /// What half of the rows waited at most.
    pub queue_p50_ms: f64,
    /// What 95 of 100 rows waited at most.
    pub queue_p95_ms: f64,
    /// Time of a batch on its instance: the mean.
    pub instance_mean_ms: f64,
    /// Time of a batch in the profile's eyes: the mean, over the same batches; 0 without a profile.
    pub predicted_mean_ms: f64,
    /// What a further row costs in proportion to the first, at the batches' usual length; `None` without a profile.
    pub further_row_cost: Option<f64>,
    /// Share of the lanes' time in which they ran something.
    pub busy_share: f64,
    /// Times that rows were run again because a batch threw.
    pub repeated_runs: usize,
    /// Requests refused between the first batch and the last, because the queue was full.
    pub refused: u64,
    /// Tenants among the rows that are told one by one.
    pub tenants: usize,
    /// The tenant with the most rows among them.
    pub top_tenant: Option<String>,
    /// Its share of them.
    pub top_tenant_share: f64,
}

impl Figures {
    /// Of these batches, oldest first, which ran on so many lanes.
    pub(super) fn of(batches: &[Arc<Past>], lanes: usize, profile: Option<&Profile>) -> Self {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Self::default() };
        let count = batches.len() as f64;
        let sum = |of: fn(&Past) -> f64| batches.iter().map(|past| of(past)).sum::<f64>();
        let most = |of: fn(&Past) -> usize| batches.iter().map(|past| of(past)).max().unwrap_or(0);
        let rows: usize = batches.iter().map(|past| past.rows).sum();
        let ends = batches.iter().map(|past| past.began + past.time).max().unwrap_or(last.began);
        let window = ends.saturating_duration_since(first.began);
        let mut reasons = BTreeMap::new();
        batches.iter().for_each(|past| *reasons.entry(past.reason).or_insert(0.0) += 1.0 / count);
        let (queue_p50_ms, queue_p95_ms) = queued(batches);
        let predict = |past: &Arc<Past>| profile?.predict(past.rows, past.row_elements());
        let predicted: Duration = batches.iter().filter_map(predict).sum();
        let (tenants, top) = tenants(batches);
        let (top_tenant, top_tenant_share) = top.map_or((None, 0.0), |(name, share)| (Some(name), share));
        Self {
            batches: batches.len(),
            window_ms: ms(window),
            rows,
            rows_mean: rows as f64 / count,
            rows_most: most(|past| past.rows),
            alone_share: batches.iter().filter(|past| past.rows == 1).count() as f64 / count,
            waiting_mean: sum(|past| past.waited.rows as f64) / count,
            waiting_most: most(|past| past.waited.rows),
            reasons,
            padding_share: 1.0 - sum(|past| past.elements.0 as f64) / sum(|past| past.elements.1.max(1) as f64),
            queue_p50_ms,
            queue_p95_ms,
            instance_mean_ms: sum(|past| ms(past.time)) / count,
            predicted_mean_ms: ms(predicted) / count,
            further_row_cost: profile.and_then(|profile| further_row_cost(batches, profile)),
            busy_share: (sum(|past| ms(past.time)) / (ms(window) * lanes.max(1) as f64).max(f64::MIN_POSITIVE))
                .min(1.0),
            repeated_runs: batches.iter().map(|past| past.runs.saturating_sub(1)).sum(),
            refused: last.waited.refused.saturating_sub(first.waited.refused),
            tenants,
            top_tenant,
            top_tenant_share,
        }
    }

    /// The share of batches that were closed for this reason.
    pub(super) fn closed(&self, reason: &str) -> f64 {
        self.reasons.get(reason).copied().unwrap_or(0.0)
    }
}

/// A time as this file tells it.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What half of the rows, and 95 of 100, waited at most.
fn queued(batches: &[Arc<Past>]) -> (f64, f64) {
    let parts = batches.iter().flat_map(|past| &past.parts);
    let mut waits: Vec<(Duration, usize)> = parts.map(|part| (part.queue, part.rows)).collect();
    waits.sort_unstable();
    let all: usize = waits.iter().map(|(_, rows)| rows).sum();
    let quantile = |share: f64| {
        let mut left = (all as f64 * share).ceil();
        let reached = |(_, rows): &&(Duration, usize)| {
            left -= *rows as f64;
            left <= 0.0
        };
        waits.iter().find(reached).map_or(0.0, |(queue, _)| ms(*queue))
    };
    (quantile(0.5), quantile(0.95))
}

/// How many tenants there are among the rows, and who has the most of them.
fn tenants(batches: &[Arc<Past>]) -> (usize, Option<(String, f64)>) {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for part in batches.iter().flat_map(|past| &past.parts) {
        *rows.entry(&part.tenant).or_default() += part.rows;
    }
    let all: usize = rows.values().sum();
    let top = rows.iter().max_by_key(|(_, rows)| **rows);
    (rows.len(), top.map(|(name, rows)| ((*name).to_owned(), *rows as f64 / all.max(1) as f64)))
}

/// What a second row costs in proportion to the first one, at the median length of the batches.
fn further_row_cost(batches: &[Arc<Past>], profile: &Profile) -> Option<f64> {
    let mut elements: Vec<_> = batches.iter().map(|past| past.row_elements()).collect();
    elements.sort_unstable();
    let elements = elements[elements.len() / 2];
    let (one, two) = (ms(profile.predict(1, elements)?), ms(profile.predict(2, elements)?));
    (one > 0.0).then(|| (two - one) / one)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{
        super::{
            history::{Part, Waited},
            profile::{Curve, Key},
        },
        *,
    };

    fn part(tenant: &str, rows: usize, queue_ms: u64) -> Part {
        let queue = Duration::from_millis(queue_ms);
        Part { tenant: tenant.into(), function: "f".into(), rows, queue, elements: (1, 1) }
    }

    #[test]
    fn figures_are_what_the_batches_come_to() {
        let start = Instant::now();
        let batch = |at: u64, rows, real, padded, refused, parts: Vec<Part>| {
            let waited = Waited { rows: rows + 2, requests: 1, refused };
            let began = start + Duration::from_millis(at);
            let (elements, time) = ((real, padded), Duration::from_millis(10));
            Arc::new(Past { began, elements, time, waited, parts, ..Past::plain(rows) })
        };
        let batches = [
            batch(0, 1, 8, 8, 5, vec![part("a", 1, 1)]),
            batch(30, 3, 12, 24, 7, vec![part("a", 1, 2), part("b", 2, 40)]),
        ];
        let key = Key { model: "m".into(), device: "cpu".into(), backend: "b".into() };
        let curves = vec![Curve {
            elements: 8,
            first_us: 8000.0,
            further_us: 2000.0,
            larger: Vec::new(),
            first_bytes: None,
            further_bytes: None,
        }];
        let figures = Figures::of(&batches, 2, Some(&Profile::new(key, curves)));
        let expected = Figures {
            batches: 2,
            window_ms: 40.0,
            rows: 4,
            rows_mean: 2.0,
            rows_most: 3,
            alone_share: 0.5,
            waiting_mean: 4.0,
            waiting_most: 5,
            reasons: BTreeMap::from([("idle", 1.0)]),
            padding_share: 0.375,
            queue_p50_ms: 2.0,
            queue_p95_ms: 40.0,
            instance_mean_ms: 10.0,
            predicted_mean_ms: 10.0,
            further_row_cost: Some(0.25),
            busy_share: 0.25,
            repeated_runs: 0,
            refused: 2,
            tenants: 2,
            top_tenant: Some("b".into()),
            top_tenant_share: 0.5,
        };
        assert_eq!(figures, expected);
        assert_eq!(Figures::of(&[], 2, None), Figures::default());
    }
}
