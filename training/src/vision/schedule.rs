//! How far a training is, and how fast it learns there. Owns the budget (steps, which repeat; or time, which fits a
//! machine) and the course of the rate. Refuses to know what is trained.

use std::time::{Duration, Instant};

/// The part of a training in which the rate rises.
const WARM_UP: f64 = 0.04;
/// The rate at the end, as a part of the highest.
const LAST: f64 = 0.01;

/// When a training ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// After so many steps: equal seeds give equal weights.
    Steps(u64),
    /// After so long: what a machine manages in it.
    Time(Duration),
}

/// A training under way.
pub(super) struct Course {
    budget: Budget,
    begun: Instant,
}

impl Course {
    /// Begins now.
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, begun: Instant::now() }
    }

    /// From 0 to 1, when it is over.
    pub(super) fn progress(&self, step: u64) -> f64 {
        let progress = match self.budget {
            Budget::Steps(steps) => step as f64 / steps.max(1) as f64,
            Budget::Time(time) => self.begun.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3),
        };
        progress.min(1.0)
    }

    /// How long it has been going.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long it will go on, as far as one can tell.
    pub(super) fn left(&self, step: u64) -> Duration {
        let progress = self.progress(step).max(1e-6);
        self.elapsed().mul_f64((1.0 - progress) / progress)
    }
}

/// The part of the highest rate at this progress: up quickly, then down along a cosine.
pub(super) fn rate(progress: f64) -> f64 {
    if progress < WARM_UP {
        return 0.05 + 0.95 * progress / WARM_UP;
    }
    let down = (progress - WARM_UP) / (1.0 - WARM_UP);
    LAST + (1.0 - LAST) * f64::midpoint((down * std::f64::consts::PI).cos(), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        assert!(rate(0.0) < 0.1 && (rate(WARM_UP) - 1.0).abs() < 1e-6 && (rate(1.0) - LAST).abs() < 1e-6);
        assert!((1..100).all(|at| (0.0..=1.0).contains(&rate(f64::from(at) / 100.0))));
    }

    #[test]
    fn a_budget_ends() {
        let course = Course::new(Budget::Steps(10));
        assert_eq!((course.progress(0), course.progress(5), course.progress(20)), (0.0, 0.5, 1.0));
        assert_eq!(course.left(20), Duration::ZERO);
        let hour = Course::new(Budget::Time(Duration::from_secs(3600)));
        assert!(hour.progress(1_000_000) < 0.5, "steps do not end it");
    }
}
