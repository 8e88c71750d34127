//! The tagger: cell types, markers and tissues in a text. The encoder is MiniLM-L6 as it was published, frozen; the head is
//! trained here, on sentences that `sentences` makes. Owns the model folder: encoder and head in one module. docs/tagger.md
//! tells how good it is.

mod examples;
mod head;
mod names;
mod natural;
mod samples;
mod score;
mod sentences;
mod tokens;
mod train;

use std::{io::Write, path::Path};

use anyhow::ensure;
use tch::{TchError, Tensor};

use crate::{
    export::Model,
    folder::{self, Folder},
    minilm::{self, Encoder},
};
use head::Head;
pub(crate) use samples::samples;
pub(crate) use train::{Amount, train};

const NAME: &str = "tagger";
const MANIFEST: &str = include_str!("model.toml");
/// The program text is part of the recipe: whoever changes it gets a new export without having to remember anything.
const SOURCE: [&str; 5] = [
    include_str!("mod.rs"),
    include_str!("head.rs"),
    include_str!("../minilm/encoder.rs"),
    include_str!("../export.rs"),
    include_str!("../program.rs"),
];
/// Rows and tokens of the example that is traced, then of those that are only compared.
const SHAPES: [(i64, i64); 5] = [(2, 7), (1, 2), (1, 5), (3, 64), (8, 200)];

/// Writes `tagger` into the model repository `to`, unless it is there already: the encoder of the folder `weights`, the head
/// of the file `head`.
pub(crate) fn export(weights: &Path, head: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    ensure!(
        weights.join("model.safetensors").is_file(),
        "no weights in {}: run `python3 setup/minilm.py`",
        weights.display()
    );
    let files = ["model.safetensors", "config.json", "tokenizer.json"].map(|name| folder::read(&weights.join(name)));
    let [encoder_bytes, config, tokenizer] = files;
    let (encoder_bytes, config, tokenizer, head_bytes) = (encoder_bytes?, config?, tokenizer?, folder::read(head)?);
    let mut parts = vec![&encoder_bytes[..], &config, &tokenizer, &head_bytes, MANIFEST.as_bytes()];
    parts.extend(SOURCE.iter().map(|text| text.as_bytes()));
    let recipe = folder::digest(&parts);
    let place = Folder::new(to, NAME);
    if place.is_made_from(&recipe) {
        writeln!(out, "model {NAME}: up to date in {}", place.home().display())?;
        return Ok(());
    }
    let (encoder, head) = (minilm::load(weights)?, Head::load(head)?);
    let tokenizer = minilm::tokenizer_without_padding(&tokenizer)?;
    let forward = |inputs: &[Tensor]| forward(&encoder, &head, inputs);
    let examples: Vec<_> = SHAPES.iter().map(|&(rows, seq)| minilm::example(rows, seq, minilm::VOCABULARY)).collect();
    let beside = [("tokenizer.json", tokenizer)];
    Model { name: NAME, recipe: &recipe, manifest: MANIFEST, beside: &beside, examples: &examples }
        .publish(&forward, &place, out)
}

/// `[ids, mask, type ids]`, each `[rows, seq]`, to `[logits]`, `[rows, seq, 7]`.
fn forward(encoder: &Encoder, head: &Head, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    let (hidden, mask) = encoder.hidden(inputs)?;
    Ok(vec![head.forward(&head::features(&hidden)?, &mask, 0.0)?])
}

#[cfg(test)]
#[path = "tagger_tests.rs"]
mod tests;
