//! The host beside `tenon dev`, and the signals that end both.
//!
//! The host is in a process group of its own, so that Ctrl-C reaches it once, from here: a second signal would tell it
//! not to finish what it has begun. It never outlives this program's normal ways out.

use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::failure::{Exit, Failure};
use crate::serve::{self, ServeFlags};

/// Between two looks whether the host has ended.
const LOOK: Duration = Duration::from_millis(50);
/// A host that drains takes up to 30 s; one that takes longer hangs.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// A host that runs.
pub(super) struct Served(Child);

impl Served {
    /// Starts the host as `tenon serve` would.
    pub(super) fn start(flags: &ServeFlags) -> Result<Self, Failure> {
        let mut command = serve::command(flags)?;
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).map_err(|error| Failure::new(Exit::Environment, format!("cannot start the host: {error}")))
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Asks it to end, and waits until it has; another signal meanwhile ends it at once.
    pub(super) async fn stop(mut self, signals: &mut Signals) -> Result<(), Failure> {
        self.terminate();
        let end = Instant::now() + STOP_PATIENCE;
        while self.ended().is_none() {
            if Instant::now() > end {
                return Err(Failure::new(Exit::Environment, "the host did not end in time, and was killed"));
            }
            tokio::select! {
                () = signals.asked() => return Ok(()),
                () = sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn terminate(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // It is our child and not waited for yet, so its number is nobody else's.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
    }

    #[cfg(not(unix))]
    fn terminate(&mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C, and what process supervisors send.
pub(super) struct Signals {
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// From now on signals are told instead of ending this program.
    pub(super) fn new() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = || {
                Ok::<_, std::io::Error>([
                    signal(SignalKind::interrupt())?,
                    signal(SignalKind::terminate())?,
                    signal(SignalKind::hangup())?,
                ])
            };
            let kinds = kinds();
            kinds
                .map(|kinds| Self { kinds })
                .map_err(|error| Failure::new(Exit::Environment, format!("signals cannot be received: {error}")))
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for one.
    pub(super) async fn asked(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate, hangup] = &mut self.kinds;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
