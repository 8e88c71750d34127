//! Invocations that were let in and have not queued their rows yet: whoever stands at the door of a model must count them,
//! or a herd that comes at once is let in whole and refused after its guests have worked.
//!
//! Vocabulary: the engine counts, an invocation holds its part until its rows come or it ends. Each tenant is counted by
//! itself, and by what its own requests usually bring, so that what one expects is not held against another. Refuses to
//! know queues.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much of the usual rows of a request the latest one makes up: one part in so many.
const USUAL_PARTS: f64 = 16.0;

/// Rows that are expected at one model, by tenant. There are as many entries as tenants that ever asked it.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    rows: usize,
    tenants: HashMap<Arc<str>, Expected>,
}

#[derive(Debug)]
struct Expected {
    rows: usize,
    /// Rows of one of its requests, a moving mean.
    usual: f64,
}

/// One invocation's part, given back when it is dropped.
#[derive(Debug)]
pub struct Arrival {
    at: Arc<Arrivals>,
    tenant: Arc<str>,
    rows: usize,
}

impl Arrivals {
    /// How many rows are expected of all, and of this tenant.
    pub fn rows(&self, tenant: &str) -> (usize, usize) {
        let counts = self.counts();
        (counts.rows, counts.tenants.get(tenant).map_or(0, |expected| expected.rows))
    }

    /// A request of this tenant was let in.
    pub fn expect(self: &Arc<Self>, tenant: &Arc<str>) -> Arrival {
        let mut counts = self.counts();
        let expected = counts.tenants.entry(tenant.clone()).or_insert(Expected { rows: 0, usual: 1.0 });
        // A request has at least one row.
        let rows = expected.usual.round().max(1.0) as usize;
        expected.rows += rows;
        counts.rows += rows;
        Arrival { at: self.clone(), tenant: tenant.clone(), rows }
    }

    /// A request of this tenant has come, with so many rows.
    pub fn came(&self, tenant: &str, rows: usize) {
        if let Some(expected) = self.counts().tenants.get_mut(tenant) {
            expected.usual += (rows as f64 - expected.usual) / USUAL_PARTS;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Whether it is expected there.
    pub fn is_at(&self, arrivals: &Arc<Arrivals>) -> bool {
        Arc::ptr_eq(&self.at, arrivals)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut counts = self.at.counts();
        counts.rows -= self.rows;
        if let Some(expected) = counts.tenants.get_mut(&self.tenant) {
            expected.rows -= self.rows;
        }
    }
}

/// Which models an invocation asks first. Later steps are not expected anywhere: rows that are counted as on their way for
/// as long as an earlier model works would keep others from a model that has nothing to do.
#[derive(Debug, Default)]
pub struct FirstStep(Mutex<Step>);

#[derive(Debug, Default)]
struct Step {
    expected: Vec<Arrival>,
    asked: Vec<Arc<Arrivals>>,
    is_over: bool,
}

impl FirstStep {
    /// Its rows are expected at models.
    pub fn expect(&self, arrivals: Vec<Arrival>) {
        self.step().expected = arrivals;
    }

    /// Rows come to a model; whether they were expected there, which they are once.
    pub fn arrives(&self, at: &Arc<Arrivals>) -> bool {
        let mut step = self.step();
        if !step.is_over && !step.asked.iter().any(|known| Arc::ptr_eq(known, at)) {
            step.asked.push(at.clone());
        }
        let found = step.expected.iter().position(|arrival| arrival.is_at(at));
        found.map(|index| step.expected.swap_remove(index)).is_some()
    }

    /// All rows of a step have come: they are expected nowhere any more.
    pub fn end(&self) {
        let mut step = self.step();
        step.is_over = true;
        step.expected.clear();
    }

    /// Whether its rows came to a model.
    pub fn asked(&self, at: &Arc<Arrivals>) -> bool {
        self.step().asked.iter().any(|known| Arc::ptr_eq(known, at))
    }

    fn step(&self) -> MutexGuard<'_, Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_is_counted_by_what_it_usually_brings() {
        let (arrivals, large, small): (_, Arc<str>, Arc<str>) =
            (Arc::<Arrivals>::default(), "large".into(), "s".into());
        drop(arrivals.expect(&large));
        (0..200).for_each(|_| arrivals.came(&large, 100));
        let (first, second) = (arrivals.expect(&large), arrivals.expect(&small));
        assert_eq!((arrivals.rows("large"), arrivals.rows("s"), arrivals.rows("x")), ((101, 100), (101, 1), (101, 0)));
        assert!(first.is_at(&arrivals) && !first.is_at(&Arc::default()));
        drop((first, second));
        assert_eq!(arrivals.rows("large"), (0, 0));
    }

    #[test]
    fn a_later_step_is_expected_nowhere() {
        let (step, tenant): (_, Arc<str>) = (FirstStep::default(), "t".into());
        let [detector, classifier, other] = std::array::from_fn(|_| Arc::<Arrivals>::default());
        step.expect(vec![detector.expect(&tenant), classifier.expect(&tenant)]);
        assert_eq!((detector.rows("t"), classifier.rows("t")), ((1, 1), (1, 1)));
        assert!(step.arrives(&detector) && !step.arrives(&detector), "a request comes once");
        assert!(!step.arrives(&other), "nobody had looked for it");
        step.end();
        assert_eq!(classifier.rows("t"), (0, 0), "it was not asked first");
        assert!(!step.arrives(&classifier));
        assert_eq!([&detector, &classifier, &other].map(|model| step.asked(model)), [true, false, true]);
    }
}
