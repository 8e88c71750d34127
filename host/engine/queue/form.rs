//! Forming a batch: whose turn it is, row by row, and what is taken out of the queue for it.
//!
//! Part of the policy, and as pure. Owns the order in which rows are offered to a batch; whether one fits is `company`'s.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Bill, CLASSES, Entry, Formed, Queue, Reason, Served,
    company::{Company, Newcomer, elements, parts},
};
use crate::tenant::Standing;

/// What a batch is expected to take where nothing was measured; it is put right when it has run.
const UNMEASURED: Duration = Duration::from_millis(1);
/// Rows are left to other free lanes if that is predicted to save at least so much: waking a lane costs tens of
/// microseconds, and what a batch gains in company is lost.
const SPREAD_GAIN: Duration = Duration::from_millis(1);

/// A row that goes into the batch: where it waits, and its number.
pub(super) struct Picked {
    class: usize,
    tenant: Arc<str>,
    entry: usize,
    row: usize,
}

/// A tenant's rows of one class, as they are offered.
struct Offer<'a, T> {
    class: usize,
    tenant: &'a Arc<str>,
    entries: &'a std::collections::VecDeque<Entry<T>>,
    weight: f64,
    exclusive: bool,
    /// Whether the tenant asks for much while another asks for little.
    is_loud: bool,
    /// The flow's clock, with what it would be given by this batch.
    clock: f64,
    /// The entry that is looked at, and how many of its rows have been.
    at: (usize, usize),
    /// The entry that a row was taken of last.
    taken: Option<usize>,
}

impl<T: Clone> Queue<T> {
    /// The rows of the next batch, and why no more. `None` if nothing waits.
    pub(super) fn pick(&self, now: Instant, free: usize) -> Option<(Vec<Picked>, Reason)> {
        let mut clocks = CLASSES.map(|(priority, _)| self.between.clock(&priority));
        let mut offers = self.offers(now);
        let mut company = Company::new(&self.limits, self.rows);
        let (mut picked, mut refused) = (Vec::new(), None);
        // Who began it, where the tenant shares with nobody.
        let mut owner: Option<(&Arc<str>, bool)> = None;
        while let Some(due) = due(&offers, &clocks) {
            let offer = &mut offers[due];
            if picked.len() == self.limits.rows {
                refused = Some(Reason::Full);
                break;
            }
            let is_foreign =
                owner.is_some_and(|(tenant, exclusive)| tenant != offer.tenant && (exclusive || offer.exclusive));
            if is_foreign {
                refused.get_or_insert(Reason::Exclusive);
                offers.swap_remove(due);
                continue;
            }
            let Some((entry, row)) = offer.next_fitting(&mut company, &mut refused) else {
                offers.swap_remove(due);
                continue;
            };
            owner.get_or_insert((offer.tenant, offer.exclusive));
            picked.push(Picked { class: offer.class, tenant: offer.tenant.clone(), entry, row });
            let cost = self.expected(1, elements(offer.entries[entry].lengths_of(row))).as_secs_f64();
            offer.clock += cost / offer.weight;
            clocks[offer.class] += cost / CLASSES[offer.class].1;
        }
        if picked.is_empty() {
            return None;
        }
        let reason = match refused {
            Some(reason) if picked.len() < self.rows => reason,
            _ if picked.len() == self.limits.rows => Reason::Full,
            _ => self.spread(&mut picked, company.padded(), free),
        };
        Some((picked, reason))
    }

    fn offers(&self, now: Instant) -> Vec<Offer<'_, T>> {
        let (mut offers, much) = (Vec::new(), self.neighbours.much(now));
        for (class, waiting) in self.classes.iter().enumerate() {
            for (tenant, entries) in &waiting.flows {
                let Some(standing) = entries.front().map(|entry| entry.standing) else { continue };
                let Standing { weight, exclusive } = standing;
                // The floor of a share is held when time is billed; within one batch the weight will do.
                let rows = entries.iter().map(|entry| entry.left.len());
                let (clock, is_loud) = (waiting.tenants.clock(tenant), self.neighbours.asks(tenant, rows, much));
                let (at, taken) = ((0, 0), None);
                offers.push(Offer { class, tenant, entries, weight, exclusive, is_loud, clock, at, taken });
            }
        }
        offers
    }

    fn expected(&self, rows: usize, elements: u64) -> Duration {
        self.limits.predict(rows, elements).unwrap_or(UNMEASURED)
    }

    /// Leaves rows to other free lanes where that ends sooner.
    fn spread(&self, picked: &mut Vec<Picked>, padded: u64, free: usize) -> Reason {
        let rows = picked.len();
        let mine = rows.div_ceil(free.clamp(1, rows));
        match (self.limits.predict(rows, padded), self.limits.predict(mine, padded)) {
            (Some(together), Some(apart)) if mine < rows && apart + SPREAD_GAIN < together => {
                picked.truncate(mine);
                Reason::Spread
            }
            _ => Reason::Idle,
        }
    }

    /// Takes rows out of the queue and bills what they are expected to take.
    pub(super) fn take(&mut self, mut picked: Vec<Picked>, reason: Reason) -> Formed<T> {
        // Rows of one request side by side, and requests from the last one on, so that positions stay right.
        picked.sort_by(|a, b| (a.class, &a.tenant, b.entry).cmp(&(b.class, &b.tenant, a.entry)));
        let (mut rows, mut sizes) = (Vec::with_capacity(picked.len()), Vec::with_capacity(picked.len()));
        let mut company = Company::new(&self.limits, self.rows);
        let mut bill = Bill::default();
        let mut flows = Vec::new();
        for request in picked.chunk_by(|a, b| (a.class, &a.tenant, a.entry) == (b.class, &b.tenant, b.entry)) {
            let Picked { class, tenant, entry: index, .. } = &request[0];
            let Some(flow) = self.classes[*class].flows.get_mut(tenant) else { continue };
            let entry = &mut flow[*index];
            for Picked { row, .. } in request {
                let lengths = entry.lengths_of(*row);
                sizes.push(elements(lengths));
                company.join(lengths);
                rows.push((entry.ticket.clone(), *row));
            }
            entry.left.retain(|row| !request.iter().any(|picked| picked.row == *row));
            let (priority, weight, rows) = (CLASSES[*class].0, entry.standing.weight, request.len());
            flows.push(Served { priority, tenant: tenant.clone(), weight, rows, part: 0.0 });
            if entry.left.is_empty() {
                flow.remove(*index);
            }
            if flow.is_empty() {
                self.classes[*class].flows.remove(tenant);
            }
        }
        let padded = company.padded();
        self.rows -= rows.len();
        bill.expected = self.expected(rows.len(), padded);
        let parts = parts(&sizes, padded);
        let mut place = 0;
        for mut served in flows {
            served.part = parts[place..place + served.rows].iter().sum();
            place += served.rows;
            self.serve(&served, bill.expected.mul_f64(served.part));
            bill.flows.push(served);
        }
        let elements = (sizes.iter().sum(), padded);
        Formed { rows, elements, parts, reason, bill }
    }

    fn serve(&mut self, Served { priority, tenant, rows, .. }: &Served, expected: Duration) {
        self.between.serve_all(priority, *rows, expected);
        self.classes[*priority as usize].tenants.serve_all(tenant, *rows, expected);
    }
}

/// Whose row comes next: the class that is due, and in it the tenant.
fn due<T>(offers: &[Offer<'_, T>], clocks: &[f64; CLASSES.len()]) -> Option<usize> {
    let clock = |offer: &Offer<'_, T>| (clocks[offer.class], offer.class, offer.clock);
    let before = |a: &Offer<'_, T>, b: &Offer<'_, T>| {
        let ((class_a, a_number, a), (class_b, b_number, b)) = (clock(a), clock(b));
        class_a.total_cmp(&class_b).then(a_number.cmp(&b_number)).then(a.total_cmp(&b))
    };
    (0..offers.len()).min_by(|a, b| before(&offers[*a], &offers[*b]))
}

impl<T> Offer<'_, T> {
    /// The flow's next row that fits, in the order in which its requests came. Those that do not are passed over for this
    /// batch.
    fn next_fitting(&mut self, company: &mut Company<'_>, refused: &mut Option<Reason>) -> Option<(usize, usize)> {
        while let Some(entry) = self.entries.get(self.at.0).filter(|_| company.goes_on()) {
            let looked_at = self.at.1;
            let Some(index) = entry.left.len().checked_sub(looked_at + 1) else {
                self.at = (self.at.0 + 1, 0);
                continue;
            };
            self.at.1 += 1;
            let row = entry.left[index];
            let newcomer = Newcomer { is_same: self.taken == Some(self.at.0), is_loud: self.is_loud };
            match company.admit(entry.lengths_of(row), newcomer) {
                Ok(()) => {
                    self.taken = Some(self.at.0);
                    return Some((self.at.0, row));
                }
                Err(reason) => drop(refused.get_or_insert(reason)),
            }
        }
        None
    }
}
