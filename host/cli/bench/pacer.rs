//! Waiting for an instant more exactly than a reactor does, whose timers are a millisecond coarse: at a few hundred
//! requests per second that would be most of a quick answer's latency.
//!
//! On Linux a timer of the kernel that the reactor watches like a socket; elsewhere the reactor's own.

use std::time::Instant;

#[cfg(target_os = "linux")]
pub(super) use linux::Pacer;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Pacer;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    use super::Instant;

    /// A timer of the kernel.
    pub(in super::super) struct Pacer {
        timer: AsyncFd<OwnedFd>,
    }

    impl Pacer {
        /// Inside a reactor only.
        pub(in super::super) fn new() -> io::Result<Self> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            #[expect(
                unsafe_code,
                reason = "there is no safe way to watch a file of the kernel's that tokio has no type for"
            )]
            // SAFETY: an `OwnedFd` always gives the same open file, nobody else closes it, and it lives in the `AsyncFd`.
            let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
            Ok(Self { timer })
        }

        /// Returns at the instant, or a little after it.
        pub(in super::super) async fn until(&mut self, instant: Instant) -> io::Result<()> {
            let wait = instant.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            let it_interval = Timespec::try_from(Duration::ZERO).unwrap_or_default();
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
            loop {
                let mut ready = self.timer.readable().await?;
                let mut expirations = [0; 8];
                match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)) {
                    Ok(Ok(_)) => return Ok(()),
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;

    use super::Instant;

    /// The reactor's timer.
    pub(in super::super) struct Pacer;

    impl Pacer {
        /// Never fails.
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Returns at the instant, or up to a millisecond after it.
        pub(in super::super) async fn until(&mut self, instant: Instant) -> io::Result<()> {
            tokio::time::sleep_until(instant.into()).await;
            Ok(())
        }
    }
}
