//! Training of the head: generated sentences, the frozen encoder's features computed once, cross entropy over tokens, Adam.
//! Owns seeds, amounts and what is written down beside the weights. The same seed on the same machine gives the same head.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use fastrand::Rng;
use serde::Serialize;
use tch::{
    Device, Tensor, nn,
    nn::{OptimizerConfig, VarStore},
};

use super::{
    NAME,
    examples::{Example, encode, pack, rows, shuffled, texts, training_rows},
    head::{Head, LAYERS},
    natural,
    score::{Score, measure},
    sentences::Source,
    tokens::{IGNORED, Words},
};
use crate::minilm::{self, Encoder};

const SEED: u64 = 20_261_127;
const RATE: f64 = 1.5e-3;
const DROPOUT: f64 = 0.25;
/// A little doubt in every label keeps scores from running to 0 and 1.
const SMOOTHING: f64 = 0.02;
/// Rows of a step.
const AT_ONCE: usize = 48;
/// Texts of each measurement.
const MEASURED: usize = 500;

/// How much is trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) rows: usize,
    pub(crate) epochs: usize,
    /// Ends early, with what there is.
    pub(crate) at_most: Option<Duration>,
}

impl Amount {
    /// What the committed head was trained with, or less, where time is short.
    pub(crate) fn lasting(seconds: Option<u64>) -> Self {
        Self { at_most: seconds.map(Duration::from_secs), ..Self::default() }
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self { rows: 5000, epochs: 12, at_most: None }
    }
}

/// What training came to.
pub(super) struct Trained {
    pub(super) head: Head,
    pub(super) first_loss: f64,
    pub(super) last_loss: f64,
    steps: usize,
}

/// What is written beside the weights.
#[derive(Serialize)]
struct Figures {
    trainer: &'static str,
    seed: u64,
    training_rows: usize,
    steps: usize,
    seconds: u64,
    hidden_states: [usize; LAYERS.len()],
    first_loss: f64,
    last_loss: f64,
    unseen_templates: Score,
    unseen_templates_long_rows: Score,
    unseen_templates_and_names: Score,
    written_by_hand: Score,
}

/// Trains the head on the encoder in `weights`; writes it and its figures into the folder `to`.
pub(crate) fn train(weights: &Path, to: &Path, amount: Amount, out: &mut impl Write) -> anyhow::Result<()> {
    let started = Instant::now();
    let (encoder, words) = (minilm::load(weights)?, Words::load(&weights.join("tokenizer.json"))?);
    let trained = fit(&encoder, &words, amount, out)?;
    let measured = |source, count, sentences, seed| {
        let rows = rows(&words, &texts(source, count, sentences, seed)?)?;
        measure(&trained.head, &encode(&encoder, rows)?)
    };
    let figures = Figures {
        trainer: "tenon-training train tagger",
        seed: SEED,
        training_rows: amount.rows,
        steps: trained.steps,
        seconds: started.elapsed().as_secs(),
        hidden_states: LAYERS,
        first_loss: trained.first_loss,
        last_loss: trained.last_loss,
        unseen_templates: measured(Source::UnseenTemplates, MEASURED, 1, SEED + 1)?,
        unseen_templates_long_rows: measured(Source::UnseenTemplates, MEASURED / 8, 10, SEED + 2)?,
        unseen_templates_and_names: measured(Source::UnseenNames, MEASURED, 1, SEED + 3)?,
        written_by_hand: measure(&trained.head, &encode(&encoder, rows(&words, &natural::texts()?)?)?)?,
    };
    std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    trained.head.save(&to.join(format!("{NAME}.safetensors")))?;
    let text = serde_json::to_string_pretty(&figures)? + "\n";
    std::fs::write(to.join(format!("{NAME}.json")), &text).with_context(|| format!("writing in {}", to.display()))?;
    write!(out, "{text}")?;
    Ok(())
}

/// Trains a fresh head.
pub(super) fn fit(encoder: &Encoder, words: &Words, amount: Amount, out: &mut impl Write) -> anyhow::Result<Trained> {
    let started = Instant::now();
    let examples = encode(encoder, training_rows(words, amount.rows, SEED)?)?;
    writeln!(out, "{NAME}: {} rows encoded in {:.0?}", examples.len(), started.elapsed())?;
    tch::manual_seed(SEED as i64);
    let store = VarStore::new(Device::Cpu);
    let head = Head::fresh().in_store(&store.root());
    let mut optimizer = nn::AdamW::default().build(&store, RATE)?;
    let mut rng = Rng::with_seed(SEED);
    let total = (amount.epochs * examples.len().div_ceil(AT_ONCE)).max(1);
    let (mut steps, mut first_loss, mut last_loss) = (0, f64::NAN, f64::NAN);
    'epochs: for epoch in 0..amount.epochs {
        let mut sum = 0.0;
        let order = shuffled(examples.len(), &mut rng);
        let batches = order.chunks(AT_ONCE);
        let count = batches.len() as f64;
        for indices in batches {
            if amount.at_most.is_some_and(|limit| started.elapsed() > limit) {
                break 'epochs;
            }
            // Half a cosine: from the full rate down to none.
            optimizer.set_lr(RATE * 0.5 * (1.0 + (std::f64::consts::PI * steps as f64 / total as f64).cos()));
            let loss = loss(&head, &examples, indices)?;
            optimizer.backward_step(&loss);
            last_loss = loss.double_value(&[]);
            first_loss = if steps == 0 { last_loss } else { first_loss };
            sum += last_loss;
            steps += 1;
        }
        writeln!(out, "{NAME}: epoch {epoch}: loss {:.4}", sum / count)?;
    }
    Ok(Trained { head, first_loss, last_loss, steps })
}

fn loss(head: &Head, examples: &[Example], indices: &[usize]) -> anyhow::Result<Tensor> {
    let batch = pack(examples, indices);
    let logits = head.forward(&batch.features, &batch.mask, DROPOUT)?.squeeze_dim(0);
    let none = None::<Tensor>;
    Ok(logits.f_cross_entropy_loss(&batch.labels, none, tch::Reduction::Mean, IGNORED, SMOOTHING)?)
}
