//! The gate before the guests' threads: long work is polled only while it has a place, and tenants take turns by what
//! the processor did for them, against their weights.
//!
//! Owns the waiting, the waking and the measuring of each turn; `turns` owns who goes next. Refuses to know what work is:
//! guest code and host calls are the same time. Short work on the reactor's threads does not pass here, but is charged to
//! the same clocks while anybody is here, and passes here once its tenant is ahead of somebody who waits. While nobody is
//! here both cost the load of one number.

mod turns;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use futures_util::task::AtomicWaker;

use crate::{
    account::{Account, Used},
    invocation::Invocation,
};
use turns::{Claim, Turns};

/// Places on the guests' threads, and the lines before them.
pub(super) struct Gate {
    turns: Mutex<Turns<Arc<Bell>>>,
    /// How much work has a place or waits for one, to be seen without the lock.
    active: AtomicUsize,
}

impl Gate {
    /// As many turns at once as there are threads for them.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(Turns::new(places)), active: AtomicUsize::new(0) })
    }

    /// Whether short work must begin here, too: its tenant has had more than its share, and another waits.
    pub(super) fn is_ahead(&self, invocation: &Invocation) -> bool {
        self.active.load(Relaxed) > 0 && self.change(|turns| turns.is_ahead(&claim(invocation)))
    }

    /// Charges an invocation's tenant with what was done for it before it came here.
    pub(super) fn charge(&self, invocation: &Invocation) {
        self.charge_for(invocation, || spent(&invocation.account));
    }

    /// Charges an invocation's tenant with work that was just done for it outside of all turns.
    pub(super) fn charge_for(&self, invocation: &Invocation, took: impl FnOnce() -> Duration) {
        if self.active.load(Relaxed) > 0 {
            let took = took();
            self.change(|turns| turns.charge(&claim(invocation), took));
        }
    }

    /// Changes something, where nobody's turn comes of it.
    fn change<T>(&self, change: impl FnOnce(&mut Turns<Arc<Bell>>) -> T) -> T {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let told = change(&mut turns);
        self.active.store(turns.active(), Relaxed);
        told
    }

    /// Changes something, and wakes whose turn comes of it; not who asks, whose task runs already. Says whether that is
    /// who has its turn.
    fn turn(&self, asks: Option<&Arc<Bell>>, change: impl FnOnce(&mut Turns<Arc<Bell>>) -> Option<Arc<Bell>>) -> bool {
        let next = self.change(|turns| {
            let next = change(turns);
            if let Some(next) = &next {
                // Under the lock, so that whoever gives up waiting knows whether it has a place to give back.
                next.has_place.store(true, Release);
            }
            next
        });
        match (next, asks) {
            (Some(next), Some(asks)) if Arc::ptr_eq(&next, asks) => true,
            (Some(next), _) => {
                next.task.wake();
                false
            }
            (None, _) => false,
        }
    }
}

fn claim(invocation: &Invocation) -> Claim {
    Claim::new(invocation.tenant.clone(), invocation.standing, invocation.priority)
}

/// All processor time of an account.
fn spent(account: &Account) -> Duration {
    account.spent(Used::Guest) + account.spent(Used::HostCall)
}

/// What wakes a task of the guests' threads, and says why.
#[derive(Debug, Default)]
struct Bell {
    task: AtomicWaker,
    /// The work itself wants to go on.
    rang: AtomicBool,
    /// It may begin its turn; given under the gate's lock.
    has_place: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Release);
        self.task.wake();
    }
}

/// Long work: polled in turns.
pub(super) struct Gated<F> {
    work: Pin<Box<F>>,
    gate: Arc<Gate>,
    invocation: Arc<Invocation>,
    claim: Claim,
    bell: Arc<Bell>,
    /// The bell as the work gets it.
    waker: Waker,
    stands: Stands,
}

/// Where work stands towards the gate.
#[derive(Clone, Copy)]
enum Stands {
    /// It wants nothing: it waits for a batch, or is done.
    Away,
    /// It asked for a turn, which is there once its bell says so.
    Asked { since: Instant },
    /// It has a place that nobody else was given: it came when one was free, or kept its own for another turn.
    Kept,
    /// This is its turn.
    Running,
}

impl<F> Gated<F> {
    pub(super) fn new(gate: Arc<Gate>, invocation: Arc<Invocation>, work: Pin<Box<F>>) -> Self {
        let bell = Arc::new(Bell::default());
        let (waker, claim) = (Waker::from(bell.clone()), claim(&invocation));
        // In line from now on, and not only from its first poll: a turn that ends before that would be followed by somebody
        // else's.
        let stands = match gate.turn(Some(&bell), |turns| turns.arrive(&claim, bell.clone())) {
            true => Stands::Kept,
            false => Stands::Asked { since: Instant::now() },
        };
        Self { work, gate, invocation, claim, bell, waker, stands }
    }

    /// Begins a turn, where there is one; asks for it, once.
    fn begins(&mut self) -> bool {
        let bell = &self.bell;
        let begins = match self.stands {
            Stands::Away => self.gate.turn(Some(bell), |turns| turns.arrive(&self.claim, bell.clone())),
            Stands::Asked { since } => {
                let begins = bell.has_place.load(Acquire);
                if begins {
                    self.invocation.stood(since, Instant::now());
                }
                begins
            }
            Stands::Kept | Stands::Running => true,
        };
        if begins {
            bell.has_place.store(false, Relaxed);
            self.stands = Stands::Running;
        } else if let Stands::Away = self.stands {
            self.stands = Stands::Asked { since: Instant::now() };
        }
        begins
    }

    /// Gives the place back after a turn, of which `took` is known unless it was broken off.
    fn end(&mut self, took: Option<Duration>) {
        self.stands = Stands::Away;
        self.gate.turn(None, |turns| turns.end(&self.claim, took));
    }

    /// Offers the place to whoever is behind, and asks for another turn.
    fn pass(&mut self, took: Duration) {
        self.stands = Stands::Asked { since: Instant::now() };
        let bell = &self.bell;
        if self.gate.turn(Some(bell), |turns| turns.pass(&self.claim, bell.clone(), took)) {
            self.stands = Stands::Kept;
        }
    }
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let gated = &mut *self;
        // Before anything is looked at: what changes later wakes this task.
        gated.bell.task.register(context.waker());
        if !gated.begins() {
            return Poll::Pending;
        }
        gated.bell.rang.store(false, Relaxed);
        let clock = ThreadTime::now();
        let polled = gated.work.as_mut().poll(&mut Context::from_waker(&gated.waker));
        let took = clock.elapsed();
        match polled {
            // It yielded: its task is woken already, and asks again.
            Poll::Pending if gated.bell.rang.load(Acquire) => gated.pass(took),
            Poll::Pending | Poll::Ready(_) => gated.end(Some(took)),
        }
        polled
    }
}

impl<F> Drop for Gated<F> {
    fn drop(&mut self) {
        match self.stands {
            Stands::Away => {}
            Stands::Kept => self.end(Some(Duration::ZERO)),
            // It panicked.
            Stands::Running => self.end(None),
            Stands::Asked { since } => {
                self.invocation.stood(since, Instant::now());
                let bell = &self.bell;
                self.gate.turn(None, |turns| {
                    if bell.has_place.load(Acquire) {
                        return turns.end(&self.claim, Some(Duration::ZERO));
                    }
                    turns.withdraw(&self.claim, |waits| Arc::ptr_eq(waits, bell));
                    None
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
