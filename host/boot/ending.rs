//! How a host ends: what was accepted is answered, and every wait has a bound. Owns the order, and what each part of it may
//! take; where another host has taken over, its callers go there first, one by one.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{Host, LAST_BYTES};
use crate::{function::LOOK_EVERY, http::Phase};

/// What the host's own tasks may take to end beyond that, all of them together.
const LAST_TASKS: Duration = Duration::from_secs(2);
/// What lanes may take to end beyond the time that the engine gives them.
const LAST_LANES: Duration = Duration::from_secs(15);
/// What callers are waited for at most once a device is lost: whoever waits for it waits in vain, and batches on others
/// end sooner.
const LAST_OF_LOST: Duration = Duration::from_secs(5);

impl Host {
    /// Refuses new invocations and waits, within bounds, for those in flight and for their answers to be written. Where
    /// another host has taken over, nobody is refused before that: callers leave as they get their answers.
    pub async fn drain(mut self) {
        let is_lost = self.rooms.engine.lost().is_some();
        let bound = if is_lost { self.drain_timeout.min(LAST_OF_LOST) } else { self.drain_timeout };
        let until = Instant::now() + bound;
        if *self.phase.borrow() == Phase::Leaving {
            self.leave(until).await;
        }
        self.rooms.admission.drain();
        if timeout_at(until, self.rooms.admission.idle()).await.is_err() {
            let (left, bound) = (self.telemetry.in_flight().get(), bound.as_millis());
            tracing::warn!(left, "invocations were still running after {bound} ms and are ended");
            self.rooms.admission.cut();
            // Rows on a device may hold their places longer; their callers have been answered.
            let _ = tokio::time::timeout(LAST_BYTES, self.rooms.admission.idle()).await;
        }
        self.phase.send_replace(Phase::Ending);
        // Nobody listens any more only where the tasks have ended already.
        let _ = self.stop.send(true);
        let until = Instant::now() + LAST_BYTES + LAST_TASKS;
        if timeout_at(until, ended(&mut self.planes)).await.is_err() {
            self.planes.abort_all();
        }
        for mut task in self.rooms.tasks.drain(..) {
            // A panic in a task was printed when it happened. One that waits for something that blocks (a component that is
            // being compiled) is left to itself.
            if timeout_at(until, &mut task).await.is_err() {
                task.abort();
            }
        }
        // Within a second: what was computed last is written, as far as it goes.
        self.rooms.cache.stop().await;
        let engine = self.rooms.engine.clone();
        let stopping = tokio::task::spawn_blocking(move || engine.stop());
        if tokio::time::timeout(LAST_LANES, stopping).await.is_err() {
            tracing::warn!("lanes were still running after {} ms and are left to themselves", LAST_LANES.as_millis());
        }
        if let Some(exporting) = self.exporting {
            // Last, because the last batches have only now ended.
            exporting.end().await;
        }
        drop(self.rooms.guests);
    }

    /// Waits for callers to go to the host that accepts now, and for deployments that this one has begun.
    async fn leave(&mut self, until: Instant) {
        let left = async {
            ended(&mut self.planes).await;
            while self.rooms.deployments.in_progress() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match timeout_at(until, left).await {
            Ok(()) => tracing::info!("handover: all callers of this host have gone to the next one"),
            Err(_) => tracing::warn!("handover: some callers or deployments are still here, and are ended"),
        }
    }
}

async fn ended(planes: &mut JoinSet<()>) {
    while planes.join_next().await.is_some() {}
}
