//! What sampled invocations and their batches note on their way, and which becomes spans once they have ended.
//!
//! Owns these notes as plain values with bounds. Refuses to know OTLP: `otlp` turns them into messages, away from whoever
//! waits for an answer. An invocation that is not sampled has no record, and pays a branch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    otlp::Exporter,
    trace::{SpanLink, TraceContext},
};

/// Stages that one invocation may note; a plugin with many rounds has more.
const MAX_LAPS: usize = 128;
/// Batches that one stage, and invocations that one batch may link to.
const MAX_LINKS: usize = 64;
/// Links of all stages of one invocation together: thousands of invocations may wait for a collector.
const MAX_RECORD_LINKS: usize = 256;

/// What a sampled invocation notes.
#[derive(Debug)]
pub struct Record {
    trace: TraceContext,
    exporter: Exporter,
    laps: Mutex<Laps>,
}

#[derive(Debug, Default)]
struct Laps {
    kept: Vec<Lap>,
    left_out: usize,
    links: usize,
}

impl Laps {
    fn note(&mut self, mut lap: Lap) {
        if self.kept.len() == MAX_LAPS {
            self.left_out += 1;
            return;
        }
        let room = MAX_RECORD_LINKS - self.links;
        if lap.batches.len() > room {
            lap.batches.truncate(room);
            lap.batches.shrink_to_fit();
        }
        self.links += lap.batches.len();
        self.kept.push(lap);
    }
}

/// One run of a stage.
#[derive(Debug)]
pub struct Lap {
    /// What ran.
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// The model, where one was asked.
    pub model: Option<Arc<str>>,
    /// The batches that it was part of.
    pub batches: Vec<SpanLink>,
}

impl Lap {
    /// A run that no model had to do with.
    pub fn new(name: &'static str, start: Instant, end: Instant) -> Self {
        Self { name, start, end, model: None, batches: Vec::new() }
    }
}

impl Record {
    pub(super) fn new(trace: TraceContext, exporter: Exporter) -> Arc<Self> {
        Arc::new(Self { trace, exporter, laps: Mutex::default() })
    }

    /// Notes a run of a stage.
    pub fn lap(&self, lap: Lap) {
        self.laps.lock().unwrap_or_else(PoisonError::into_inner).note(lap);
    }

    /// Hands everything over for export.
    pub(super) fn end(self: &Arc<Self>, answered: Answered) {
        let ended = Ended { record: self.clone(), trace: self.trace, end: Instant::now(), answered };
        self.exporter.push(Finished::Invocation(Box::new(ended)));
    }

    /// What was noted, and how much more there was.
    pub(super) fn taken(&self) -> (Vec<Lap>, usize) {
        let laps = std::mem::take(&mut *self.laps.lock().unwrap_or_else(PoisonError::into_inner));
        (laps.kept, laps.left_out)
    }
}

/// Who asked for what, and how it ended.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) function: Arc<str>,
    pub(super) revision: u64,
    pub(super) method: String,
    pub(super) arrived: Instant,
    pub(super) outcome: &'static str,
    /// 0 where the caller left before there was one.
    pub(super) status: u16,
    /// Empty where it went well.
    pub(super) code: String,
}

/// An invocation that has ended. Its notes are taken when spans are made of them: what was given up at a deadline ends its
/// stage on another thread, just after the answer.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) record: Arc<Record>,
    pub(super) trace: TraceContext,
    pub(super) end: Instant,
    pub(super) answered: Answered,
}

/// A batch in which somebody is sampled: a trace of its own, because it belongs to many.
#[derive(Debug)]
pub struct Batch {
    pub(super) own: SpanLink,
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) facts: BatchFacts,
    pub(super) invocations: Vec<SpanLink>,
    exporter: Exporter,
}

/// What there is to tell about a batch.
#[derive(Clone, Debug, Default)]
pub struct BatchFacts {
    /// The model's name.
    pub model: String,
    /// Which of its lanes.
    pub lane: usize,
    /// How many rows.
    pub rows: usize,
    /// Why no more.
    pub reason: &'static str,
    /// Share of its elements that is padding.
    pub padding_ratio: f64,
}

impl Batch {
    /// Begins a batch for those of its invocations that are sampled; `None` where none is.
    pub fn begin<'a>(records: impl Iterator<Item = &'a Arc<Record>>, start: Instant) -> Option<Self> {
        let mut records = records.peekable();
        let exporter = records.peek()?.exporter.clone();
        let own = TraceContext::begin().own;
        let invocations = records.map(|record| record.trace.own).take(MAX_LINKS).collect();
        Some(Self { own, start, end: start, facts: BatchFacts::default(), invocations, exporter })
    }

    /// By what invocations name it.
    pub fn link(&self) -> SpanLink {
        self.own
    }

    /// Hands it over for export.
    pub fn end(mut self, facts: BatchFacts) {
        (self.end, self.facts) = (Instant::now(), facts);
        let exporter = self.exporter.clone();
        exporter.push(Finished::Batch(Box::new(self)));
    }
}

/// Adds a batch to those that a stage links to, while there is room.
pub fn link(batches: &mut Vec<SpanLink>, batch: SpanLink) {
    if batches.len() < MAX_LINKS {
        batches.push(batch);
    }
}

/// What waits for export.
#[derive(Debug)]
pub(super) enum Finished {
    Invocation(Box<Ended>),
    Batch(Box<Batch>),
}

impl Finished {
    /// How many spans it makes.
    pub(super) fn spans(&self) -> usize {
        match self {
            Self::Invocation(ended) => 1 + ended.record.laps.lock().unwrap_or_else(PoisonError::into_inner).kept.len(),
            Self::Batch(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_links_are_bounded() {
        let (mut laps, now) = (Laps::default(), Instant::now());
        for _ in 0..2 * MAX_LAPS {
            let mut lap = Lap::new("infer", now, now);
            (0..2 * MAX_LINKS).for_each(|_| link(&mut lap.batches, TraceContext::begin().own));
            laps.note(lap);
        }
        assert_eq!((laps.kept.len(), laps.left_out), (MAX_LAPS, MAX_LAPS));
        let links = |room: fn(&Vec<SpanLink>) -> usize| laps.kept.iter().map(|lap| room(&lap.batches)).sum::<usize>();
        assert_eq!((links(Vec::len), links(Vec::capacity)), (MAX_RECORD_LINKS, MAX_RECORD_LINKS));
    }
}
