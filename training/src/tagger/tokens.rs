//! Texts as the model sees them: token ids, and for each token a label made from where it lies. Owns the label's order,
//! which is that of the model's outputs. Knows nothing of how texts are made.

use std::path::Path;

use anyhow::anyhow;
use tokenizers::Tokenizer;

use super::{
    names::Kind,
    sentences::{Mark, Marked},
};

/// O, then B and I of each kind.
pub(super) const LABELS: usize = 1 + 2 * Kind::ALL.len();
pub(super) const OUTSIDE: i64 = 0;
/// Not counted: special tokens.
pub(super) const IGNORED: i64 = -100;

/// The label of a kind's first token.
pub(super) fn begin(kind: Kind) -> i64 {
    1 + 2 * kind as i64
}

/// A text's tokens, special ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) ids: Vec<i64>,
    pub(super) labels: Vec<i64>,
    /// In bytes; 0 and 0 for special tokens.
    pub(super) offsets: Vec<(usize, usize)>,
}

impl Row {
    /// Takes away `count` tokens after the first special one: as in a window that begins in mid-text.
    pub(super) fn cut(&mut self, count: usize) {
        let count = count.min(self.ids.len().saturating_sub(2));
        self.ids.drain(1..=count);
        self.labels.drain(1..=count);
        self.offsets.drain(1..=count);
        // A name that lost its beginning begins where it goes on.
        if let Some(first) = self.labels.get_mut(1)
            && *first > 0
            && *first % 2 == 0
        {
            *first -= 1;
        }
    }
}

/// The tokenizer that belongs to the encoder.
pub(super) struct Words(Tokenizer);

impl Words {
    pub(super) fn load(file: &Path) -> anyhow::Result<Self> {
        let reason = |error: tokenizers::Error| anyhow!("reading {}: {error}", file.display());
        let mut tokenizer = Tokenizer::from_file(file).map_err(reason)?;
        tokenizer.with_padding(None).with_truncation(None).map_err(reason)?;
        Ok(Self(tokenizer))
    }

    /// A text's tokens and their labels.
    pub(super) fn row(&self, text: &Marked) -> anyhow::Result<Row> {
        let encoding = self.0.encode(text.text.as_str(), true).map_err(|error| anyhow!("tokenising: {error}"))?;
        let offsets = encoding.get_offsets().to_vec();
        let special = encoding.get_special_tokens_mask();
        let labels = labels(&offsets, special, &text.marks);
        Ok(Row { ids: encoding.get_ids().iter().map(|id| i64::from(*id)).collect(), labels, offsets })
    }
}

fn labels(offsets: &[(usize, usize)], special: &[u32], marks: &[Mark]) -> Vec<i64> {
    let mut marks = marks.iter().peekable();
    let mut inside: Option<usize> = None;
    let mut label = |&(start, end): &(usize, usize)| {
        while marks.next_if(|mark| mark.end <= start).is_some() {}
        match marks.peek() {
            Some(mark) if mark.start < end => {
                let first = inside != Some(mark.start);
                inside = Some(mark.start);
                begin(mark.kind) + i64::from(!first)
            }
            _ => OUTSIDE,
        }
    };
    offsets.iter().zip(special).map(|(offset, special)| if *special == 1 { IGNORED } else { label(offset) }).collect()
}

/// The spans that labels say: B begins one, I goes on with one of its kind or begins where there is none.
pub(super) fn spans(labels: &[i64], offsets: &[(usize, usize)]) -> Vec<Mark> {
    let mut spans: Vec<Mark> = Vec::new();
    let mut open = None;
    for (&label, &(start, end)) in labels.iter().zip(offsets) {
        let kind = (label > 0).then(|| Kind::ALL[(label as usize - 1) / 2]);
        match (kind, spans.last_mut()) {
            (Some(kind), Some(last)) if label % 2 == 0 && open == Some(kind) => last.end = end,
            (Some(kind), _) => spans.push(Mark { start, end, kind }),
            (None, _) => {}
        }
        open = kind;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    // "No Treg, FOXP3 in": no | tr ##eg | , | fox ##p3 | in
    const OFFSETS: [(usize, usize); 9] = [(0, 0), (0, 2), (3, 5), (5, 7), (7, 8), (9, 12), (12, 14), (15, 17), (0, 0)];

    fn marks() -> Vec<Mark> {
        vec![Mark { start: 3, end: 7, kind: Kind::Cell }, Mark { start: 9, end: 14, kind: Kind::Marker }]
    }

    #[test]
    fn labels_come_from_places_and_spans_from_labels() {
        let labels = labels(&OFFSETS, &[1, 0, 0, 0, 0, 0, 0, 0, 1], &marks());
        assert_eq!(labels, [IGNORED, 0, 1, 2, 0, 3, 4, 0, IGNORED]);
        assert_eq!(spans(&labels, &OFFSETS), marks());
    }

    #[test]
    fn neighbours_of_one_kind_stay_apart() {
        let offsets = [(0, 3), (3, 4), (4, 7)];
        let marks = [Mark { start: 0, end: 3, kind: Kind::Marker }, Mark { start: 4, end: 7, kind: Kind::Marker }];
        assert_eq!(labels(&offsets, &[0; 3], &marks), [3, 0, 3]);
        assert_eq!(spans(&[3, 3, 3], &offsets).len(), 3);
        assert_eq!(spans(&[4, 4, 2], &offsets).len(), 2);
    }

    #[test]
    fn a_row_that_is_cut_in_mid_name_begins_with_a_name() {
        let labels = vec![IGNORED, 0, 1, 2, 0, 3, 4, 0, IGNORED];
        let mut row = Row { ids: (0..9).collect(), labels, offsets: OFFSETS.to_vec() };
        row.cut(2);
        assert_eq!(row.ids, [0, 3, 4, 5, 6, 7, 8]);
        assert_eq!(row.labels, [IGNORED, 1, 0, 3, 4, 0, IGNORED]);
        row.cut(99);
        assert_eq!(row.ids, [0, 8]);
    }
}
