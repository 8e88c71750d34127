//! Who asks for much and who for little: what tenants were given of a model's instances lately, against their weights.
//!
//! Pure: owns a mean that forgets, who is still about, and the line between the two. Refuses to know what follows from it (`company` ends the
//! batches of those who ask for much sooner while somebody asks for little, who would wait for them).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Batches that are remembered for each tenant: what is older counts for less than a third.
const BATCHES: f64 = 32.0;
/// Who has not come for so long, or for so many batches, is not about any more.
const ABOUT: Duration = Duration::from_secs(2);
const ABOUT_BATCHES: u32 = 16;
/// Nor is whose part of what was given is smaller; whose is smaller by far is forgotten.
const LEAST_PART: f64 = 0.01;
const FORGOTTEN_PART: f64 = 1e-4;
/// Who was given so many times as much as another for its weight asks for much beside it. (Means of equal tenants differ
/// by less.)
const MUCH: f64 = 1.5;
/// And who has fewer rows waiting asks for little at present, whatever it was given before others came.
const BACKLOG_ROWS: usize = 4;
/// Tenants beyond these are forgotten once they have less than their least part, which more cannot have.
const MOST_TENANTS: usize = 128;
/// Sums are made small again when this is passed, long before they lose digits.
const LARGE_UNIT: f64 = 1e100;

/// What each tenant was given lately. Older sums are not made smaller with every batch: newer ones count for more.
#[derive(Clone, Debug)]
pub(super) struct Neighbours {
    tenants: HashMap<Arc<str>, Given>,
    /// What all were given.
    all: f64,
    /// What a second counts for now.
    unit: f64,
    /// What a batch takes: a moving mean.
    batch: Duration,
}

/// What one tenant was given.
#[derive(Clone, Debug)]
struct Given {
    weight: f64,
    all: f64,
    /// What of it was for requests that somebody waits for.
    interactive: f64,
    /// When the last of those came.
    came: Instant,
}

/// From what a tenant was given, over its weight, it asks for much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Much(f64);

impl Default for Neighbours {
    fn default() -> Self {
        Self { tenants: HashMap::new(), all: 0.0, unit: 1.0, batch: Duration::ZERO }
    }
}

impl Neighbours {
    /// A request of a tenant comes that somebody waits for.
    pub(super) fn comes(&mut self, tenant: &str, now: Instant) {
        if let Some(given) = self.tenants.get_mut(tenant) {
            given.came = now;
        }
    }

    /// A batch has ended and took so long: what follows was given by it.
    pub(super) fn next_batch(&mut self, took: Duration) {
        self.batch = (self.batch * 7 + took) / 8;
        let about = self.parts().count().max(1) as f64;
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
        let least = if self.tenants.len() > MOST_TENANTS { LEAST_PART } else { FORGOTTEN_PART } * self.all;
        self.tenants.retain(|_, given| given.interactive.max(given.all) >= least);
    }

    /// Tenants whose part is more than nothing.
    fn parts(&self) -> impl Iterator<Item = &Given> + Clone {
        self.tenants.values().filter(|given| given.interactive >= LEAST_PART * self.all)
    }

    /// Those of them that may come again any moment.
    fn about(&self, now: Instant) -> impl Iterator<Item = &Given> + Clone {
        let time = ABOUT.max(self.batch * ABOUT_BATCHES);
        self.parts().filter(move |given| now.saturating_duration_since(given.came) <= time)
    }

    /// A tenant of this weight was given so many seconds by now.
    pub(super) fn given(
        &mut self,
        tenant: &Arc<str>,
        weight: f64,
        is_interactive: bool,
        (seconds, now): (f64, Instant),
    ) {
        let counts = seconds * self.unit;
        self.all += counts;
        let given = self.tenants.entry(tenant.clone());
        let given = given.or_insert(Given { weight, all: 0.0, interactive: 0.0, came: now });
        given.weight = weight;
        given.all += counts;
        given.interactive += if is_interactive { counts } else { 0.0 };
    }

    /// From where on a tenant asks for much; `None` while nobody waits for little.
    pub(super) fn much(&self, now: Instant) -> Option<Much> {
        let about = self.about(now);
        let least = about.clone().map(|given| given.all / given.weight).min_by(f64::total_cmp)?;
        // Who has less than a fair part of all that are about is loud to nobody.
        let fair = about.clone().map(|given| given.all).sum::<f64>() / about.map(|given| given.weight).sum::<f64>();
        Some(Much(fair.max(least * MUCH)))
    }

    /// Whether a tenant whose requests have so many rows waiting asks for that much.
    pub(super) fn asks(&self, tenant: &str, rows: impl Iterator<Item = usize>, much: Option<Much>) -> bool {
        let given = || self.tenants.get(tenant).map(|given| given.all / given.weight);
        let is_given = much.is_some_and(|Much(from)| given().is_some_and(|given| given >= from));
        is_given && has_backlog(rows)
    }
}

/// Looks at no more requests than it takes to know.
fn has_backlog(rows: impl Iterator<Item = usize>) -> bool {
    let mut sum = 0;
    rows.into_iter().any(|rows| {
        sum += rows;
        sum >= BACKLOG_ROWS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tenant: usize) -> Arc<str> {
        format!("t{tenant}").into()
    }

    const MS: Duration = Duration::from_millis(1);

    /// Each batch gives each tenant so many seconds.
    fn given(neighbours: &mut Neighbours, batches: usize, seconds: &[f64]) {
        let now = Instant::now();
        for _ in 0..batches {
            neighbours.next_batch(MS);
            for (tenant, seconds) in seconds.iter().enumerate() {
                neighbours.given(&name(tenant), 1.0, true, (*seconds, now));
            }
        }
    }

    fn loud(neighbours: &Neighbours, tenants: usize) -> Vec<usize> {
        loud_at(neighbours, tenants, Instant::now())
    }

    fn loud_at(neighbours: &Neighbours, tenants: usize, now: Instant) -> Vec<usize> {
        let much = neighbours.much(now);
        (0..tenants).filter(|tenant| neighbours.asks(&name(*tenant), [1, 1, 2].into_iter(), much)).collect()
    }

    #[test]
    fn who_is_given_much_more_than_another_asks_for_much() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.much(Instant::now()).is_none());
        given(&mut neighbours, 100, &[1.0]);
        assert_eq!(loud(&neighbours, 1), [] as [usize; 0], "alone");
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
    fn who_had_all_to_itself_is_loud_only_while_it_asks_for_much() {
        let (mut neighbours, now) = (Neighbours::default(), Instant::now());
        given(&mut neighbours, 5000, &[1.0]);
        given(&mut neighbours, 16, &[0.5, 0.5]);
        let asks = |rows: &[usize]| neighbours.asks("t0", rows.iter().copied(), neighbours.much(now));
        assert!(asks(&[2, 2]) && asks(&[9]) && !asks(&[1, 2]) && !asks(&[]));
    }

    #[test]
    fn who_does_not_come_any_more_is_not_about() {
        let (mut neighbours, begun) = (Neighbours::default(), Instant::now());
        given(&mut neighbours, 100, &[0.7, 0.2]);
        let later = Instant::now() + ABOUT + MS;
        assert_eq!((loud_at(&neighbours, 2, begun), loud_at(&neighbours, 2, later)), (vec![0], vec![]));
        neighbours.comes("t1", later);
        assert_eq!(loud_at(&neighbours, 2, later + ABOUT), [0], "and when it comes again it is at once");
        // Where batches take long, so does who is about.
        (0..100).for_each(|_| neighbours.next_batch(1000 * MS));
        assert_eq!(loud_at(&neighbours, 2, later + 15_000 * MS), [0]);
    }

    #[test]
    fn weights_count_and_what_is_not_urgent_is_not_waited_for() {
        let mut neighbours = Neighbours::default();
        for _ in 0..100 {
            neighbours.next_batch(MS);
            neighbours.given(&name(0), 3.0, true, (0.9, Instant::now()));
            neighbours.given(&name(1), 1.0, true, (0.3, Instant::now()));
        }
        assert_eq!(loud(&neighbours, 2), [] as [usize; 0]);
        for _ in 0..400 {
            neighbours.next_batch(MS);
            neighbours.given(&name(0), 1.0, true, (0.9, Instant::now()));
            neighbours.given(&name(1), 1.0, false, (0.3, Instant::now()));
        }
        assert_eq!(loud(&neighbours, 2), [] as [usize; 0], "the second's rows are of the class `batch` now");
    }

    #[test]
    fn it_stays_bounded_however_long_it_runs_and_however_many_come() {
        let mut neighbours = Neighbours::default();
        for tenant in 0..50_000 {
            neighbours.next_batch(MS);
            neighbours.given(&name(0), 1.0, true, (1.0, Instant::now()));
            neighbours.given(&name(1), 1.0, true, (0.3, Instant::now()));
            neighbours.given(&name(tenant), 1.0, true, (0.001, Instant::now()));
        }
        assert!(neighbours.tenants.len() <= MOST_TENANTS + 2, "{}", neighbours.tenants.len());
        assert!(neighbours.all.is_finite() && neighbours.unit <= 2.0 * LARGE_UNIT);
        assert_eq!(loud(&neighbours, 2), [0]);
    }
}
