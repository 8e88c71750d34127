//! Random histories against what a bucket promises.

use proptest::prelude::*;

use super::*;

/// Takes and pauses: amount, nanoseconds before it, and by how much the caller's clock is behind.
fn histories() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    let pause = prop_oneof![0u64..1000, 0u64..1_000_000, 0u64..3_000_000_000];
    prop::collection::vec((1u64..40, pause, prop_oneof![Just(0), 0u64..2_000_000]), 1..120)
}

fn rates() -> impl Strategy<Value = Rate> {
    (-3.0f64..9.0, prop::option::of(0.0f64..9.0)).prop_map(|(per_second, burst)| Rate {
        per_second: 10f64.powf(per_second),
        burst: burst.map(|burst| 10f64.powf(burst)),
    })
}

fn nanos(count: u64) -> Duration {
    Duration::from_nanos(count)
}

/// A told wait is enough, and a millisecond less is not, where it is as long.
fn is_exact(wait: Duration, mut passes: impl FnMut(Duration) -> bool) -> Result<(), TestCaseError> {
    let less = wait.checked_sub(Duration::from_millis(1));
    prop_assert!(less.is_none_or(|less| !passes(less)), "less than {wait:?} passed");
    prop_assert!(passes(wait), "{wait:?} did not pass");
    Ok(())
}

proptest! {
    #[test]
    fn never_more_passes_than_the_rate_and_a_burst(rate in rates(), history in histories()) {
        let start = Instant::now();
        let (bucket, mut now, mut passed) = (Bucket::new(rate, start), start, vec![(start, 0.0)]);
        for (amount, pause, behind) in history {
            now += nanos(pause);
            let seen = now.checked_sub(nanos(behind)).unwrap_or(now);
            if bucket.take(seen, amount).is_ok() {
                passed.push((now, amount as f64));
            }
        }
        // Between any two moments, not from the start alone: no credit beyond the burst is hoarded. A clock that is
        // behind can bring its tokens later than they came, by as much.
        for from in 0..passed.len() {
            let mut sum = 0.0;
            for (at, amount) in &passed[from..] {
                sum += amount;
                let late = if from == 0 { 0.0 } else { 0.002 };
                let most = ((*at - passed[from].0).as_secs_f64() + late) * rate.per_second + rate.burst();
                prop_assert!(sum <= most * (1.0 + 1e-9) + 1e-6, "{sum} of {most}");
            }
        }
    }

    #[test]
    fn the_told_wait_is_as_long_as_needed(rate in rates(), history in histories()) {
        let start = Instant::now();
        let (bucket, mut now) = (Bucket::new(rate, start), start);
        for (amount, pause, behind) in history {
            now += nanos(pause);
            let seen = now.checked_sub(nanos(behind)).unwrap_or(now);
            match bucket.take(seen, amount) {
                Ok(()) => {}
                Err(NEVER) => prop_assert!(amount as f64 > rate.burst()),
                Err(wait) => {
                    is_exact(wait, |later| bucket.take(seen + later, amount).is_ok())?;
                    now = now.max(seen + wait);
                }
            }
        }
    }

    #[test]
    fn a_debt_is_paid_before_more_is_begun(
        (cpus, burst_s) in (0.001f64..64.0, 0.001f64..100.0),
        spent in prop::collection::vec((0u64..5_000_000_000, 0u64..2_000_000_000), 1..60),
    ) {
        let allowance = Allowance { cpus, burst_s };
        let start = Instant::now();
        let (budget, mut now, mut used) = (Budget::new(allowance, start), start, 0.0);
        for (use_ns, pause) in spent {
            now += nanos(pause);
            if let Err(wait) = budget.check(now) {
                is_exact(wait, |later| budget.check(now + later).is_ok())?;
                now += wait;
            }
            // Before the latest, which was begun with credit left, all is within what was allowed.
            let most = (now - start).as_secs_f64() * cpus + burst_s;
            prop_assert!(used <= most * (1.0 + 1e-9) + 1e-6, "{used} of {most}");
            used += nanos(use_ns).as_secs_f64();
            budget.spend(now, nanos(use_ns));
        }
    }

    #[test]
    fn a_change_keeps_what_was_used(before in rates(), after in rates(), amount in 1u64..1000) {
        let now = Instant::now();
        let bucket = Bucket::new(before, now);
        let used = bucket.take(now, amount).map_or(0.0, |()| amount as f64);
        bucket.set(now, after);
        let left = (before.burst() - used).min(after.burst());
        prop_assert_eq!(lock(&bucket.0).tokens(now), left);
        // A year later it is as full as a new one, and no fuller.
        let later = now + Duration::from_secs(31_536_000) + Duration::from_secs_f64(after.burst() / after.per_second);
        prop_assert_eq!(lock(&bucket.0).tokens(later), after.burst());
    }
}

fn bucket(per_second: f64, burst: f64, now: Instant) -> Bucket {
    Bucket::new(Rate { per_second, burst: Some(burst) }, now)
}

#[test]
fn a_raised_rate_counts_at_once() {
    let now = Instant::now();
    let slow = bucket(1.0, 100.0, now);
    assert_eq!(slow.take(now, 100), Ok(()));
    assert!(slow.take(now, 100).unwrap_err() > Duration::from_secs(99));
    slow.set(now, Rate { per_second: 1000.0, burst: Some(100.0) });
    assert!(slow.take(now, 100).unwrap_err() < Duration::from_millis(101));
}

#[test]
fn what_came_before_a_change_came_at_the_old_rate() {
    let now = Instant::now();
    let (slow, later) = (bucket(1.0, 1000.0, now), now + Duration::from_secs(10));
    assert_eq!(slow.take(now, 1000), Ok(()));
    slow.set(later, Rate { per_second: 1000.0, burst: Some(1000.0) });
    assert!(slow.take(later, 11).is_err());
    assert_eq!(slow.take(later, 10), Ok(()));
    let budget = Budget::new(Allowance { cpus: 1.0, burst_s: 1.0 }, now);
    budget.spend(now, Duration::from_secs(21));
    budget.set(later, Allowance { cpus: 10.0, burst_s: 1.0 });
    let wait = budget.check(later).unwrap_err();
    assert!((wait.as_secs_f64() - 1.0).abs() < 0.001, "{wait:?}");
}

#[test]
fn who_asks_all_the_time_does_not_starve() {
    let start = Instant::now();
    let slow = bucket(0.001, 1e9, start);
    assert_eq!(slow.take(start, 500_000_000), Ok(()));
    // In 20 µs so little comes that adding it to what is there would change nothing.
    let ask = |step: u64| slow.take(start + nanos(step * 20_000), 500_000_001).unwrap_err().as_secs_f64();
    let waits: Vec<f64> = (0..=10_000).map(ask).collect();
    assert!((waits[0] - 1000.0).abs() < 0.001, "{}", waits[0]);
    assert!((waits[10_000] - 999.8).abs() < 0.001, "{}", waits[10_000]);
}

#[test]
fn what_was_given_back_can_be_taken_again() {
    let now = Instant::now();
    let bucket = bucket(1.0, 5.0, now);
    assert_eq!(bucket.take(now, 5), Ok(()));
    bucket.give_back(2);
    assert!(bucket.take(now, 3).is_err());
    assert_eq!(bucket.take(now, 2), Ok(()));
    bucket.give_back(100);
    assert_eq!((bucket.take(now, 6), bucket.take(now, 5)), (Err(NEVER), Ok(())));
}

#[test]
fn threads_share_one_bucket() {
    let now = Instant::now();
    let bucket = bucket(0.001, 1000.0, now);
    let take = || (0..1000).filter(|_| bucket.take(now, 1).is_ok()).count();
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}

#[test]
fn a_rate_that_makes_no_sense_is_refused_and_lets_little_through() {
    let read = |text: &str| toml::from_str::<Rate>(text);
    assert_eq!(read("per_second = 5").unwrap().validate(), Ok(()));
    assert_eq!(read("per_second = 5").unwrap().burst(), 5.0);
    assert_eq!(read("per_second = 0.5").unwrap().burst(), 1.0);
    assert!(read("per_second = 5\nbrust = 7").is_err() && read("burst = 7").is_err());
    for (per_second, burst) in
        [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, 0.5), (1.0, f64::NAN)]
    {
        assert!(Rate { per_second, burst: Some(burst) }.validate().is_err(), "{per_second} {burst}");
    }
    let now = Instant::now();
    let broken = bucket(f64::NAN, f64::NAN, now);
    assert_eq!((broken.take(now, 2), broken.take(now, 1)), (Err(NEVER), Ok(())));
    for (cpus, burst_s) in [(0.0, 1.0), (1.0, 0.0), (1.0, 1e6), (f64::NAN, 1.0)] {
        assert!(Allowance { cpus, burst_s }.validate().is_err(), "{cpus} {burst_s}");
    }
}
