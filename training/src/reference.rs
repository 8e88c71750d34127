//! Compares an exported MiniLM with vectors that an independent implementation made (`tests/fixtures/minilm`). Reads
//! token ids, not texts, so that model and tokenizer are tested apart. Knows nothing of how the model was made.

use std::{io::Write, path::Path};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tch::{CModule, Kind, Tensor};

use crate::{
    export::{difference, run},
    folder::read,
};

/// Numbers in an embedding.
const WIDTH: usize = 384;
/// The largest difference that still counts as the same model.
const TOLERANCE: f64 = 1e-5;
/// Sentences in one of the padded batches.
const BATCH: usize = 8;

/// A line of `tokens.jsonl`.
#[derive(Deserialize)]
struct Sentence {
    ids: Vec<i64>,
}

/// Runs every sentence alone and in padded batches; an error if either is further than `TOLERANCE` from the reference.
pub(crate) fn check(model: &Path, reference: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let sentences = sentences(&read(&reference.join("tokens.jsonl"))?).context("tokens.jsonl")?;
    let expected = vectors(&read(&reference.join("reference.f32"))?, sentences.len()).context("reference.f32")?;
    let module = CModule::load(model)
        .with_context(|| format!("loading {}: make it with `tenon-training minilm`", model.display()))?;
    let mut failed = false;
    for size in [1, BATCH] {
        let mut largest = 0.0_f64;
        for (index, batch) in sentences.chunks(size).enumerate() {
            let actual = run(&module, &pad(batch))?;
            ensure!(actual.len() == 1, "{} outputs instead of 1", actual.len());
            let rows = expected.narrow(0, (index * size) as i64, batch.len() as i64);
            largest = largest.max(difference(&actual[0], &rows)?);
        }
        failed |= largest > TOLERANCE;
        let count = sentences.len();
        writeln!(out, "minilm: {count} sentences in batches of {size}: largest difference {largest:e}")?;
    }
    ensure!(!failed, "{} differs from the reference by more than {TOLERANCE:e}", model.display());
    Ok(())
}

fn sentences(text: &[u8]) -> anyhow::Result<Vec<Sentence>> {
    let mut sentences = Vec::new();
    for (index, line) in std::str::from_utf8(text)?.lines().enumerate() {
        let sentence: Sentence = serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
        ensure!(!sentence.ids.is_empty(), "line {}: no ids", index + 1);
        sentences.push(sentence);
    }
    ensure!(!sentences.is_empty(), "is empty");
    Ok(sentences)
}

fn vectors(bytes: &[u8], rows: usize) -> anyhow::Result<Tensor> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    ensure!(
        rest.is_empty() && numbers.len() == rows * WIDTH,
        "{} bytes, expected {rows} vectors of {WIDTH} numbers",
        bytes.len()
    );
    let numbers: Vec<_> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Ok(Tensor::from_slice(&numbers).view([rows as i64, WIDTH as i64]))
}

/// Ids, mask and type ids of a batch, padded with zeros to its longest sentence.
fn pad(batch: &[Sentence]) -> [Tensor; 3] {
    let rows = batch.len() as i64;
    let longest = batch.iter().map(|sentence| sentence.ids.len()).max().unwrap_or_default();
    let mut ids = Vec::new();
    let mut mask = Vec::new();
    for sentence in batch {
        let length = sentence.ids.len();
        ids.extend_from_slice(&sentence.ids);
        ids.resize(ids.len() + longest - length, 0);
        mask.resize(mask.len() + length, 1_i64);
        mask.resize(mask.len() + longest - length, 0);
    }
    let shape = [rows, longest as i64];
    let types = Tensor::zeros(shape, (Kind::Int64, tch::Device::Cpu));
    [Tensor::from_slice(&ids).view(shape), Tensor::from_slice(&mask).view(shape), types]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_padded_to_their_longest() {
        let batch = [Sentence { ids: vec![7] }, Sentence { ids: vec![8, 9, 10] }];
        let [ids, mask, types] = pad(&batch);
        assert_eq!(Vec::<i64>::try_from(ids.flatten(0, -1)).unwrap(), [7, 0, 0, 8, 9, 10]);
        assert_eq!(Vec::<i64>::try_from(mask.flatten(0, -1)).unwrap(), [1, 0, 0, 1, 1, 1]);
        assert_eq!(types.size(), [2, 3]);
    }

    #[test]
    fn damaged_references_are_refused() {
        assert!(vectors(&[0; 7], 1).is_err());
        assert!(vectors(&[0; WIDTH * 4], 2).is_err());
        assert!(sentences(b"{\"ids\": []}").is_err());
        assert!(sentences(b"").is_err());
        assert!(sentences(b"{\"id\": [1]}").is_err());
    }
}
