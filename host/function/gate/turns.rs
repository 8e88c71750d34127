//! Whose turn it is: places on the guests' threads, and who waits for one.
//!
//! Pure: owns the places, a line for each tenant and priority, and the tenants' clocks. Refuses to know what a turn does,
//! how whoever is next learns of it, and what time it is, so that each decision can be asked for in a test. A turn is one
//! poll of long work; its end charges the tenant with what it took, and gives the place to the line that is behind.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    fair::Fair,
    tenant::{Priority, Standing},
};

/// How long a turn probably takes: guests yield at every epoch. Charged when it begins, so that the second place is not
/// given to the same tenant because its first turn is still running; put right when it ends.
pub(super) const SLICE: Duration = Duration::from_millis(1);
/// Turns that a tenant may have one after the other when it comes back: a few guests of some milliseconds that came
/// together, or it would wait for others' turns between its own.
const BURST_TURNS: u32 = 16;
/// The weight of a tenant's batch work beside what is interactive. It never starves, and leaves the rest to others.
const BATCH_SHARE: f64 = 0.1;
/// So much more than whoever waits a tenant has been given before its short work must wait, too: more than the turns by
/// which equals may be apart.
const AHEAD: Duration = SLICE.saturating_mul(4);

/// What takes part: a tenant's work of one priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow {
    tenant: Arc<str>,
    priority: Priority,
}

/// By what right work waits for a turn.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    flow: Flow,
    weight: f64,
}

impl Claim {
    pub(super) fn new(tenant: Arc<str>, standing: Standing, priority: Priority) -> Self {
        let share = if priority == Priority::Batch { BATCH_SHARE } else { 1.0 };
        Self { flow: Flow { tenant, priority }, weight: standing.weight * share }
    }
}

/// Places and lines. `W` is work, as it waits.
#[derive(Debug)]
pub(super) struct Turns<W> {
    places: usize,
    taken: usize,
    waiting: usize,
    /// Never empty, each; with the number of the arrival.
    lines: HashMap<Flow, VecDeque<(u64, W)>>,
    arrivals: u64,
    fair: Fair<Flow>,
}

impl<W> Turns<W> {
    pub(super) fn new(places: usize) -> Self {
        let (lines, fair) = (HashMap::new(), Fair::with_burst(BURST_TURNS));
        Self { places: places.max(1), taken: 0, waiting: 0, lines, arrivals: 0, fair }
    }

    /// How much work has a place or waits for one.
    pub(super) fn active(&self) -> usize {
        self.taken + self.waiting
    }

    /// Work wants a turn. Gives it back where that may begin now; otherwise it waits, and is given by the end of another.
    pub(super) fn arrive(&mut self, claim: &Claim, work: W) -> Option<W> {
        self.fair.enter(&claim.flow, claim.weight);
        if self.taken < self.places {
            // Where a place is free nobody waits.
            self.begin(&claim.flow);
            return Some(work);
        }
        self.line_up(claim, work);
        None
    }

    /// A turn is over and its work wants another. Gives whose turn it is now: maybe again the same.
    pub(super) fn pass(&mut self, claim: &Claim, work: W, took: Duration) -> Option<W> {
        self.settle(claim, SLICE, took);
        self.taken -= 1;
        self.fair.again(&claim.flow);
        if self.waiting == 0 {
            self.begin(&claim.flow);
            return Some(work);
        }
        self.line_up(claim, work);
        self.next()
    }

    /// A turn is over, and its work wants no other: it is done, or waits for something else. Where it was broken off
    /// nobody knows what it took, and it counts as a slice. Gives whose turn it is now.
    pub(super) fn end(&mut self, claim: &Claim, took: Option<Duration>) -> Option<W> {
        self.settle(claim, SLICE, took.unwrap_or(SLICE));
        self.fair.leave(&claim.flow);
        self.taken -= 1;
        self.next()
    }

    /// Work that waits wants no turn any more.
    pub(super) fn withdraw(&mut self, claim: &Claim, is: impl Fn(&W) -> bool) {
        let Some(line) = self.lines.get_mut(&claim.flow) else { return };
        let Some(index) = line.iter().position(|(_, work)| is(work)) else { return };
        line.remove(index);
        if line.is_empty() {
            self.lines.remove(&claim.flow);
        }
        self.waiting -= 1;
        self.fair.withdraw(&claim.flow, 1);
    }

    /// A tenant was given processor time without a turn.
    pub(super) fn charge(&mut self, claim: &Claim, took: Duration) {
        self.fair.enter(&claim.flow, claim.weight);
        self.settle(claim, Duration::ZERO, took);
        self.fair.withdraw(&claim.flow, 1);
    }

    /// Whether another tenant waits that has had less for its weight: then new work has to wait, too, however short.
    pub(super) fn is_ahead(&self, claim: &Claim) -> bool {
        let others = self.lines.keys().filter(|flow| flow.tenant != claim.flow.tenant);
        let allowed = self.fair.clock(&claim.flow) - AHEAD.as_secs_f64() / claim.weight;
        others.map(|flow| self.fair.clock(flow)).any(|clock| clock < allowed)
    }

    fn begin(&mut self, flow: &Flow) {
        self.taken += 1;
        self.fair.serve(flow, SLICE);
    }

    fn line_up(&mut self, claim: &Claim, work: W) {
        self.arrivals += 1;
        self.waiting += 1;
        self.lines.entry(claim.flow.clone()).or_default().push_back((self.arrivals, work));
    }

    /// What is batch work counts against what its tenant is given for interactive work, too: asking for less urgency
    /// brings nobody more.
    fn settle(&mut self, claim: &Claim, expected: Duration, took: Duration) {
        self.fair.settle(&claim.flow, expected, took);
        if claim.flow.priority == Priority::Batch {
            let interactive = Flow { tenant: claim.flow.tenant.clone(), priority: Priority::Interactive };
            self.fair.settle(&interactive, Duration::ZERO, took);
        }
    }

    /// Gives a free place to the line whose clock is least; of equal ones to what is interactive, then to who came first.
    fn next(&mut self) -> Option<W> {
        if self.taken >= self.places {
            return None;
        }
        let due = |(flow, line): (&Flow, &VecDeque<(u64, W)>)| {
            (self.fair.clock(flow), flow.priority == Priority::Batch, line.front().map_or(0, |(arrival, _)| *arrival))
        };
        let earlier =
            |a: &(f64, bool, u64), b: &(f64, bool, u64)| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2)));
        let all = self.lines.iter().map(|line| (due(line), line.0));
        let flow = all.min_by(|(a, _), (b, _)| earlier(a, b)).map(|(_, flow)| flow.clone())?;
        let line = self.lines.get_mut(&flow)?;
        let (_, work) = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&flow);
        }
        self.waiting -= 1;
        self.begin(&flow);
        Some(work)
    }
}

#[cfg(test)]
mod tests;
