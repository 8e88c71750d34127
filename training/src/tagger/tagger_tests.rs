//! What the whole comes to. The encoder's weights are a download: without them (`python3 setup/minilm.py`) these tests have
//! nothing to test, and the unit tests beside are what is left.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    examples::{encode, rows, texts},
    score::measure,
    sentences::Source,
    tokens::Words,
    train::fit,
    *,
};

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder with the encoder, if it is there.
fn minilm() -> Option<PathBuf> {
    Some(place("../.tenon/minilm")).filter(|folder| folder.join("model.safetensors").is_file())
}

fn loaded(weights: &Path) -> (Encoder, Words) {
    tch::set_num_threads(1);
    (minilm::load(weights).unwrap(), Words::load(&weights.join("tokenizer.json")).unwrap())
}

#[test]
fn the_loss_falls_within_half_a_minute() {
    let Some(weights) = minilm() else { return };
    let (encoder, words) = loaded(&weights);
    let begun = Instant::now();
    let amount = Amount { rows: 60, epochs: 6, at_most: Some(Duration::from_secs(30)) };
    let trained = fit(&encoder, &words, amount, &mut Vec::new()).unwrap();
    assert!(trained.last_loss < 0.6 * trained.first_loss, "{} {}", trained.first_loss, trained.last_loss);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn the_committed_head_reaches_its_figures() {
    let figures: serde_json::Value =
        serde_json::from_slice(&folder::read(&place("weights/tagger.json")).unwrap()).unwrap();
    let written = |key: &str| figures[key]["f1"].as_f64().unwrap();
    assert!(written("unseen_templates") >= 0.9 && written("unseen_templates_long_rows") >= 0.9);
    let head = Head::load(&place("weights/tagger.safetensors")).unwrap();
    let Some(weights) = minilm() else { return };
    let (encoder, words) = loaded(&weights);
    // Other sentences than those of the figures: another seed.
    for (sentences, least) in [(1, 0.9), (8, 0.88)] {
        let rows = rows(&words, &texts(Source::UnseenTemplates, 160 / sentences, sentences, 77).unwrap()).unwrap();
        let score = measure(&head, &encode(&encoder, rows).unwrap()).unwrap();
        assert!(score.f1 >= least && score.spans > 250, "{sentences} sentences: {score:?}");
    }
}

#[test]
fn the_export_equals_encoder_and_head_and_is_made_once() {
    let Some(weights) = minilm() else { return };
    let to = std::env::temp_dir().join(format!("tenon-training-tagger-{}", std::process::id()));
    let mut out = Vec::new();
    for _ in 0..2 {
        // It compares itself with its source at four shapes, some of them padded.
        export(&weights, &place("weights/tagger.safetensors"), &to, &mut out).unwrap();
    }
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains("equal to its source at 4 other shapes") && said.contains("up to date"), "{said}");
    for file in ["model.toml", "1/model.pt", "1/tokenizer.json"] {
        assert!(to.join(NAME).join(file).is_file(), "{file}");
    }
    std::fs::remove_dir_all(&to).unwrap();
}

#[test]
fn without_weights_the_way_to_them_is_told() {
    let error = export(Path::new("nowhere"), Path::new("nothing"), Path::new("to"), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("setup/minilm.py"), "{error:#}");
}
