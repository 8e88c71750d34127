//! A line to Redis: a connection that is kept, and left alone while it fails. Owns the connection, its breaker and the
//! task that makes it anew; refuses to know what those who use it ask.
//!
//! There are four, so that none waits behind another: lookups, which wait for milliseconds; writes, which are large;
//! the small questions about invalidations; and what other hosts say. Each fails and comes back alone.
//!
//! Whenever the breaker opens the connection goes, and the probe makes another one: what a stalled one still owes is
//! thrown away with it, and one that was cut without a word (no reset, no answer) is not held on to. The client's own
//! connection that reconnects is not used, as whoever asks it while it does so waits for it, and it takes a
//! connection that never answers for a good one.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::redis::{Cmd, PushInfo, PushKind, cmd};
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::{
    Names,
    breaker::{Breaker, Limits, Pass},
    figures::Counters,
    site::Site,
    wire::{Fault, Wire},
};

const LOST: &str = "connection lost";

/// Who hears what is pushed over a line. Called by the task that owns its socket: it must be quick.
pub(super) trait Ear: Send + Sync {
    fn heard(&self, push: PushInfo);
}

/// What a line is for.
#[derive(Clone)]
pub(super) enum Duty {
    Lookups,
    Writes,
    Control,
    Listening(Weak<dyn Ear>),
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookups => "lookups",
            Self::Writes => "writes",
            Self::Control => "control",
            Self::Listening(_) => "listening",
        })
    }
}

/// What a line is made of.
pub(super) struct Plan {
    pub(super) site: Arc<Site>,
    pub(super) names: Arc<Names>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    /// How long the probe's answer may take.
    pub(super) patience: Duration,
}

/// How a line has fared, for those who wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    /// Attempts to connect that came to an end.
    attempts: u64,
    /// How many of them were good.
    good: u64,
}

/// Since when there is no use of it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Down {
    pub(super) since_ms: u64,
    pub(super) reason: String,
}

struct Kept {
    breaker: Breaker,
    /// There while the breaker is closed.
    wire: Option<Wire>,
    /// Of the connection, or of the attempt to make one: a disconnection tells which it means.
    number: usize,
    /// The last one that has ended.
    ended: usize,
    down: Option<Down>,
}

pub(super) struct Line {
    duty: Duty,
    plan: Plan,
    kept: Mutex<Kept>,
    opened: Notify,
    fate: watch::Sender<Fate>,
}

impl Line {
    pub(super) fn new(duty: Duty, plan: Plan) -> Arc<Self> {
        let kept = Kept {
            breaker: Breaker::new(plan.limits, Instant::now()),
            wire: None,
            number: 0,
            ended: 0,
            down: Some(Down { since_ms: unix_ms(), reason: "not connected yet".into() }),
        };
        Arc::new(Self {
            duty,
            plan,
            kept: Mutex::new(kept),
            opened: Notify::new(),
            fate: watch::Sender::new(Fate::default()),
        })
    }

    /// The connection, if it may be used; how that went is to be told to `leave`.
    pub(super) fn enter(&self) -> Option<(Pass, Wire)> {
        let kept = self.kept();
        Some((kept.breaker.pass()?, kept.wire.clone()?))
    }

    /// Tells how the use of the connection went.
    pub(super) fn leave(&self, pass: Pass, fault: Option<&Fault>) {
        let mut kept = self.kept();
        let now = Instant::now();
        let heals = kept.wire.as_ref().is_some_and(Wire::heals_itself);
        let opened = match fault {
            None => {
                kept.breaker.succeeded(pass);
                false
            }
            Some(fault) if fault.rests_writes() => kept.breaker.refused(pass, now),
            Some(Fault::Gone(_)) if !heals => kept.breaker.broke(pass, now),
            Some(_) => kept.breaker.failed(pass, now),
        };
        if let (true, Some(fault)) = (opened, fault) {
            self.close(&mut kept, fault);
        }
    }

    /// Since when it is of no use; none while it is.
    pub(super) fn down(&self) -> Option<Down> {
        self.kept().down.clone()
    }

    pub(super) fn is_up(&self) -> bool {
        self.kept().breaker.pass().is_some()
    }

    /// Returns once a first attempt to connect has come to an end, whatever end.
    pub(super) async fn decided(&self) {
        let _ = self.fate.subscribe().wait_for(|fate| fate.attempts > 0).await;
    }

    /// Tells each time that it comes up.
    pub(super) fn ups(&self) -> Ups {
        Ups { fate: self.fate.subscribe(), seen: 0 }
    }

    /// Keeps the connection up, for as long as it is polled.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let due = self.kept().breaker.probe_at();
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => self.opened.notified().await,
            }
            let number = {
                let mut kept = self.kept();
                if !kept.breaker.begin_probe(Instant::now()) {
                    continue;
                }
                kept.number += 1;
                kept.number
            };
            let tried = self.connect(number).await;
            self.tried(tried);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner) // nothing within can panic halfway
    }

    async fn connect(self: &Arc<Self>, number: usize) -> Result<Wire, Fault> {
        let line = Arc::downgrade(self);
        let lost = move |push: &PushInfo| {
            if let (PushKind::Disconnection, Some(line)) = (&push.kind, line.upgrade()) {
                line.lost(number);
            }
        };
        let wire = match &self.duty {
            Duty::Listening(ear) => {
                let ear = ear.clone();
                let push = move |push: PushInfo| {
                    lost(&push);
                    if let Some(ear) = ear.upgrade() {
                        ear.heard(push);
                    }
                    Ok::<_, ()>(())
                };
                self.plan.site.connect_one(number, push).await?
            }
            _ => {
                let push = move |push: PushInfo| {
                    lost(&push);
                    Ok::<_, ()>(())
                };
                self.plan.site.connect(push).await?
            }
        };
        wire.ask(&self.probe(number), self.plan.patience).await?;
        Ok(wire)
    }

    /// The least that shows that it does its duty. A ping would not: a server that loads its data answers it.
    fn probe(&self, turn: usize) -> Cmd {
        let names = &self.plan.names;
        match self.duty {
            // Whatever lies there is no error, as it is none in a lookup.
            Duty::Lookups => cmd("MGET").arg(names.probe(turn)).take(),
            Duty::Writes => cmd("SET").arg(names.probe(turn)).arg(1).arg("PX").arg(1000).take(),
            Duty::Control => cmd("EXISTS").arg(names.list()).take(),
            Duty::Listening(_) => cmd("SUBSCRIBE").arg(names.events()).take(),
        }
    }

    fn tried(&self, tried: Result<Wire, Fault>) {
        let mut kept = self.kept();
        let gone = kept.ended == kept.number;
        let tried = tried.and_then(|wire| if gone { Err(Fault::Gone(LOST.into())) } else { Ok(wire) });
        let good = tried.is_ok();
        kept.breaker.probed(good, Instant::now());
        match tried {
            Ok(wire) => {
                kept.wire = Some(wire);
                kept.down = None;
                self.plan.counters.connections.add(1);
                info!(line = %self.duty, "Redis answers");
            }
            Err(fault) => self.close(&mut kept, &fault),
        }
        drop(kept);
        self.fate.send_modify(|fate| {
            fate.attempts += 1;
            fate.good += u64::from(good);
        });
    }

    /// The connection with this number has ended, as its own task says.
    fn lost(&self, number: usize) {
        let mut kept = self.kept();
        if kept.number != number {
            return;
        }
        kept.ended = number;
        if kept.breaker.pass().is_some_and(|pass| kept.breaker.broke(pass, Instant::now())) {
            self.close(&mut kept, &Fault::Gone(LOST.into()));
        }
    }

    fn close(&self, kept: &mut Kept, fault: &Fault) {
        kept.wire = None;
        let reason = fault.to_string();
        match &mut kept.down {
            Some(down) => {
                // Told once and not at each attempt, unless it has become another trouble.
                if down.reason == reason {
                    debug!(line = %self.duty, reason, "Redis still is away");
                } else {
                    warn!(line = %self.duty, reason, "Redis still is away");
                }
                down.reason = reason;
            }
            None => {
                warn!(line = %self.duty, reason, "Redis is away: it is left alone and tried again");
                kept.down = Some(Down { since_ms: unix_ms(), reason });
            }
        }
        self.opened.notify_one();
    }
}

/// Tells each time that a line comes up.
pub(super) struct Ups {
    fate: watch::Receiver<Fate>,
    seen: u64,
}

impl Ups {
    /// Returns when it has come up since the last time; never once the line is gone.
    pub(super) async fn next(&mut self) {
        let seen = self.seen;
        let good = self.fate.wait_for(|fate| fate.good > seen).await.map(|fate| fate.good);
        match good {
            Ok(good) => self.seen = good,
            Err(_) => std::future::pending().await,
        }
    }
}

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
