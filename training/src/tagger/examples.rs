//! Texts that were generated, as the head sees them: features of the frozen encoder, computed once, and labels. Owns how
//! texts are laid out into rows and packed into batches.

use anyhow::Context;
use fastrand::Rng;
use tch::{Kind, Tensor};

use super::{
    head::{FEATURES, features},
    sentences::{Author, Mark, Marked, Source},
    tokens::{IGNORED, Row, Words},
};
use crate::minilm::Encoder;

/// The encoder has no more positions; texts that are longer are not used.
const MAX_TOKENS: usize = 512;
/// Rows of one pass of the encoder.
const ENCODED_AT_ONCE: usize = 16;
/// Of so many training rows one is cut at its beginning.
const CUT_ONE_OF: usize = 4;

/// One row, ready for the head.
pub(super) struct Example {
    /// `[tokens, FEATURES]`, as 16 bits: there are many.
    features: Tensor,
    pub(super) row: Row,
    pub(super) marks: Vec<Mark>,
}

/// Several rows behind one another, with an empty place after each that the convolution cannot look across.
pub(super) struct Batch {
    pub(super) features: Tensor,
    pub(super) mask: Tensor,
    pub(super) labels: Tensor,
}

/// Rows of one sentence (two of five) or up to eight, some beginning in mid-sentence, as windows of long documents do.
pub(super) fn training_rows(words: &Words, count: usize, seed: u64) -> anyhow::Result<Vec<(Row, Vec<Mark>)>> {
    let mut author = Author::new(Source::Training, seed)?;
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        let sentences = if author.below(5) < 2 { 1 } else { 1 + author.below(8) };
        let mut row = words.row(&author.text(sentences)?)?;
        if author.below(CUT_ONE_OF) == 0 {
            row.cut(1 + author.below(12));
        }
        if row.ids.len() <= MAX_TOKENS {
            rows.push((row, Vec::new()));
        }
    }
    Ok(rows)
}

/// Rows of `sentences` sentences each, for measuring.
pub(super) fn texts(source: Source, count: usize, sentences: usize, seed: u64) -> anyhow::Result<Vec<Marked>> {
    let mut author = Author::new(source, seed)?;
    (0..count).map(|_| author.text(sentences)).collect()
}

/// Rows of texts.
pub(super) fn rows(words: &Words, texts: &[Marked]) -> anyhow::Result<Vec<(Row, Vec<Mark>)>> {
    texts.iter().map(|text| Ok((words.row(text)?, text.marks.clone()))).collect()
}

/// Runs the encoder over all rows, the shortest first, so that little is padded; the order of the rows stays.
pub(super) fn encode(encoder: &Encoder, rows: Vec<(Row, Vec<Mark>)>) -> anyhow::Result<Vec<Example>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|index| rows[*index].0.ids.len());
    let mut encoded: Vec<Option<Tensor>> = rows.iter().map(|_| None).collect();
    for chosen in order.chunks(ENCODED_AT_ONCE) {
        let longest = chosen.iter().map(|index| rows[*index].0.ids.len()).max().unwrap_or(0);
        let padded = |of: &dyn Fn(&Row) -> Vec<i64>| {
            let parts = chosen.iter().map(|index| {
                let mut values = of(&rows[*index].0);
                values.resize(longest, 0);
                values
            });
            Tensor::from_slice(&parts.flatten().collect::<Vec<_>>()).view([chosen.len() as i64, longest as i64])
        };
        let ids = padded(&|row| row.ids.clone());
        let mask = padded(&|row| vec![1; row.ids.len()]);
        let types = ids.zeros_like();
        let hidden = tch::no_grad(|| encoder.hidden(&[ids, mask, types])).context("encoding")?.0;
        let all = features(&hidden)?.to_kind(Kind::Half);
        for (place, index) in chosen.iter().enumerate() {
            let length = rows[*index].0.ids.len() as i64;
            // A copy: a view would keep the whole batch.
            encoded[*index] = Some(all.get(place as i64).narrow(0, 0, length).copy());
        }
    }
    let encoded = encoded.into_iter().map(|features| features.expect("every row is in one chunk"));
    Ok(rows.into_iter().zip(encoded).map(|((row, marks), features)| Example { features, row, marks }).collect())
}

/// The examples at `indices` as one batch.
pub(super) fn pack(examples: &[Example], indices: &[usize]) -> Batch {
    let gap = Tensor::zeros([1, FEATURES], (Kind::Half, tch::Device::Cpu));
    let mut parts = Vec::new();
    let (mut mask, mut labels) = (Vec::new(), Vec::new());
    for index in indices {
        let example = &examples[*index];
        parts.extend([&example.features, &gap]);
        mask.extend(std::iter::repeat_n(1.0_f32, example.row.ids.len()));
        mask.push(0.0);
        labels.extend_from_slice(&example.row.labels);
        labels.push(IGNORED);
    }
    Batch {
        features: Tensor::cat(&parts, 0).to_kind(Kind::Float).unsqueeze(0),
        mask: Tensor::from_slice(&mask).unsqueeze(0),
        labels: Tensor::from_slice(&labels),
    }
}

/// All indices in an order of the seed's.
pub(super) fn shuffled(count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    rng.shuffle(&mut order);
    order
}
