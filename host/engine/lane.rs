//! A lane: one thread that owns one instance of a model, from its first row to its last.
//!
//! Owns the thread, and that the lane comes back whatever ended it. Refuses to know what is done with a batch
//! (`instance`). Why the thread outlives its instance: a thread that ends could only be replaced by somebody who watches
//! it, and there is nobody else who would have to.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    backend::{BackendError, Device, Instance, Loaded},
    batch::Plan,
    budget::Share,
    ceiling::Ceiling,
    error::LoadError,
    history::History,
    instance::Runner,
    waiting::Waiting,
    warm_up,
};
use crate::telemetry::ModelMetrics;

/// What all lanes of a model share.
pub(super) struct Ground {
    /// The model's name, for threads and messages.
    pub(super) model: String,
    /// Its signature, prepared.
    pub(super) plan: Arc<Plan>,
    /// Where it computes.
    pub(super) places: Vec<Place>,
    /// The extents of the row that each lane runs first.
    pub(super) first_row: Vec<u64>,
    /// How large batches may be.
    pub(super) ceiling: Arc<Ceiling>,
    /// Where the batches come from.
    pub(super) waiting: Arc<Waiting>,
    /// Where they are remembered.
    pub(super) history: Arc<History>,
    /// Where they are counted.
    pub(super) metrics: ModelMetrics,
}

/// A model on one device.
pub(super) struct Place {
    pub(super) device: Device,
    /// The model in that device's memory.
    pub(super) loaded: Arc<dyn Loaded>,
    /// What its lanes may hold there.
    pub(super) share: Arc<Share>,
}

/// Which lane it is: the number of its place, and its own among all lanes of the model.
pub(super) type LaneNumber = (usize, usize);

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("model", &self.model).finish_non_exhaustive()
    }
}

/// A running lane, as its owner holds it.
#[derive(Debug)]
pub(super) struct Lane {
    thread: JoinHandle<()>,
    /// Says nothing and is closed when the thread ends, so that waiting for it can be bounded.
    ended: Receiver<()>,
}

impl Lane {
    /// Starts a lane; returns when it has run its first row.
    pub(super) fn start(ground: &Arc<Ground>, (place, number): LaneNumber) -> Result<Self, LoadError> {
        let (running, ended) = sync_channel::<()>(0);
        let (report, ready) = sync_channel(1);
        let shared = ground.clone();
        let body = move || {
            let _running = running;
            let instance = begin(&shared, place);
            let instance = instance.map_err(|error| report.send(Err(error)).err());
            let Ok(instance) = instance else { return };
            // Nobody listening means that the start was given up; the closed queue then ends the loop.
            let _ = report.send(Ok(()));
            live(&shared, (place, number), instance);
        };
        let name = format!("lane-{}-{number}", ground.model);
        let thread = std::thread::Builder::new().name(name).spawn(body);
        let thread = thread.map_err(|error| LoadError::Thread(error.to_string()))?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { thread, ended }),
            Ok(Err(error)) => Err(LoadError::WarmUp(error.to_string())),
            Err(_) => Err(LoadError::WarmUp("the lane's thread ended".into())),
        }
    }

    /// Waits for the thread to end, at most until then. The queue was closed before.
    pub(super) fn join(self, until: Instant) {
        let name = self.thread.thread().name().unwrap_or("lane").to_owned();
        match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => tracing::warn!(lane = name, "still in a batch: left behind"),
            _ => {
                if self.thread.join().is_err() {
                    tracing::error!(lane = name, "the thread had panicked");
                }
            }
        }
    }
}

/// What a lane waits before it tries to come back: at first, and at most. The first is next to nothing, because most
/// causes are one batch; the last keeps a cause that stays from taking a core.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs batches until the model is stopped. Whatever ends that sooner costs the batch that was running; the lane comes
/// back with another instance.
fn live(ground: &Ground, (place, number): LaneNumber, instance: Box<dyn Instance>) {
    let mut next = Some(instance);
    while let Some(instance) = next {
        let mut runner = Runner::new(ground, (place, number), instance);
        let why = match catch_unwind(AssertUnwindSafe(|| runner.run())) {
            Ok(true) => return,
            Ok(false) => "its instance could not be replaced".to_owned(),
            Err(panic) => format!("it panicked: {}", text(&*panic)),
        };
        // What ended it may throw once more when it is freed.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runner)));
        ground.metrics.lane_restarts.inc();
        tracing::error!(model = ground.model, lane = number, why, "a lane ended and is started again");
        next = again(ground, (place, number));
    }
}

/// Another instance, as soon as there is one; `None` when the model is being stopped.
fn again(ground: &Ground, (place, number): LaneNumber) -> Option<Box<dyn Instance>> {
    let mut pause = FIRST_PAUSE;
    while !ground.waiting.closed_within(pause) {
        match begin(ground, place) {
            Ok(instance) => return Some(instance),
            Err(error) => {
                tracing::warn!(model = ground.model, lane = number, %error, "the lane could not be started yet");
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}

fn begin(ground: &Ground, place: usize) -> Result<Box<dyn Instance>, BackendError> {
    let begin = || {
        let place = &ground.places[place];
        let mut instance = place.loaded.instance()?;
        instance.limit_memory(place.share.lane_bytes());
        warm_up::begin(&mut *instance, &ground.plan, &ground.first_row)?;
        Ok(instance)
    };
    unwinding(begin)
}

/// Runs code of the backend; a panic becomes an error, because a lane must outlive its batches.
pub(super) fn unwinding<T>(run: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(BackendError::one_line(&format!("the backend panicked: {}", text(&*panic)))))
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|text| &text[..]));
    text.unwrap_or("without a message")
}
