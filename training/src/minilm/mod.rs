//! The MiniLM-L6 sentence encoder: from the published weights to a model folder. Owns what the folder says about the
//! model and the tokenizer that goes with it; the mathematics are in `encoder`, the accepted architecture in `config`.

mod config;
mod encoder;

use std::{io::Write, path::Path};

use anyhow::{Context, ensure};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::{export::Model, folder, folder::Folder};
use config::Config;
pub(crate) use encoder::Encoder;

const NAME: &str = "minilm";
const MANIFEST: &str = include_str!("model.toml");
/// The program text is part of the recipe: whoever changes it gets a new export without having to remember anything.
const SOURCE: [&str; 5] = [
    include_str!("mod.rs"),
    include_str!("config.rs"),
    include_str!("encoder.rs"),
    include_str!("../export.rs"),
    include_str!("../program.rs"),
];
/// Ids are below it: what `config` checks and model.toml promises.
pub(crate) const VOCABULARY: i64 = 30522;
/// Rows and tokens of the example that is traced, then of those that are only compared.
const SHAPES: [(i64, i64); 5] = [(2, 7), (1, 1), (1, 5), (3, 64), (8, 200)];

/// Writes `minilm` into the model repository `to`, unless it is there already.
pub(crate) fn export(weights: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let file = weights.join("model.safetensors");
    ensure!(file.is_file(), "no weights in {}: run `python3 setup/minilm.py`", weights.display());
    let config_text = folder::read(&weights.join("config.json"))?;
    let tokenizer_text = folder::read(&weights.join("tokenizer.json"))?;
    let mut parts = vec![&config_text[..], &tokenizer_text[..], MANIFEST.as_bytes()];
    parts.extend(SOURCE.iter().map(|text| text.as_bytes()));
    let weights_bytes = folder::read(&file)?;
    parts.push(&weights_bytes);
    let recipe = folder::digest(&parts);

    let place = Folder::new(to, NAME);
    if place.is_made_from(&recipe) {
        writeln!(out, "model {NAME}: up to date in {}", place.home().display())?;
        return Ok(());
    }
    let tokenizer =
        tokenizer_without_padding(&tokenizer_text).with_context(|| format!("{}/tokenizer.json", weights.display()))?;
    let encoder = load(weights)?;
    let forward = |inputs: &[Tensor]| encoder.forward(inputs);
    let examples: Vec<_> = SHAPES.iter().map(|&(rows, seq)| example(rows, seq, VOCABULARY)).collect();
    let beside = [("tokenizer.json", tokenizer)];
    Model { name: NAME, recipe: &recipe, manifest: MANIFEST, beside: &beside, examples: &examples }
        .publish(&forward, &place, out)
}

/// The encoder in the folder `weights`, for models with another head.
pub(crate) fn load(weights: &Path) -> anyhow::Result<Encoder> {
    let file = weights.join("model.safetensors");
    ensure!(file.is_file(), "no weights in {}: run `python3 setup/minilm.py`", weights.display());
    let config = Config::parse(&folder::read(&weights.join("config.json"))?)
        .with_context(|| format!("{}/config.json", weights.display()))?;
    Encoder::load(&file, &config)
}

/// Only the engine pads and only the plugin decides on truncation, so the tokenizer file must do neither by itself.
pub(crate) fn tokenizer_without_padding(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut tokenizer: Value = serde_json::from_slice(text).context("not JSON")?;
    let sections = tokenizer.as_object_mut().context("not a JSON object")?;
    ensure!(sections.contains_key("model"), "has no \"model\": not a tokenizer file");
    for section in ["padding", "truncation"] {
        sections.insert(section.to_owned(), Value::Null);
    }
    Ok(serde_json::to_vec(&tokenizer)?)
}

/// Deterministic ids; every second row is half padding, so that the mask counts.
pub(crate) fn example(rows: i64, seq: i64, vocabulary: i64) -> Vec<Tensor> {
    /// Some odd number, so that neighbouring ids differ much.
    const STRIDE: i64 = 7919;
    let int64 = (Kind::Int64, Device::Cpu);
    let ids = (Tensor::arange(rows * seq, int64) * STRIDE).remainder(vocabulary).view([rows, seq]);
    let mask = Tensor::ones([rows, seq], int64);
    for row in (1..rows).step_by(2) {
        let _ = mask.get(row).narrow(0, seq - seq / 2, seq / 2).fill_(0);
    }
    let type_ids = Tensor::zeros([rows, seq], int64);
    vec![ids, mask, type_ids]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_truncation_go_and_the_rest_stays() {
        let text = br#"{"model": {"vocab": {"b": 1, "a": 0}}, "padding": {"strategy": "Fixed"}, "truncation": {}}"#;
        let written = tokenizer_without_padding(text).unwrap();
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["padding"], Value::Null);
        assert_eq!(value["truncation"], Value::Null);
        assert_eq!(value["model"]["vocab"]["b"], 1);
    }

    #[test]
    fn another_file_is_not_a_tokenizer() {
        assert!(tokenizer_without_padding(b"[]").is_err());
        assert!(tokenizer_without_padding(b"{}").is_err());
        assert!(tokenizer_without_padding(b"nonsense").is_err());
    }

    #[test]
    fn examples_have_padding_in_every_second_row() {
        let inputs = example(2, 6, 100);
        assert_eq!(inputs[0].size(), [2, 6]);
        assert_eq!(
            Vec::<i64>::try_from(inputs[1].sum_dim_intlist([1_i64].as_slice(), false, Kind::Int64)).unwrap(),
            [6, 3]
        );
    }
}
