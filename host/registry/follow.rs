//! Following: what others change is read, what this host has to say is written, and what nothing names is deleted, each
//! at its own pace. Owns the paces and what is said about a store that is away; refuses to stop for it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{Registry, error::RegistryError, hosts};

/// Between two looks that others asked for: anybody who may write to Redis can ask.
const LOOKS_APART: Duration = Duration::from_millis(50);

impl Registry {
    /// Follows until `stop` is true or nobody holds its sender. While the store is away the last state stays.
    pub async fn follow(self: Arc<Self>, stop: watch::Receiver<bool>) {
        tokio::join!(self.poll(stop.clone()), self.tell(stop.clone()), self.clean(stop));
    }

    async fn poll(&self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(self.config.poll());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut news, mut next) = (self.news.subscribe(), Instant::now());
        let mut asked = async || {
            // Fails only without a sender, which this registry is.
            let _ = news.changed().await;
            sleep_until(next).await;
            next = Instant::now() + LOOKS_APART;
        };
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
                () = asked() => {}
            }
            tokio::select! {
                // What is read halfway is read again by whoever comes next.
                _ = stop.wait_for(|stop| *stop) => return,
                read = self.catch_up() => self.note_trouble(read.err()),
            }
        }
    }

    /// Warned of once, however long it lasts.
    fn note_trouble(&self, error: Option<RegistryError>) {
        match (error, self.trouble.load().as_deref()) {
            (None, None) => {}
            (None, Some(_)) => {
                tracing::info!("the registry is followed again");
                self.trouble.store(None);
            }
            (Some(error), known) => {
                let trouble = error.to_string();
                if known != Some(&trouble) {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(trouble, source, "the registry cannot be followed; the last state stays in force");
                    self.trouble.store(Some(Arc::new(trouble)));
                }
            }
        }
    }

    async fn tell(&self, mut stop: watch::Receiver<bool>) {
        let mut notes = self.note.subscribe();
        loop {
            // Trouble with the store is told by whoever reads it.
            if let Err(error) = self.speak().await {
                tracing::debug!(%error, "this host's note was not written");
            }
            let stopped = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                _ = notes.changed() => false,
                () = sleep(hosts::SPEAK_EVERY) => false,
            };
            if stopped {
                break;
            }
        }
        if let Err(error) = self.fall_silent().await {
            tracing::debug!(%error, "this host's note was not taken back");
        }
    }

    async fn clean(&self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep(self.next_sweep()) => {}
            }
            let swept = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                swept = self.sweep(self.config.sweep_grace()) => swept,
            };
            match swept {
                Ok(swept) => tracing::debug!(?swept, "the registry was swept"),
                Err(error) => tracing::debug!(%error, "the registry was not swept"),
            }
        }
    }

    /// Hosts that start together do not sweep together for ever.
    fn next_sweep(&self) -> Duration {
        let drawn = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        self.config.sweep_interval().mul_f64(0.75 + drawn / 2.0)
    }
}
