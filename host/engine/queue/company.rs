//! Which rows fit together: what a batch may be, and whether another row is worth having in it.
//!
//! Pure: owns the limits and the arithmetic of padding and predicted time. Refuses to know whose rows they are and whose
//! turn it is.

use std::{sync::Arc, time::Duration};

use super::Reason;
use crate::engine::{ceiling::Ceiling, profile::Profile};

/// What a batch may be.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Limits {
    /// Rows.
    pub(in crate::engine) rows: usize,
    /// Rows x the longest extent of each ragged dimension.
    pub(in crate::engine) elements: u64,
    /// Predicted time, where there is a profile.
    pub(in crate::engine) time: Duration,
    /// How long an instance may idle for company.
    pub(in crate::engine) delay: Duration,
    /// What predicts the time.
    pub(in crate::engine) profile: Option<Arc<Profile>>,
    /// The extents to which each dimension is padded, ascending; empty where a batch is as long as its longest row.
    pub(in crate::engine) buckets: Vec<Vec<u64>>,
    /// How large it may be for the device's memory at present.
    pub(in crate::engine) ceiling: Option<Arc<Ceiling>>,
}

/// A batch whose first row alone takes longer than allowed may take this much longer still: company that costs next to
/// nothing is let in, company that would double the time is not.
const OVER_SLOW_ROW: f64 = 1.25;
/// A row joins if it is predicted to prolong the batch by no more than this much of what it takes alone. Where batches
/// bring nothing, small ones run: they end sooner and are shared out more finely.
const WORTH: f64 = 0.98;
/// A batch is large enough when its rows cost no more than the largest one's over this much: beyond that it only ends
/// later, for those in it and for those who wait.
const ENOUGH: f64 = 0.97;
/// The same for those who ask for much while another tenant asks for little, which would wait for the batch to end. This is
/// what a quiet tenant's short wait may cost a loud one's throughput.
const ENOUGH_BESIDE: f64 = 0.75;
/// Sizes of a batch that are compared.
const MOST_SIZES: usize = 1024;
/// Rows that are looked at in vain for one batch.
const MOST_MISFITS: usize = 512;
/// Without a profile: what a batch may be padded to, against its elements that are not padding.
const UNMEASURED_PADDING: f64 = 1.25;

impl Limits {
    /// How long a batch will take, where that is known.
    pub(in crate::engine) fn predict(&self, rows: usize, elements: u64) -> Option<Duration> {
        self.profile.as_ref().and_then(|profile| profile.predict(rows, elements))
    }

    /// From how many rows on, each of so many elements, none of them costs more than the cheapest possible over `enough`.
    fn enough(&self, elements: u64, enough: f64) -> usize {
        let each = |rows: usize| self.predict(rows, elements).map(|time| time.as_secs_f64() / rows as f64);
        let fits = |rows: &usize| {
            elements.saturating_mul(*rows as u64) <= self.elements
                && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.allows(*rows, elements))
                && !self.is_too_long(*rows, elements)
        };
        // Times grow with rows, so the largest batch can be searched by halves; what a row costs may fall and rise again.
        let largest = partition(self.rows, |rows| fits(&rows));
        let sizes = || (1..=largest.min(MOST_SIZES)).filter_map(|rows| Some((rows, each(rows)?)));
        let Some(best) = sizes().map(|(_, cost)| cost).min_by(f64::total_cmp) else { return usize::MAX };
        sizes().find(|(_, cost)| cost * enough <= best).map_or(usize::MAX, |(rows, _)| rows)
    }

    fn is_too_long(&self, rows: usize, elements: u64) -> bool {
        self.predict(rows, elements).is_some_and(|time| {
            time > self.time && self.predict(1, elements).is_some_and(|alone| time > alone.mul_f64(OVER_SLOW_ROW))
        })
    }

    fn padded(&self, dimension: usize, extent: u64) -> u64 {
        self.buckets.get(dimension).map_or(extent, |buckets| bucket(buckets, extent))
    }
}

/// The largest number from 1 to `most` that `holds`, where it holds up to some number and not beyond; 1 if for none.
fn partition(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (1, most.max(1) + 1);
    while low + 1 < high {
        let middle = low.midpoint(high);
        *(if holds(middle) { &mut low } else { &mut high }) = middle;
    }
    low
}

/// An extent with its padding to the next bucket.
pub(in crate::engine) fn bucket(buckets: &[u64], extent: u64) -> u64 {
    buckets.get(buckets.partition_point(|bucket| *bucket < extent)).copied().unwrap_or(extent)
}

/// Elements of a row that are not padding.
pub(super) fn elements(lengths: &[u64]) -> u64 {
    lengths.iter().fold(1, |product: u64, length| product.saturating_mul(*length))
}

/// Rows that are to run together.
#[derive(Debug)]
pub(super) struct Company<'a> {
    limits: &'a Limits,
    rows: usize,
    /// How many rows wait, these included.
    waiting: usize,
    longest: Vec<u64>,
    /// Elements of all rows that are not padding.
    real: u64,
    /// Rows that did not fit.
    misfits: usize,
    /// Rows that are enough at the present length, and of tenants that ask for much.
    enough: Sizes,
    enough_beside: Sizes,
    /// Whether it has rows of such a tenant.
    is_loud: bool,
}

/// A size for rows of so many elements.
type Sizes = (u64, usize);
/// None that was worked out.
const NO_SIZE: Sizes = (0, usize::MAX);

/// A row that might join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    /// The batch has a row of the same request, which is not answered before its last one.
    pub(super) is_same: bool,
    /// Its tenant asks for much while another asks for little.
    pub(super) is_loud: bool,
}

impl<'a> Company<'a> {
    /// Nobody yet, of so many rows that wait.
    pub(super) fn new(limits: &'a Limits, waiting: usize) -> Self {
        let (longest, enough, enough_beside) = (Vec::new(), NO_SIZE, NO_SIZE);
        Self { limits, rows: 0, waiting, longest, real: 0, misfits: 0, enough, enough_beside, is_loud: false }
    }

    /// Elements of each row with its padding.
    pub(super) fn padded(&self) -> u64 {
        elements_padded(self.limits, &self.longest)
    }

    /// Takes a row in, or says why not. The first one always fits: rows are checked against the model's maxima before they
    /// are queued, and a row that takes long alone takes as long later.
    pub(super) fn admit(&mut self, lengths: &[u64], newcomer: Newcomer) -> Result<(), Reason> {
        if self.rows > 0 {
            self.judge(lengths, newcomer).inspect_err(|_| self.misfits += 1)?;
        }
        self.is_loud |= newcomer.is_loud;
        self.join(lengths);
        Ok(())
    }

    /// Whether further rows are worth a look: a long queue of what does not fit is not gone through for every batch.
    pub(super) fn goes_on(&self) -> bool {
        self.misfits < MOST_MISFITS
    }

    /// Takes a row in that was found to fit.
    pub(super) fn join(&mut self, lengths: &[u64]) {
        if self.rows == 0 {
            self.longest.extend_from_slice(lengths);
        }
        self.longest.iter_mut().zip(lengths).for_each(|(longest, length)| *longest = (*longest).max(*length));
        self.rows += 1;
        self.real = self.real.saturating_add(elements(lengths));
    }

    fn judge(&mut self, lengths: &[u64], Newcomer { is_same, is_loud }: Newcomer) -> Result<(), Reason> {
        let (limits, rows) = (self.limits, self.rows + 1);
        if rows > limits.rows {
            return Err(Reason::Full);
        }
        let longest = self.longest.iter().zip(lengths).map(|(longest, length)| *longest.max(length));
        let extents = longest.enumerate().map(|(dimension, extent)| limits.padded(dimension, extent));
        let padded = extents.fold(1, |product: u64, extent| product.saturating_mul(extent));
        if padded.saturating_mul(rows as u64) > limits.elements {
            return Err(Reason::Elements);
        }
        if limits.ceiling.as_ref().is_some_and(|ceiling| !ceiling.allows(rows, padded)) {
            return Err(Reason::Memory);
        }
        if limits.is_too_long(rows, padded) {
            return Err(Reason::Time);
        }
        let size = |known: &mut Sizes, share: f64| {
            if known.0 != padded {
                *known = (padded, limits.enough(padded, share));
            }
            known.1
        };
        if (self.is_loud || is_loud) && rows > size(&mut self.enough_beside, ENOUGH_BESIDE) {
            return Err(Reason::Neighbour);
        }
        let enough = size(&mut self.enough, ENOUGH);
        // What is left must be enough for a batch, too, or the next one would be the dearer.
        if rows > enough && !is_same && self.waiting >= enough.saturating_mul(2) {
            return Err(Reason::Enough);
        }
        if self.is_worth_it(lengths, padded) { Ok(()) } else { Err(Reason::Unlike) }
    }

    /// Whether this row costs less with the rows so far than alone. Rows of very different lengths do not: a long
    /// one would pad all the others. Nor do rows of a model that does not gain from batches on this device.
    fn is_worth_it(&self, lengths: &[u64], padded: u64) -> bool {
        let (limits, rows) = (self.limits, self.rows + 1);
        let alone = limits.predict(1, elements_padded(limits, lengths));
        match (limits.predict(rows, padded), limits.predict(self.rows, self.padded()), alone) {
            (Some(with), Some(without), Some(alone)) => with <= without + alone.mul_f64(WORTH),
            _ => {
                let real = self.real.saturating_add(elements(lengths)) as f64;
                padded.saturating_mul(rows as u64) as f64 <= real * UNMEASURED_PADDING
            }
        }
    }
}

fn elements_padded(limits: &Limits, lengths: &[u64]) -> u64 {
    let extents = lengths.iter().enumerate().map(|(dimension, extent)| limits.padded(dimension, *extent));
    extents.fold(1, |product: u64, extent| product.saturating_mul(extent))
}

/// What part of a batch's time each row causes, given its elements and what rows are padded to: its own elements, and the
/// padding that others need because of it. What several longer rows cause, they share (as those who share an airport pay
/// for its runway: each piece by all who need it). The parts add up to 1.
pub(super) fn parts(elements: &[u64], padded: u64) -> Vec<f64> {
    let rows = elements.len() as f64;
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_unstable_by_key(|row| elements[*row]);
    let mut parts = vec![0.0; elements.len()];
    let (mut level, mut part) = (0_u64, 0.0);
    for (below, row) in order.iter().enumerate() {
        let step = elements[*row] - level;
        part += step as f64 * rows / (rows - below as f64);
        level = elements[*row];
        parts[*row] = part;
    }
    // Padding beyond the longest row (to a bucket, or where two dimensions have their longest in different rows) is nobody's
    // in particular.
    let rest = padded.saturating_sub(level) as f64;
    let all = (level as f64 + rest) * rows;
    if all <= 0.0 {
        return vec![1.0 / rows.max(1.0); elements.len()];
    }
    parts.iter().map(|part| (part + rest) / all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_paid_by_who_causes_it() {
        let close = |parts: &[f64], expected: &[f64]| {
            let all_close = parts.iter().zip(expected).all(|(part, expected)| (part - expected).abs() < 1e-9);
            assert!(all_close && parts.len() == expected.len(), "{parts:?} for {expected:?}");
        };
        close(&parts(&[10, 10], 10), &[0.5, 0.5]);
        // Three rows of 10 padded to 100 by one: each pays its own 10, the long one its own 100 and 3 x 90 of padding.
        close(&parts(&[10, 10, 10, 100], 100), &[10.0 / 400.0, 10.0 / 400.0, 10.0 / 400.0, 370.0 / 400.0]);
        // Two long ones share what they cause.
        close(&parts(&[10, 100, 100], 100), &[10.0 / 300.0, 145.0 / 300.0, 145.0 / 300.0]);
        // A bucket's padding is everybody's.
        close(&parts(&[10, 30], 40), &[(10.0 + 10.0) / 80.0, (50.0 + 10.0) / 80.0]);
        close(&parts(&[1, 1, 1, 1], 1), &[0.25; 4]);
        close(&parts(&[], 1), &[]);
    }
}
