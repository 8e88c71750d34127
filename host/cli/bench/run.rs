//! One cell of the matrix, driven: threads that share nothing but counters, a bar for people, and an end when the user
//! says so.
//!
//! It owns the threads and joins what they counted. Nothing here knows how clients behave (`closed`, `open`).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::bodies::Requests;
use super::flags::Load;
use super::progress::Bar;
use super::tally::Tally;
use super::window::{Gauge, Window};
use super::wire::{Answered, Client, Missed, Wire};
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
    patience: Patience,
}

/// Whether a thread's clients still wait for what is in flight.
#[derive(Default)]
struct Patience {
    over: Cell<bool>,
    ended: Notify,
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
        let time = measured(&window, &tally, gauge.stopped_at());
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
            patience: Patience::default(),
        }
    }
}

impl Drive {
    /// Sends one request, and waits for its answer as long as anybody does: what is given up is counted, too, or an
    /// interrupt would forget whoever a stalled server kept waiting.
    pub(super) async fn ask(&self, client: &mut Client<'_>, number: u64) -> (Result<Answered, Missed>, u64) {
        let (request, bytes_out) = self.requests.request(number);
        let result = tokio::select! {
            biased;
            result = client.ask(request) => result,
            () = self.patience.end() => Err(Missed::Unfinished),
        };
        (result, bytes_out)
    }

    /// Whether the measurement still ran at this instant.
    pub(super) fn in_time(&self, instant: Instant) -> bool {
        !self.window.is_over(instant) && self.gauge.stopped_at().is_none_or(|stopped| instant <= stopped)
    }
}

impl Patience {
    async fn end(&self) {
        // Made first: it is told of an end that comes between the look and the wait.
        let ended = self.ended.notified();
        if !self.over.get() {
            ended.await;
        }
    }

    fn lose(&self) {
        self.over.set(true);
        self.ended.notify_waiters();
    }
}

/// The time that the counts stand for.
fn measured(window: &Window, tally: &Tally, stopped: Option<Instant>) -> Duration {
    let ends = [window.end.or(tally.last), stopped];
    let end = ends.into_iter().flatten().min();
    end.map_or(Duration::ZERO, |end| end.saturating_duration_since(window.start))
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
        let drive = Rc::new(drive);
        let done = LocalSet::new().block_on(&runtime, async {
            sleep(drive.window.origin.saturating_duration_since(Instant::now())).await;
            spawn_local(grace(drive.clone()));
            self.clients(drive, tally.clone()).await
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

/// Ends the clients' patience a while after the user has interrupted.
async fn grace(drive: Rc<Drive>) {
    while !drive.gauge.stopped() {
        sleep(LOOK_EVERY).await;
    }
    sleep(GRACE).await;
    drive.patience.lose();
}
