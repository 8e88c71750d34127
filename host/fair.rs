//! Weighted fair queueing by measured time: who has had the least for its weight goes next.
//!
//! Pure: owns the virtual clocks of flows (tenants, classes) that share something, an instance of a model or the
//! processor. Refuses to know what is shared, what waits and what time it is. Start-time fair queueing (Goyal, Vin and
//! Cheng, 1996): a flow's clock advances by the time that it was given over its weight, and the flow whose clock is
//! least goes next. Who comes back after a pause starts at the clock of whoever was served last, so no credit is hoarded
//! while idle; who was given more than its share keeps the debt until the others have caught up.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

/// The least share that any flow is given while it wants something, whatever the weights of the others.
const FLOOR: f64 = 0.01;
/// Who wants less than its share and then several things at once gets so many of the usual length before it must take
/// turns: without it a burst of a quiet flow would wait twice as long as alone, whatever its share.
const BURST: f64 = 8.0;
/// How much of the usual length the latest one makes up.
const USUAL_SHARE: f64 = 0.1;
/// Flows that want nothing are forgotten once there are so many more than flows that do.
const IDLE_FLOWS: usize = 64;

/// The clocks of all flows that share one thing. `K` names a flow.
#[derive(Clone, Debug)]
pub struct Fair<K> {
    flows: HashMap<K, Flow>,
    /// Where the clock stood of the flow that was served last.
    now: f64,
    /// The weights of all flows that want something, and how many these are.
    weights: f64,
    active: usize,
    /// What things took lately, in seconds: a moving mean.
    usual: f64,
    /// How many of these a burst may have.
    burst: f64,
}

#[derive(Clone, Debug)]
struct Flow {
    weight: f64,
    /// Seconds given, over the weight.
    clock: f64,
    /// The weight, or the floor's, by which the clock was last advanced.
    by: f64,
    /// How many things it wants, or is being given.
    wants: usize,
    /// How many of them have not been begun.
    waits: usize,
}

impl Flow {
    /// Where nothing of it waits it lets time pass: what it could have had meanwhile it does not get later, but for a burst.
    fn catch_up(&mut self, now: f64, burst: f64) {
        if self.waits == 0 {
            self.clock = self.clock.max(now - burst / self.weight);
        }
    }
}

impl<K> Default for Fair<K> {
    fn default() -> Self {
        Self { flows: HashMap::new(), now: 0.0, weights: 0.0, active: 0, usual: 0.0, burst: BURST }
    }
}

impl<K: Clone + Eq + Hash> Fair<K> {
    /// The same with other bursts: so many things of the usual length.
    pub fn with_burst(things: u32) -> Self {
        Self { burst: f64::from(things), ..Self::default() }
    }

    /// A flow of this weight wants one more thing. Until it has as many times left it counts as active.
    pub fn enter(&mut self, key: &K, weight: f64) {
        self.enter_all(key, weight, 1);
    }

    /// The same for several things.
    pub fn enter_all(&mut self, key: &K, weight: f64, things: usize) {
        if things == 0 {
            return;
        }
        let (now, burst) = (self.now, self.burst * self.usual);
        let flow = self.flows.entry(key.clone()).or_insert(Flow { weight, clock: now, by: weight, wants: 0, waits: 0 });
        if flow.wants == 0 {
            flow.weight = weight;
            self.weights += weight;
            self.active += 1;
        }
        flow.catch_up(now, burst);
        flow.wants += things;
        flow.waits += things;
    }

    /// What was begun wants to go on, and waits for it again.
    pub fn again<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let (now, burst) = (self.now, self.burst * self.usual);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.catch_up(now, burst);
            flow.waits += 1;
        }
    }

    /// Things that have not been begun are wanted no longer.
    pub fn withdraw<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, things: usize)
    where
        K: Borrow<Q>,
    {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.waits = flow.waits.saturating_sub(things);
        }
        self.leave_all(key, things);
    }

    /// A flow has got what it wanted.
    pub fn leave<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.leave_all(key, 1);
    }

    /// The same for several things.
    pub fn leave_all<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, things: usize)
    where
        K: Borrow<Q>,
    {
        let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.wants > 0) else { return };
        flow.wants = flow.wants.saturating_sub(things);
        if flow.wants > 0 {
            return;
        }
        self.weights -= flow.weight;
        self.active -= 1;
        if self.active == 0 {
            // Nobody wants anything: nobody is owed anything, and the clocks begin anew.
            // What things usually take is as it was.
            *self = Self { usual: self.usual, burst: self.burst, ..Self::default() };
        } else if self.flows.len() > 2 * IDLE_FLOWS {
            let now = self.now;
            self.flows.retain(|_, flow| flow.wants > 0 || flow.clock > now);
        }
    }

    /// Where a flow's clock stands: the least one goes next. A flow that is not known has waited for nothing yet.
    pub fn clock<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> f64
    where
        K: Borrow<Q>,
    {
        let Some(flow) = self.flows.get(key) else { return self.now };
        match flow.clock - self.now {
            // What it is ahead by are seconds over a weight; where the floor has moved since, the seconds are what counts.
            ahead if ahead > 0.0 => self.now + ahead * flow.by / self.by(flow),
            _ if flow.wants == 0 => self.now,
            _ => flow.clock,
        }
    }

    /// A flow is served, which will probably take so long; [`Fair::settle`] puts right what was expected wrongly.
    pub fn serve<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, expected: Duration)
    where
        K: Borrow<Q>,
    {
        self.serve_all(key, 1, expected);
    }

    /// The same for several things at once.
    pub fn serve_all<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, things: usize, expected: Duration)
    where
        K: Borrow<Q>,
    {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.waits = flow.waits.saturating_sub(things);
        }
        self.now = self.now.max(self.clock(key));
        self.usual += (expected.as_secs_f64() - self.usual) * USUAL_SHARE;
        self.add(key, expected.as_secs_f64());
    }

    /// What was expected to take so long took another time.
    pub fn settle<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, expected: Duration, took: Duration)
    where
        K: Borrow<Q>,
    {
        self.add(key, took.as_secs_f64() - expected.as_secs_f64());
    }

    fn add<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, seconds: f64)
    where
        K: Borrow<Q>,
    {
        let Some(by) = self.flows.get(key).map(|flow| self.by(flow)) else { return };
        let clock = self.clock(key) + seconds / by;
        if let Some(flow) = self.flows.get_mut(key) {
            (flow.clock, flow.by) = (clock, by);
        }
    }

    /// The weight by which a flow's clock advances.
    fn by(&self, flow: &Flow) -> f64 {
        flow.weight.max(FLOOR * self.weights)
    }

    /// The share of the whole that a flow of this weight has, or would have, beside those that want something.
    pub fn share<Q: Eq + Hash + ?Sized>(&self, key: &Q, weight: f64) -> f64
    where
        K: Borrow<Q>,
    {
        let is_active = self.flows.get(key).is_some_and(|flow| flow.wants > 0);
        let all = if is_active { self.weights } else { self.weights + weight };
        (weight / all.max(f64::MIN_POSITIVE)).clamp(FLOOR, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Serves whoever is due so often, each time for what `cost` says, and tells what each was given.
    fn given(fair: &mut Fair<usize>, flows: usize, turns: usize, cost: impl Fn(usize) -> Duration) -> Vec<f64> {
        let mut given = vec![0.0; flows];
        for _ in 0..turns {
            let due = (0..flows).min_by(|a, b| fair.clock(a).total_cmp(&fair.clock(b))).unwrap();
            fair.serve(&due, MS);
            fair.settle(&due, MS, cost(due));
            given[due] += cost(due).as_secs_f64();
        }
        given
    }

    #[test]
    fn an_idle_flow_hoards_nothing_and_a_debt_is_paid() {
        let mut fair = Fair::default();
        fair.enter(&0, 1.0);
        given(&mut fair, 1, 100, |_| MS);
        fair.enter(&1, 1.0);
        let shares = given(&mut fair, 2, 100, |_| MS);
        assert!((shares[0] - shares[1]).abs() < 0.003, "{shares:?}: what 0 had before 1 came is nobody's debt");
        // 0 is given 50 ms at once and pauses; when it comes back the other goes first until it has had as much.
        fair.serve(&0, 50 * MS);
        fair.leave(&0);
        fair.enter(&0, 1.0);
        let shares = given(&mut fair, 2, 50, |_| MS);
        assert!(shares[0] <= 0.002, "{shares:?}");
        // Once nobody wants anything, all begin anew.
        fair.serve(&0, 50 * MS);
        fair.leave(&0);
        fair.leave(&1);
        assert_eq!((fair.clock(&0), fair.flows.len()), (0.0, 0));
    }

    #[test]
    fn who_is_never_quite_idle_hoards_nothing_either() {
        let mut fair = Fair::default();
        fair.enter_all(&1, 1.0, 1_000_000);
        fair.enter(&0, 1.0);
        fair.serve(&0, MS);
        for _ in 0..1000 {
            // One of 0 is always under way when the next comes; 1 is given thirty times as much.
            fair.enter(&0, 1.0);
            fair.serve(&0, MS);
            fair.leave(&0);
            fair.serve_all(&1, 30, 30 * MS);
        }
        fair.enter_all(&0, 1.0, 1000);
        let burst = (fair.clock(&1) - fair.clock(&0)) / MS.as_secs_f64();
        assert!(burst < 2.0 * BURST * 30.0, "{burst} things at once after a steady trickle");
    }

    #[test]
    fn idleness_is_seen_whatever_the_weights() {
        let mut fair = Fair::default();
        // In floating point 10 + 3.3 - 10 - 3.3 is not 0.
        fair.enter(&0, 10.0);
        fair.enter(&1, 3.3);
        fair.serve(&0, 50 * MS);
        fair.leave(&0);
        fair.leave(&1);
        assert_eq!((fair.clock(&0), fair.flows.len()), (0.0, 0));
    }

    #[test]
    fn nobody_gets_less_than_the_floor() {
        let mut fair = Fair::default();
        fair.enter(&0, 1000.0);
        fair.enter(&1, 0.001);
        let shares = given(&mut fair, 2, 10_000, |_| MS);
        let share = shares[1] / (shares[0] + shares[1]);
        assert!((FLOOR * 0.9..FLOOR * 1.2).contains(&share), "{share}");
        assert_eq!((fair.share(&1, 0.001), fair.share(&0, 1000.0).round()), (FLOOR, 1.0));
    }

    #[test]
    fn flows_that_want_nothing_are_forgotten() {
        let mut fair = Fair::default();
        fair.enter(&usize::MAX, 1.0);
        for flow in 0..10_000 {
            fair.enter(&flow, 1.0);
            fair.serve(&flow, MS);
            fair.leave(&flow);
            given(&mut fair, 0, 0, |_| MS);
            fair.serve(&usize::MAX, 2 * MS);
        }
        assert!(fair.flows.len() <= 2 * IDLE_FLOWS + 2, "{}", fair.flows.len());
    }

    proptest! {
        #[test]
        fn time_is_shared_by_weight_whatever_things_cost(
            weights in proptest::collection::vec(1_u32..10, 2..6),
            costs in proptest::collection::vec(1_u64..2000, 6),
        ) {
            let mut fair = Fair::default();
            weights.iter().enumerate().for_each(|(flow, weight)| fair.enter(&flow, f64::from(*weight)));
            let cost = |flow: usize| Duration::from_micros(costs[flow]);
            let given = given(&mut fair, weights.len(), 60_000, cost);
            let (all, sum) = (given.iter().sum::<f64>(), weights.iter().sum::<u32>());
            for (given, weight) in given.iter().zip(&weights) {
                let (share, due) = (given / all, f64::from(*weight) / f64::from(sum));
                // What is behind by less than one thing of each flow is no unfairness.
                let slack = 2.0 * 0.002 * weights.len() as f64 / all;
                prop_assert!((share - due).abs() <= 0.01 * due + slack, "{share} for {due}");
            }
        }
    }
}
