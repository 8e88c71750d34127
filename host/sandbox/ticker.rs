//! The clock that bounds guests: a thread that advances wasmtime's epoch every millisecond while any guest runs.
//!
//! A guest that meets a new epoch yields to its thread's other tasks, so a long guest never blocks anybody, and its
//! processor time is looked at. With no guest for a second the thread parks: an idle host makes no wake-ups.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a guest runs before it yields.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest after which the thread parks.
const IDLE_TICKS: u32 = 1000;

#[derive(Debug, Default)]
struct State {
    guests: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
}

/// The thread; dropping this ends it.
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// Keeps the clock going until dropped.
pub(super) struct Ticking(Arc<State>);

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> Self {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let run = move || tick(&engine, &shared);
        // Without the thread no guest could be stopped: better not to start at all.
        let thread =
            thread::Builder::new().name("epoch".into()).spawn(run).expect("a process can start its first threads");
        Self { state, thread: Some(thread) }
    }

    /// Counts one guest as running.
    pub(super) fn guest(&self) -> Ticking {
        self.state.guests.fetch_add(1, SeqCst);
        if self.state.parked.load(SeqCst) {
            self.wake();
        }
        Ticking(self.state.clone())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

fn tick(engine: &wasmtime::Engine, state: &State) {
    let mut idle = 0;
    while !state.stopped.load(SeqCst) {
        if idle < IDLE_TICKS {
            thread::park_timeout(TICK);
            engine.increment_epoch();
        } else {
            state.parked.store(true, SeqCst);
            // A guest counted before this look is seen here; one counted after it sees `parked` and wakes the thread.
            if state.guests.load(SeqCst) == 0 && !state.stopped.load(SeqCst) {
                thread::park();
            }
            state.parked.store(false, SeqCst);
        }
        idle = if state.guests.load(SeqCst) == 0 { idle + 1 } else { 0 };
    }
}

/// Lets others run, as a guest does that meets an epoch. Asks to go on before it pauses, where tokio's own would ask
/// afterwards: so whoever shares threads out sees that this is a turn's end, and no waiting for something else.
pub(crate) async fn pause() {
    let mut paused = false;
    let pause = poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    pause.await;
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
