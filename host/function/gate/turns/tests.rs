//! The gate's decisions: random histories never lose work or places, and shares and waits in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::{prelude::*, test_runner::Config};

use super::*;

fn claim(tenant: usize, weight: f64, priority: Priority) -> Claim {
    Claim::new(tenant.to_string().into(), Standing { weight, ..Standing::default() }, priority)
}

/// What may happen to work; the number chooses which.
#[derive(Clone, Debug)]
enum Event {
    Arrives(Claim),
    Yields(usize, u64),
    Ends(usize, u64),
    BreaksOff(usize),
    Leaves(usize),
    Charged(Claim, u64),
}

fn event() -> impl Strategy<Value = Event> {
    let who = || {
        let priority = prop_oneof![3 => Just(Priority::Interactive), 1 => Just(Priority::Batch)];
        (0_usize..4, 1_u32..4, priority).prop_map(|(tenant, weight, priority)| claim(tenant, weight.into(), priority))
    };
    prop_oneof![
        4 => who().prop_map(Event::Arrives),
        3 => (any::<usize>(), 0_u64..3000).prop_map(|(which, took)| Event::Yields(which, took)),
        2 => (any::<usize>(), 0_u64..3000).prop_map(|(which, took)| Event::Ends(which, took)),
        1 => any::<usize>().prop_map(Event::BreaksOff),
        1 => any::<usize>().prop_map(Event::Leaves),
        1 => (who(), 0_u64..3000).prop_map(|(claim, took)| Event::Charged(claim, took)),
    ]
}

/// A history as it should be: who runs and who waits, beside the turns that decide it.
struct History {
    turns: Turns<usize>,
    running: Vec<(usize, Claim)>,
    waiting: Vec<(usize, Claim)>,
    arrivals: usize,
}

impl History {
    fn happens(&mut self, event: Event) {
        let us = Duration::from_micros;
        let pick = |of: &mut Vec<(usize, Claim)>, which: usize| {
            let len = of.len();
            (len > 0).then(|| of.swap_remove(which % len))
        };
        match event {
            Event::Arrives(claim) => {
                self.arrivals += 1;
                self.waiting.push((self.arrivals, claim.clone()));
                let next = self.turns.arrive(&claim, self.arrivals);
                assert!(next.is_none_or(|next| next == self.arrivals), "nobody waits while a place is free");
                self.begins(next);
            }
            Event::Yields(which, took) => {
                let Some((work, claim)) = pick(&mut self.running, which) else { return };
                self.waiting.push((work, claim.clone()));
                let next = self.turns.pass(&claim, work, us(took));
                self.begins(next);
            }
            Event::Ends(which, took) => {
                let Some((_, claim)) = pick(&mut self.running, which) else { return };
                let next = self.turns.end(&claim, Some(us(took)));
                self.begins(next);
            }
            Event::BreaksOff(which) => {
                let Some((_, claim)) = pick(&mut self.running, which) else { return };
                let next = self.turns.end(&claim, None);
                self.begins(next);
            }
            Event::Leaves(which) => {
                let Some((work, claim)) = pick(&mut self.waiting, which) else { return };
                self.turns.withdraw(&claim, |waits| *waits == work);
            }
            Event::Charged(claim, took) => self.turns.charge(&claim, us(took)),
        }
    }

    fn begins(&mut self, next: Option<usize>) {
        let Some(next) = next else { return };
        let index = self.waiting.iter().position(|(work, _)| *work == next).expect("whose turn it is waited");
        let began = self.waiting.swap_remove(index);
        self.running.push(began);
    }

    fn is_sound(&self, places: usize) {
        assert!(self.running.len() <= places, "never more turns than places");
        assert!(self.waiting.is_empty() || self.running.len() == places, "nobody waits while a place is free");
        assert_eq!((self.turns.taken, self.turns.waiting), (self.running.len(), self.waiting.len()));
        assert_eq!(self.turns.lines.values().map(VecDeque::len).sum::<usize>(), self.waiting.len());
        assert!(self.turns.lines.values().all(|line| !line.is_empty()));
    }
}

proptest! {
    #![proptest_config(Config::with_cases(12_000))]

    #[test]
    fn no_history_loses_work_or_places(
        places in 1_usize..4,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let (running, waiting) = (Vec::new(), Vec::new());
        let mut history = History { turns: Turns::new(places), running, waiting, arrivals: 0 };
        for event in events {
            history.happens(event);
            history.is_sound(places);
        }
        // Everybody who still waits gets a turn.
        while !history.running.is_empty() {
            history.happens(Event::Ends(0, 1000));
            history.is_sound(places);
        }
        prop_assert!(history.waiting.is_empty() && history.turns.active() == 0);
    }
}

/// A tenant in virtual time: works that are there always, or one that comes so often.
struct Load {
    claim: Claim,
    /// Works at once that never end.
    endless: usize,
    /// Works that come one by one, so far apart in the mean, and of how many turns.
    every: Option<(Duration, usize)>,
    /// In how much of its interval one may come.
    spread: f64,
    /// What a turn takes.
    turn: Duration,
}

impl Load {
    fn endless(claim: Claim, endless: usize, turn: Duration) -> Self {
        Self { claim, endless, every: None, spread: 1.0, turn }
    }
}

#[derive(Clone, Copy)]
struct Work {
    load: usize,
    turns_left: usize,
    came: Duration,
}

/// What each load was given, and how long its works took from coming to their end.
struct Ran {
    given: Vec<f64>,
    times: Vec<Vec<Duration>>,
}

/// Runs loads on so many places for so long.
fn run(places: usize, loads: &[Load], until: Duration) -> Ran {
    let mut turns = Turns::new(places);
    let mut ran = Ran { given: vec![0.0; loads.len()], times: vec![Vec::new(); loads.len()] };
    // When something happens: a turn's end, or a work's coming.
    let mut events = BinaryHeap::new();
    let mut works: Vec<Work> = Vec::new();
    let mut seed = 1_u64;
    for (load, of) in loads.iter().enumerate() {
        for _ in 0..of.endless {
            works.push(Work { load, turns_left: usize::MAX, came: Duration::ZERO });
            events.push(Reverse((Duration::ZERO, works.len() - 1, true)));
        }
        if let Some((every, turns_left)) = of.every {
            let mut at = Duration::ZERO;
            while at < until {
                // Anywhere within its interval.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let came = at + every.mul_f64(of.spread * (seed >> 11) as f64 / (1_u64 << 53) as f64);
                works.push(Work { load, turns_left, came });
                events.push(Reverse((came, works.len() - 1, true)));
                at += every;
            }
        }
    }
    while let Some(Reverse((now, work, comes))) = events.pop().filter(|Reverse((now, ..))| *now < until) {
        let Work { load, turns_left, came } = works[work];
        let Load { claim, turn, .. } = &loads[load];
        let next = if comes {
            turns.arrive(claim, work)
        } else {
            ran.given[load] += turn.as_secs_f64();
            works[work].turns_left = turns_left.saturating_sub(1);
            if turns_left > 1 {
                turns.pass(claim, work, *turn)
            } else {
                ran.times[load].push(now - came);
                turns.end(claim, Some(*turn))
            }
        };
        if let Some(next) = next {
            events.push(Reverse((now + loads[works[next].load].turn, next, false)));
        }
    }
    ran.times.iter_mut().for_each(|times| times.sort());
    ran
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[test]
fn places_that_are_wanted_are_shared_by_weight_whatever_a_turn_takes() {
    let interactive = Priority::Interactive;
    for places in [1, 2, 4] {
        for turns_us in [[1000, 1000, 1000], [1000, 20, 300], [100, 5000, 1000]] {
            let turn = |which: usize| Duration::from_micros(turns_us[which]);
            let weights = [1.0, 3.0, 2.0];
            // However much each asks for: enough for its share of places, or twenty times that.
            let works = [places, 20 * places, 4 * places];
            let load =
                |which: usize| Load::endless(claim(which, weights[which], interactive), works[which], turn(which));
            let ran = run(places, &[load(0), load(1), load(2)], Duration::from_secs(5));
            let all = ran.given.iter().sum::<f64>();
            assert!(all > 4.9 * places as f64, "no place is idle: {all}");
            for (given, weight) in ran.given.iter().zip(weights) {
                let (share, due) = (given / all, weight / 6.0);
                assert!((share / due - 1.0).abs() < 0.05, "{places} places, {turns_us:?}: {share} for {due}");
            }
        }
    }
}

#[test]
fn twenty_times_an_equal_neighbours_load_changes_little() {
    for (places, length) in [(1, 1), (2, 1), (4, 1), (2, 4), (4, 10)] {
        // A quarter of all places: by works of so many turns, one by one.
        let every = SLICE * 4 * length / places;
        let load = |which: usize, of: u32| {
            let every = Some((every / of, length as usize));
            Load { every, ..Load::endless(claim(which, 1.0, Priority::Interactive), 0, SLICE) }
        };
        let p99_beside = |of| p99(&run(places as usize, &[load(0, 1), load(1, of)], Duration::from_secs(10)).times[0]);
        let (equal, more) = (p99_beside(1), p99_beside(20));
        assert!(more <= equal.mul_f64(1.2) + SLICE, "{places} places, {length} turns: {equal:?} beside {more:?}");
    }
}

#[test]
fn batch_work_stands_back_and_never_starves() {
    let (interactive, batch) = (Priority::Interactive, Priority::Batch);
    let of = |tenant, priority| Load::endless(claim(tenant, 1.0, priority), 8, SLICE);
    let shares = |loads: &[Load]| {
        let given = run(2, loads, Duration::from_secs(10)).given;
        let all = given.iter().sum::<f64>();
        given.into_iter().map(|given| (100.0 * given / all).round()).collect::<Vec<_>>()
    };
    // Of one tenant, and beside another's.
    assert_eq!(shares(&[of(0, interactive), of(0, batch)]), [90.0, 10.0]);
    assert_eq!(shares(&[of(0, interactive), of(1, batch)]), [91.0, 9.0]);
    // Who asks for both has no more than who asks for one.
    assert_eq!(shares(&[of(0, interactive), of(1, interactive), of(1, batch)]), [50.0, 45.0, 5.0]);
    // What is interactive, and within its share, waits for no more than the turns in progress.
    let rare = Load { endless: 0, every: Some((SLICE * 8, 1)), spread: 0.5, ..of(0, interactive) };
    let ran = run(1, &[rare, of(1, batch), of(2, batch)], Duration::from_secs(10));
    assert!(ran.times[0].last().is_some_and(|longest| *longest <= 2 * SLICE), "{:?}", ran.times[0].last());
}

#[test]
fn short_work_is_charged_and_waits_only_behind_who_has_had_less() {
    let claims: Vec<_> = (0..3).map(|tenant| claim(tenant, 1.0, Priority::Interactive)).collect();
    let mut turns = Turns::new(1);
    let short = Duration::from_micros(20);
    assert_eq!(turns.arrive(&claims[0], 0), Some(0));
    // 1 lives on short work; nobody waits, so nobody is kept from anything.
    (0..1000).for_each(|_| turns.charge(&claims[1], short));
    assert!(!turns.is_ahead(&claims[1]));
    // Now 2 waits, which has had nothing; of 0 there is more, too, but its own work is no reason.
    assert_eq!(turns.arrive(&claims[2], 2), None);
    assert!(turns.is_ahead(&claims[1]) && !turns.is_ahead(&claims[0]));
    // A neighbour that needs little is not ahead.
    (0..100).for_each(|_| turns.charge(&claims[0], short));
    assert!(!turns.is_ahead(&claims[0]));
    // 2 catches up; its turns come before those of 1, which paid for none of its own.
    assert_eq!(turns.arrive(&claims[1], 1), None);
    assert_eq!(turns.end(&claims[0], Some(SLICE)), Some(2));
    for _ in 0..15 {
        assert_eq!(turns.pass(&claims[2], 2, SLICE), Some(2));
    }
    turns.withdraw(&claims[1], |work| *work == 1);
    assert!(!turns.is_ahead(&claims[1]));
    assert_eq!((turns.end(&claims[2], None), turns.active()), (None, 0));
}

#[test]
fn a_tenants_own_work_is_no_reason_to_wait() {
    let (interactive, batch) = (claim(0, 1.0, Priority::Interactive), claim(0, 1.0, Priority::Batch));
    let mut turns = Turns::new(1);
    assert_eq!((turns.arrive(&interactive, 0), turns.arrive(&interactive, 1)), (Some(0), None));
    turns.charge(&batch, AHEAD * 10);
    assert!(!turns.is_ahead(&batch));
    assert_eq!(turns.arrive(&claim(1, 1.0, Priority::Interactive), 2), None);
    assert!(turns.is_ahead(&batch));
}
