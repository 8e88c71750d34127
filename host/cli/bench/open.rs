//! Open loop: requests start on schedule, whatever became of earlier ones, and latency counts from the schedule. A
//! server that stalls for a second is charged for everybody who would have come in that second (a closed loop would
//! send nothing meanwhile and see one slow answer: coordinated omission).
//!
//! It owns the schedule and the clients in flight. What is due and finds no client free waits, and its wait counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::pacer::Pacer;
use super::run::Drive;
use super::tally::{Ended, Tally, nanoseconds};

/// The longest sleep before the schedule looks whether it should stop.
const NAP: Duration = Duration::from_millis(200);
/// What never began is counted in at most so many steps, each with its own wait.
const NOT_STARTED_STEPS: u64 = 10_000;

/// The instants of one thread: every `of`-th of all, from the `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    origin: Instant,
    rate: f64,
    first: u64,
    of: u64,
}

/// A request that is due: its instant and its number among all.
#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    number: u64,
}

/// A client, between requests.
struct Seat {
    due: Cell<Option<Due>>,
    wake: Notify,
}

/// What the schedule and its clients share.
struct Room {
    drive: Rc<Drive>,
    tally: Rc<RefCell<Tally>>,
    free: RefCell<Vec<Rc<Seat>>>,
    freed: Notify,
    closing: Cell<bool>,
}

impl Schedule {
    pub(super) fn new(origin: Instant, rate: f64, first: u64, of: u64) -> Self {
        Self { origin, rate, first, of }
    }

    fn due(&self, index: u64) -> Due {
        let number = self.first + index * self.of;
        // Computed anew for each, so that no error adds up.
        Due { at: self.origin + Duration::from_secs_f64(number as f64 / self.rate), number }
    }

    /// How many of this thread's instants lie before `end`.
    fn indices_before(&self, end: Instant) -> u64 {
        let numbers = (end.saturating_duration_since(self.origin).as_secs_f64() * self.rate).ceil() as u64;
        numbers.saturating_sub(self.first).div_ceil(self.of)
    }
}

/// Starts what is due until the measurement ends, then waits for what is in flight.
pub(super) async fn run(drive: Rc<Drive>, tally: Rc<RefCell<Tally>>, schedule: Schedule) -> io::Result<()> {
    let mut pacer = Pacer::new()?;
    let room = Room { drive, tally, free: RefCell::default(), freed: Notify::new(), closing: Cell::new(false) };
    let room = Rc::new(room);
    let mut clients = JoinSet::new();
    // What was due before this instant had to wait for a client; its delay is not the schedule's own.
    let mut free_since = schedule.origin;
    let mut index = 0;
    loop {
        let due = schedule.due(index);
        let (window, gauge) = (room.drive.window, &room.drive.gauge);
        if gauge.stopped() || window.is_over(due.at) {
            break;
        }
        let now = Instant::now();
        if due.at > now {
            pacer.until(due.at.min(now + NAP)).await?;
            continue;
        }
        let Some(seat) = room.seat(&mut clients).await else { break };
        let now = Instant::now();
        if seat.waited {
            free_since = now;
        }
        let counts = window.counts(due.at);
        if counts && !gauge.begin(room.drive.requests_max) {
            room.free.borrow_mut().push(seat.seat);
            break;
        }
        if counts && due.at >= free_since {
            room.tally.borrow_mut().lag.saturating_record(nanoseconds(now - due.at));
        } else if counts {
            room.tally.borrow_mut().held_back += 1;
        }
        seat.seat.due.set(Some(due));
        seat.seat.wake.notify_one();
        index += 1;
    }
    room.count_not_started(schedule, index);
    room.closing.set(true);
    room.free.borrow_mut().drain(..).for_each(|seat| seat.wake.notify_one());
    while clients.join_next().await.is_some() {}
    Ok(())
}

struct Taken {
    seat: Rc<Seat>,
    waited: bool,
}

impl Room {
    /// A free client, a new one, or the next that becomes free; none when the measurement ends before.
    async fn seat(self: &Rc<Self>, clients: &mut JoinSet<()>) -> Option<Taken> {
        let mut waited = false;
        loop {
            if let Some(seat) = self.free.borrow_mut().pop() {
                return Some(Taken { seat, waited });
            }
            if clients.len() < self.drive.seats as usize {
                let seat = Rc::new(Seat { due: Cell::new(None), wake: Notify::new() });
                clients.spawn_local(client(self.clone(), seat.clone()));
                return Some(Taken { seat, waited });
            }
            waited = true;
            let now = Instant::now();
            if self.drive.gauge.stopped() || self.drive.window.is_over(now) {
                return None;
            }
            // Whether it was freed or the nap is over: the loop looks again.
            let until = self.drive.window.end.map_or(now + NAP, |end| end.min(now + NAP));
            let _ = timeout_at(until.into(), self.freed.notified()).await;
        }
    }

    /// Counts what was due in the window and never began: it waited from its instant to the end, or to the user's
    /// interrupt.
    fn count_not_started(&self, schedule: Schedule, mut index: u64) {
        let (window, gauge) = (self.drive.window, &self.drive.gauge);
        let Some(end) = [window.end, gauge.stopped_at()].into_iter().flatten().min() else { return };
        let indices = schedule.indices_before(end);
        let step = (indices.saturating_sub(index) / NOT_STARTED_STEPS).max(1);
        let mut tally = self.tally.borrow_mut();
        while index < indices {
            let (due, step) = (schedule.due(index), step.min(indices - index));
            if window.counts(due.at) {
                let requests = gauge.begin_up_to(self.drive.requests_max, step);
                if requests > 0 {
                    tally.count_not_started(end.saturating_duration_since(due.at), requests);
                }
            }
            index += step;
        }
    }
}

/// A client: asks what it is given, and says when it is free again.
async fn client(room: Rc<Room>, seat: Rc<Seat>) {
    let drive = &*room.drive;
    let mut client = drive.wire.client();
    loop {
        seat.wake.notified().await;
        let Some(due) = seat.due.take() else {
            if room.closing.get() {
                break;
            }
            continue;
        };
        let (result, bytes_out) = drive.ask(&mut client, due.number).await;
        let ended = Instant::now();
        if drive.window.counts(due.at) {
            let in_time = drive.in_time(ended);
            let good = room.tally.borrow_mut().count(Ended { result, from: due.at, to: ended, bytes_out, in_time });
            drive.gauge.ended(good);
        }
        if room.closing.get() {
            break;
        }
        room.free.borrow_mut().push(seat.clone());
        room.freed.notify_one();
    }
    room.tally.borrow_mut().connections += client.connections;
}
