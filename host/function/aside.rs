//! One thread that stands back, for what takes seconds of a core beside traffic: compiling components.
//!
//! Owns the thread. Whatever wasmtime would do side by side is done by it alone, so a deployment never takes more than one
//! core, and yields that to who answers requests.

/// How far it stands back: as the guests' threads do unless somebody says otherwise.
const NICENESS: i32 = 10;

/// The thread.
#[derive(Debug)]
pub(super) struct Aside(Option<rayon::ThreadPool>);

impl Aside {
    /// Starts it; where no thread can be had, work is done where it is asked for.
    pub(super) fn new() -> Self {
        let stand_back = |_| {
            // Where it is not allowed, compiling only runs as others do.
            let _ = rustix::process::nice(NICENESS);
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "compiler".into());
        let pool = pool.start_handler(stand_back).build();
        Self(pool.inspect_err(|error| tracing::warn!(%error, "no thread for compiling alone")).ok())
    }

    /// Does work there, and blocks until it is done.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
