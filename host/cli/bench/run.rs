//! One cell of the matrix, driven: threads that share nothing but counters, a bar for people, and an end when the user
//! says so.
//!
//! It owns the threads and joins what they counted. Nothing here knows how clients behave (`closed`, `open`).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::bodies::Requests;
use super::flags::Load;
use super::progress::Bar;
use super::tally::Tally;
use super::window::{Gauge, Window};
use super::wire::Wire;
use super::{closed, open};
use crate::failure::{Exit, Failure};

/// All threads are there when driving begins.
const HEAD_START: Duration = Duration::from_millis(10);
/// What is in flight when the user interrupts has this long.
const GRACE: Duration = Duration::from_secs(1);
/// How often the bar is drawn, and how often threads look for an interrupt.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is the same in every cell.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) wire: Wire,
    pub(super) requests: Arc<Requests>,
    pub(super) warm_up: Duration,
    /// None when a number of requests ends a cell.
    pub(super) duration: Option<Duration>,
    pub(super) requests_max: Option<u64>,
    pub(super) max_in_flight: u32,
    pub(super) threads: u32,
    pub(super) honour_retry_after: bool,
}

/// What clients of one thread are driven by.
pub(super) struct Drive {
    pub(super) wire: Wire,
    pub(super) requests: Arc<Requests>,
    pub(super) window: Window,
    pub(super) gauge: Arc<Gauge>,
    pub(super) requests_max: Option<u64>,
    pub(super) honour_retry_after: bool,
    /// Closed loop: clients of all threads together.
    pub(super) clients: u32,
    /// Open loop: requests in flight on this thread at most.
    pub(super) seats: u32,
}

/// A cell that was driven.
pub(super) struct Driven {
    pub(super) tally: Tally,
    /// How long it was measured.
    pub(super) time: Duration,
    /// The user ended it early.
    pub(super) interrupted: bool,
}

impl Plan {
    /// Drives one cell. `interrupts` yields at each Ctrl-C; none is given when the second one came.
    pub(super) async fn drive(
        &self,
        load: Load,
        bar: &Bar,
        interrupts: &mut mpsc::Receiver<()>,
    ) -> Result<Option<Driven>, Failure> {
        let window = Window::new(Instant::now() + HEAD_START, self.warm_up, self.duration);
        let gauge = Arc::new(Gauge::default());
        let (send, mut results) = mpsc::channel(self.threads as usize);
        for thread in 0..self.threads {
            let drive = self.share(load, thread, window, gauge.clone());
            let (share, send) = (Share { load, thread, threads: self.threads }, send.clone());
            let spawned = thread::Builder::new().name(format!("bench-{thread}")).spawn(move || {
                let counted = share.run(drive);
                let _ = send.try_send(counted);
            });
            spawned.map_err(|error| Failure::new(Exit::Environment, format!("no thread to drive with: {error}")))?;
        }
        drop(send);
        let mut tally = Tally::new()?;
        let mut left = self.threads;
        let mut interrupted = false;
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while left > 0 {
            tokio::select! {
                result = results.recv() => {
                    let result = result.ok_or_else(|| Failure::new(Exit::Tenon, "a thread of the bench ended early"))?;
                    tally.add(result?);
                    left -= 1;
                }
                Some(()) = interrupts.recv() => {
                    if interrupted {
                        return Ok(None);
                    }
                    interrupted = true;
                    gauge.stop();
                }
                _ = tick.tick() => bar.show(&window, gauge.done.load(Relaxed), gauge.errors.load(Relaxed)),
            }
        }
        let time = measured(&window, &tally, interrupted);
        Ok(Some(Driven { tally, time, interrupted }))
    }

    fn share(&self, load: Load, thread: u32, window: Window, gauge: Arc<Gauge>) -> Drive {
        let part = |all: u32| all / self.threads + u32::from(thread < all % self.threads);
        Drive {
            wire: self.wire.clone(),
            requests: self.requests.clone(),
            window,
            gauge,
            requests_max: self.requests_max,
            honour_retry_after: self.honour_retry_after,
            clients: if let Load::Closed(clients) = load { clients } else { 0 },
            seats: part(self.max_in_flight).max(1),
        }
    }
}

/// The time that the counts stand for.
fn measured(window: &Window, tally: &Tally, interrupted: bool) -> Duration {
    let since = |end: Instant| end.saturating_duration_since(window.start);
    match window.end {
        Some(end) if !interrupted => since(end),
        Some(end) => since(Instant::now().min(end)),
        None => tally.last.map_or(Duration::ZERO, since),
    }
}

/// A thread's part of a cell.
struct Share {
    load: Load,
    thread: u32,
    threads: u32,
}

impl Share {
    fn run(&self, drive: Drive) -> Result<Tally, Failure> {
        let reactor = |error: io::Error| Failure::new(Exit::Environment, format!("no reactor to drive with: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(reactor)?;
        let tally = Rc::new(RefCell::new(Tally::new()?));
        let gauge = drive.gauge.clone();
        let drive = Rc::new(drive);
        let done = LocalSet::new().block_on(&runtime, async {
            sleep(drive.window.origin.saturating_duration_since(Instant::now())).await;
            tokio::select! {
                done = self.clients(drive, tally.clone()) => done,
                () = grace(&gauge) => Ok(()),
            }
        });
        done.map_err(reactor)?;
        let counted = tally.borrow().clone();
        Ok(counted)
    }

    async fn clients(&self, drive: Rc<Drive>, tally: Rc<RefCell<Tally>>) -> io::Result<()> {
        let clients = match self.load {
            Load::Closed(clients) => clients,
            Load::Open(rate) => {
                let (first, of) = (u64::from(self.thread), u64::from(self.threads));
                let schedule = open::Schedule::new(drive.window.origin, rate, first, of);
                return open::run(drive, tally, schedule).await;
            }
        };
        let mut tasks = JoinSet::new();
        for number in (self.thread..clients).step_by(self.threads as usize) {
            let (drive, tally) = (drive.clone(), tally.clone());
            tasks.spawn_local(async move { closed::client(&drive, &tally, u64::from(number)).await });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

/// Returns a while after the user has interrupted: what has not ended by then is not waited for.
async fn grace(gauge: &Gauge) {
    while !gauge.stopped() {
        sleep(LOOK_EVERY).await;
    }
    sleep(GRACE).await;
}
