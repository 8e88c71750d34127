//! Who asks for much and who for little: what tenants were given of a model's instances lately, against their weights.
//!
//! Pure: owns a mean that forgets, and the line between the two. Refuses to know what follows from it (`company` ends the
//! batches of those who ask for much sooner while somebody asks for little, who would wait for them).

use std::{collections::HashMap, sync::Arc};

/// Batches that are remembered for each tenant: what is older counts for less than a third.
const BATCHES: f64 = 32.0;
/// Whose part of what was given is smaller is not about (any more), and whose is smaller by far is forgotten.
const LEAST_PART: f64 = 0.01;
const FORGOTTEN_PART: f64 = 1e-4;
/// Who was given so many times as much as another for its weight asks for much beside it. (Means of equal tenants differ
/// by less.)
const MUCH: f64 = 1.5;
/// Tenants beyond these are forgotten once they have less than their least part, which more cannot have.
const MOST_TENANTS: usize = 128;
/// Sums are made small again when this is passed, long before they lose digits.
const LARGE_UNIT: f64 = 1e100;

/// What each tenant was given lately. Older sums are not made smaller with every batch: newer ones count for more.
#[derive(Clone, Debug)]
pub(super) struct Neighbours {
    tenants: HashMap<Arc<str>, Given>,
    all: f64,
    /// What a second counts for now.
    unit: f64,
}

/// What one tenant was given.
#[derive(Clone, Debug)]
struct Given {
    weight: f64,
    all: f64,
    /// What of it was for requests that somebody waits for.
    interactive: f64,
}

/// From what a tenant was given, over its weight, it asks for much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Much(f64);

impl Default for Neighbours {
    fn default() -> Self {
        Self { tenants: HashMap::new(), all: 0.0, unit: 1.0 }
    }
}

impl Neighbours {
    /// A batch has ended: what follows was given by it.
    pub(super) fn next_batch(&mut self) {
        let about = self.about().count().max(1) as f64;
        self.unit *= 1.0 + 1.0 / (BATCHES * about);
        if self.unit > LARGE_UNIT {
            self.all /= self.unit;
            for given in self.tenants.values_mut() {
                given.all /= self.unit;
                given.interactive /= self.unit;
            }
            self.unit = 1.0;
        }
        // What was given long ago has become little against what is given now.
        let sum = self.tenants.values().map(|given| given.all).sum::<f64>();
        let least = if self.tenants.len() > MOST_TENANTS { LEAST_PART } else { FORGOTTEN_PART } * sum;
        self.tenants.retain(|_, given| given.all >= least);
        self.all = self.tenants.values().map(|given| given.all).sum();
    }

    /// Tenants that lately had requests that somebody waits for.
    fn about(&self) -> impl Iterator<Item = &Given> + Clone {
        self.tenants.values().filter(|given| given.interactive >= LEAST_PART * self.all)
    }

    /// A tenant of this weight was given so many seconds.
    pub(super) fn given(&mut self, tenant: &Arc<str>, weight: f64, is_interactive: bool, seconds: f64) {
        let counts = seconds * self.unit;
        self.all += counts;
        let given = self.tenants.entry(tenant.clone());
        let given = given.or_insert(Given { weight, all: 0.0, interactive: 0.0 });
        given.weight = weight;
        given.all += counts;
        given.interactive += if is_interactive { counts } else { 0.0 };
    }

    /// From where on a tenant asks for much; `None` while nobody waits for little.
    pub(super) fn much(&self) -> Option<Much> {
        if self.tenants.len() < 2 {
            return None;
        }
        let least = self.about().map(|given| given.all / given.weight).min_by(f64::total_cmp)?;
        // Who has less than a fair part of all that are about is loud to nobody.
        let fair =
            self.about().map(|given| given.all).sum::<f64>() / self.about().map(|given| given.weight).sum::<f64>();
        Some(Much(fair.max(least * MUCH)))
    }

    /// Whether a tenant asks for that much.
    pub(super) fn asks(&self, tenant: &str, much: Option<Much>) -> bool {
        let given = || self.tenants.get(tenant).map(|given| given.all / given.weight);
        much.is_some_and(|Much(from)| given().is_some_and(|given| given >= from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tenant: usize) -> Arc<str> {
        format!("t{tenant}").into()
    }

    /// Each batch gives each tenant so many seconds.
    fn given(neighbours: &mut Neighbours, batches: usize, seconds: &[f64]) {
        for _ in 0..batches {
            neighbours.next_batch();
            for (tenant, seconds) in seconds.iter().enumerate() {
                neighbours.given(&name(tenant), 1.0, true, *seconds);
            }
        }
    }

    fn loud(neighbours: &Neighbours, tenants: usize) -> Vec<usize> {
        let much = neighbours.much();
        (0..tenants).filter(|tenant| neighbours.asks(&name(*tenant), much)).collect()
    }

    #[test]
    fn who_is_given_much_more_than_another_asks_for_much() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.much().is_none());
        given(&mut neighbours, 100, &[1.0]);
        assert!(neighbours.much().is_none(), "alone");
        given(&mut neighbours, 500, &[0.7, 0.6, 0.5]);
        assert_eq!(loud(&neighbours, 3), [] as [usize; 0], "alike");
        given(&mut neighbours, 500, &[0.7, 0.25, 0.25]);
        assert_eq!(loud(&neighbours, 3), [0]);
        given(&mut neighbours, 2000, &[0.7, 0.25, 0.0]);
        assert_eq!(loud(&neighbours, 3), [0], "the third has left");
        given(&mut neighbours, 2000, &[0.7, 0.001, 0.0]);
        assert_eq!(loud(&neighbours, 3), [] as [usize; 0], "next to nothing is nobody");
    }

    #[test]
    fn weights_count_and_what_is_not_urgent_is_not_waited_for() {
        let mut neighbours = Neighbours::default();
        for _ in 0..100 {
            neighbours.next_batch();
            neighbours.given(&name(0), 3.0, true, 0.9);
            neighbours.given(&name(1), 1.0, true, 0.3);
        }
        assert_eq!(loud(&neighbours, 2), [] as [usize; 0]);
        for _ in 0..400 {
            neighbours.next_batch();
            neighbours.given(&name(0), 1.0, true, 0.9);
            neighbours.given(&name(1), 1.0, false, 0.3);
        }
        assert_eq!(loud(&neighbours, 2), [] as [usize; 0], "the second's rows are of the class `batch` now");
    }

    #[test]
    fn it_stays_bounded_however_long_it_runs_and_however_many_come() {
        let mut neighbours = Neighbours::default();
        for tenant in 0..50_000 {
            neighbours.next_batch();
            neighbours.given(&name(0), 1.0, true, 1.0);
            neighbours.given(&name(1), 1.0, true, 0.3);
            neighbours.given(&name(tenant), 1.0, true, 0.001);
        }
        assert!(neighbours.tenants.len() <= MOST_TENANTS + 2, "{}", neighbours.tenants.len());
        assert!(neighbours.all.is_finite() && neighbours.unit <= 2.0 * LARGE_UNIT);
        assert_eq!(loud(&neighbours, 2), [0]);
    }
}
