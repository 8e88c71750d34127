//! How good a head is: spans that are exactly right, counted over whole texts. Owns the counting and nothing else.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    examples::{Example, pack},
    head::Head,
    sentences::Mark,
    tokens::spans,
};

/// Rows that the head sees at once.
const AT_ONCE: usize = 64;

/// Spans that are right (`hits`), made up (`extra`) and overlooked (`missed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) hits: usize,
    pub(super) extra: usize,
    pub(super) missed: usize,
}

/// Precision, recall and their harmonic mean, of all spans together (micro).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) precision: f64,
    pub(super) recall: f64,
    pub(super) f1: f64,
    /// Spans that there are to find.
    pub(super) spans: usize,
}

impl Counts {
    /// A span is right if start, end and kind are.
    pub(super) fn add(&mut self, found: &[Mark], wanted: &[Mark]) {
        let (found, wanted): (HashSet<_>, HashSet<_>) = (found.iter().collect(), wanted.iter().collect());
        let hits = found.intersection(&wanted).count();
        self.hits += hits;
        self.extra += found.len() - hits;
        self.missed += wanted.len() - hits;
    }

    pub(super) fn score(self) -> Score {
        let part = |of: usize| if of == 0 { 0.0 } else { self.hits as f64 / of as f64 };
        let f1 = part(self.hits + self.extra) + part(self.hits + self.missed);
        let (precision, recall) = (part(self.hits + self.extra), part(self.hits + self.missed));
        let f1 = if f1 == 0.0 { 0.0 } else { 2.0 * precision * recall / f1 };
        Score { precision, recall, f1, spans: self.hits + self.missed }
    }
}

/// The head's spans against the marks.
pub(super) fn measure(head: &Head, examples: &[Example]) -> anyhow::Result<Score> {
    let mut counts = Counts::default();
    let all: Vec<_> = (0..examples.len()).collect();
    for indices in all.chunks(AT_ONCE) {
        let batch = pack(examples, indices);
        let logits = tch::no_grad(|| head.forward(&batch.features, &batch.mask, 0.0))?;
        let labels = Vec::<i64>::try_from(logits.squeeze_dim(0).argmax(-1, false))?;
        let mut at = 0;
        for index in indices {
            let example = &examples[*index];
            let length = example.row.ids.len();
            // The first and the last token are special and name nothing.
            let found = spans(&labels[at + 1..at + length - 1], &example.row.offsets[1..length - 1]);
            counts.add(&found, &example.marks);
            at += length + 1;
        }
    }
    Ok(counts.score())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tagger::names::Kind;

    #[test]
    fn only_exact_spans_count() {
        let mark = |start, end, kind| Mark { start, end, kind };
        let wanted = [mark(0, 4, Kind::Cell), mark(6, 9, Kind::Marker), mark(12, 15, Kind::Tissue)];
        let found = [mark(0, 4, Kind::Cell), mark(6, 9, Kind::Tissue), mark(12, 14, Kind::Tissue)];
        let mut counts = Counts::default();
        counts.add(&found, &wanted);
        assert_eq!(counts, Counts { hits: 1, extra: 2, missed: 2 });
        counts.add(&[], &[]);
        let score = counts.score();
        assert!((score.f1 - 1.0 / 3.0).abs() < 1e-12 && score.spans == 3, "{score:?}");
        assert_eq!(Counts::default().score().f1, 0.0);
    }
}
