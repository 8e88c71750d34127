//! What hosts tell each other: invalidations, which must be heard, and announcements, which may be. Owns the order in
//! which they are heard and when the list is read; refuses to know what becomes void.
//!
//! The channel is quick and forgets; the list is slow and does not. So the list is read whenever messages may have been
//! missed and every few seconds besides, and bounds how long an invalidation can stay unheard.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{PushInfo, PushKind, Value, cmd};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    Heard, ScopeId,
    figures::Counters,
    line::{Ear, Line, unix_ms},
    list::{KEPT, List, PAGE},
    message::{Id, Invalidation, MOST, Message, SCOPES, TEXT_BYTES, announcement},
    pending::Pending,
    sequence::{Hearing, Numbers, Step},
    wire::Fault,
};

/// How often the list is read, and the listening line asked whether it still is one.
const EVERY: Duration = Duration::from_secs(5);
/// How soon again, after it could not be read, or while something waits to be told.
const AGAIN: Duration = Duration::from_millis(500);
/// Messages that wait to be heard; beyond them the list is read.
const INBOX: usize = 256;
/// Announcements that wait to be sent.
const OUTBOX: usize = 256;
/// Readings in a row while others change the list; after them the next turn has to do.
const READINGS: usize = KEPT / PAGE + 8;

pub(super) type Hears = Arc<dyn Fn(Heard) + Send + Sync>;

/// Hears what is pushed over the listening line, and puts it down for the bus.
pub(super) struct Inbox {
    sender: mpsc::Sender<Vec<u8>>,
    numbers: Mutex<Numbers>,
    /// The list is to be read, and what is pending to be sent.
    wanted: Notify,
    counters: Arc<Counters>,
}

/// What was put down.
pub(super) struct Mail(mpsc::Receiver<Vec<u8>>);

impl Inbox {
    pub(super) fn new(counters: Arc<Counters>) -> (Arc<Self>, Mail) {
        let (sender, receiver) = mpsc::channel(INBOX);
        let inbox = Self { sender, numbers: Mutex::default(), wanted: Notify::new(), counters };
        (Arc::new(inbox), Mail(receiver))
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner) // nothing within can panic halfway
    }

    fn interrupted(&self) {
        self.numbers().interrupted();
        self.wanted.notify_one();
    }
}

impl Ear for Inbox {
    fn heard(&self, push: PushInfo) {
        match push.kind {
            // Comes before the first message: from here on none is missed, up to here some may have been.
            PushKind::Subscribe => self.interrupted(),
            PushKind::Message => match push.data.into_iter().nth(1) {
                Some(Value::BulkString(text)) if text.len() <= TEXT_BYTES => {
                    if self.sender.try_send(text).is_err() {
                        self.interrupted();
                    }
                }
                _ => self.counters.unreadable.add(1),
            },
            _ => {}
        }
    }
}

/// What a bus is made of.
pub(super) struct Parts {
    pub(super) inbox: Arc<Inbox>,
    pub(super) list: List,
    pub(super) listening: Arc<Line>,
    pub(super) control: Arc<Line>,
    pub(super) hears: Hears,
    pub(super) timeout: Duration,
    pub(super) counters: Arc<Counters>,
}

/// What other hosts hear of, and this one of them.
pub(super) struct Bus {
    parts: Parts,
    id: Id,
    /// One reads the list at a time.
    reading: tokio::sync::Mutex<()>,
    /// One is heard at a time, so that all are in their order.
    turns: Mutex<()>,
    pending: Pending,
    outbox: mpsc::Sender<String>,
    /// Whether the list was read once.
    read: watch::Sender<bool>,
}

impl Bus {
    /// With what it is handed to announce.
    pub(super) fn new(parts: Parts) -> (Arc<Self>, mpsc::Receiver<String>) {
        let (outbox, announcements) = mpsc::channel(OUTBOX);
        let bus = Self {
            parts,
            id: Id::random(),
            reading: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            pending: Pending::default(),
            outbox,
            read: watch::Sender::new(false),
        };
        (Arc::new(bus), announcements)
    }

    /// The number that Redis gave; none if it has none yet. Then it is sent when Redis is back.
    pub(super) async fn invalidate(&self, known: u64, scopes: &[ScopeId]) -> Option<u64> {
        self.numbers().saw(known.min(MOST));
        let sending = self.pending.add(scopes);
        match timeout(self.parts.timeout, self.send(&sending.scopes)).await {
            Ok(Ok(seq)) => {
                sending.done();
                Some(seq)
            }
            failed => {
                let reason = failed.map_or(Fault::Slow, |failed| failed.err().unwrap_or(Fault::Slow));
                warn!(%reason, "other hosts do not know of an invalidation yet");
                drop(sending);
                self.parts.inbox.wanted.notify_one();
                None
            }
        }
    }

    /// Tells other hosts, if it can be told now.
    pub(super) fn announce(&self, topic: &str, text: &str) {
        let queued = announcement(self.id, topic, text).is_some_and(|text| self.outbox.try_send(text).is_ok());
        if !queued {
            self.parts.counters.announcements_dropped.add(1);
        }
    }

    /// Scopes that Redis does not know of yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns once the list was read for the first time.
    pub(super) async fn first_read(&self) {
        let _ = self.read.subscribe().wait_for(|read| *read).await;
    }

    /// Hears what other hosts say, for as long as it is polled.
    pub(super) async fn listen(self: Arc<Self>, mut mail: Mail) {
        while let Some(text) = mail.0.recv().await {
            match Message::parse(&text) {
                Some(Message::Invalidation(told)) => self.hear(told),
                Some(Message::List(list)) if self.numbers().list() == Some(list) => {}
                Some(Message::List(_)) => self.parts.inbox.interrupted(),
                Some(Message::Announcement { sender, .. }) if sender == self.id => {}
                Some(Message::Announcement { topic, text, .. }) => (self.parts.hears)(Heard::Announced { topic, text }),
                None => self.parts.counters.unreadable.add(1),
            }
        }
    }

    /// Reads the list when that is due, and sends what waits to be sent, for as long as it is polled.
    pub(super) async fn tend(self: Arc<Self>, mut announcements: mpsc::Receiver<String>) {
        let (mut ups, mut tick) = (self.parts.control.ups(), interval(EVERY));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unfinished = false;
        loop {
            tokio::select! {
                () = ups.next() => {}
                () = sleep(AGAIN), if unfinished => {}
                () = self.parts.inbox.wanted.notified() => {}
                _ = tick.tick() => self.check_listening().await,
                Some(text) = announcements.recv() => {
                    let counters = &self.parts.counters;
                    let told = self.parts.list.publish(&text).await.is_ok();
                    if told { &counters.announced } else { &counters.announcements_dropped }.add(1);
                    continue;
                }
            }
            let done = async {
                self.catch_up().await?;
                self.flush().await
            };
            let done = done.await;
            if let Err(reason) = &done {
                debug!(%reason, "other hosts are not heard, or do not hear, everything");
            }
            unfinished = done.is_err();
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.parts.inbox.numbers()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner) // guards nothing but an order
    }

    /// An invalidation came by the channel.
    fn hear(&self, told: Invalidation) {
        let _turn = self.turn();
        let hearing = self.numbers().by_channel(told.list, told.seq);
        match hearing {
            Hearing::New => self.pass_on(told),
            Hearing::Old => {}
            Hearing::Early => self.parts.inbox.wanted.notify_one(),
        }
    }

    fn pass_on(&self, told: Invalidation) {
        if told.sender != self.id {
            self.parts.counters.invalidations_heard.add(1);
        }
        (self.parts.hears)(Heard::Invalidated { seq: told.seq, scopes: told.scopes });
    }

    /// A connection that was cut without a word hears nothing for good.
    async fn check_listening(&self) {
        if let Some((pass, wire)) = self.parts.listening.enter() {
            let answer = wire.ask(&cmd("PING"), self.parts.timeout).await;
            self.parts.listening.leave(pass, answer.err().as_ref());
        }
    }

    /// Hears all that is in the list and was not heard yet.
    pub(super) async fn catch_up(&self) -> Result<(), Fault> {
        let _reading = self.reading.lock().await;
        for _ in 0..READINGS {
            let (last, interruptions) = {
                let numbers = self.numbers();
                (numbers.last(), numbers.interruptions())
            };
            let page = self.parts.list.read(last).await?;
            let step = self.numbers().step(page.found, Id::random(), unix_ms());
            match step {
                Step::Begin { marker, base } => self.parts.list.begin(&page.marker, &marker, base).await?,
                Step::Follow { list, base, floor } => {
                    self.follow(list, base, floor, page.missed);
                    let done = page.count < PAGE && self.numbers().read_to_end(interruptions);
                    if done {
                        self.read.send_replace(true);
                        return Ok(());
                    }
                }
            }
        }
        Ok(()) // others change it all the while; the next turn goes on from here
    }

    fn follow(&self, list: Id, base: u64, floor: bool, missed: Vec<Invalidation>) {
        let _turn = self.turn();
        if floor {
            warn!(base, "invalidations may have been missed: what was remembered before is void");
            self.parts.counters.floors_heard.add(1);
            (self.parts.hears)(Heard::Floor(base));
        }
        self.numbers().follow(list, base);
        for told in missed {
            let new = self.numbers().by_list(told.seq);
            if new {
                self.pass_on(told);
            }
        }
    }

    /// Sends what waits, the oldest first, until one fails.
    async fn flush(&self) -> Result<(), Fault> {
        while let Some(sending) = self.pending.next() {
            self.send(&sending.scopes).await?;
            sending.done();
        }
        Ok(())
    }

    /// The number that Redis gave, the last one where several were needed.
    async fn send(&self, scopes: &[ScopeId]) -> Result<u64, Fault> {
        let mut given = self.numbers().last();
        for scopes in scopes.chunks(SCOPES) {
            given = self.send_some(scopes).await?;
            self.parts.counters.invalidations_sent.add(1);
            self.numbers().saw(given);
        }
        Ok(given)
    }

    async fn send_some(&self, scopes: &[ScopeId]) -> Result<u64, Fault> {
        for _ in 0..2 {
            let (list, above) = {
                let numbers = self.numbers();
                (numbers.list(), numbers.seen())
            };
            if let Some(list) = list
                && let Some(seq) = self.parts.list.add(list, self.id, above, scopes).await?
            {
                return Ok(seq);
            }
            self.catch_up().await?; // there is another list, or none is known yet
        }
        Err(Fault::Gone("the list of invalidations changes all the time".into()))
    }
}
