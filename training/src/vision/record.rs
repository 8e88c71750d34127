//! What is kept beside weights: the command that made them, and what they came to. Owns that file's form. Why a file
//! and not a page: it is written by whoever trains, so it cannot be forgotten.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Context;
use serde::Serialize;

use super::{
    Order,
    lesson::{Lesson, Measured},
    trainer::Trained,
};

/// The file beside a model's weights.
#[derive(Serialize)]
pub(super) struct Record {
    model: &'static str,
    /// Makes the same again: equal steps and seed, one thread.
    command: String,
    /// Whether it went on from earlier weights (`--from`), which the command above does not tell.
    went_on: bool,
    seed: u64,
    steps: u64,
    pictures_in_a_step: u64,
    seconds: u64,
    /// Mean losses of the first and of the last steps.
    losses: [f64; 2],
    parameters: usize,
    /// The figure, and on how many pictures that were not trained with.
    figure: &'static str,
    value: f64,
    least: f64,
    held_out: u64,
    others: BTreeMap<String, f64>,
}

impl Record {
    pub(super) fn new(lesson: &dyn Lesson, trained: &Trained, order: &Order<'_>, measured: &Measured) -> Self {
        let seed = order.seed;
        let recipe = lesson.recipe();
        let (figure, least) = recipe.figure;
        Self {
            model: lesson.name(),
            command: format!("tenon-training train {} --steps {} --seed {seed}", lesson.name(), trained.steps),
            went_on: order.from.is_some(),
            seed,
            steps: trained.steps,
            pictures_in_a_step: recipe.batch,
            seconds: trained.time.as_secs(),
            losses: trained.losses.map(rounded),
            parameters: trained.weights.count(),
            figure,
            value: rounded(measured.figure),
            least,
            held_out: recipe.held_out,
            others: measured.others.iter().map(|(name, value)| (name.clone(), rounded(*value))).collect(),
        }
    }

    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, steps, seconds, losses: [first, last], parameters, .. } = self;
        write!(f, "{model}: {parameters} parameters, {steps} steps in {seconds} s, loss {first} to {last}, ")?;
        write!(f, "{} {} on {} held-out pictures (at least {})", self.figure, self.value, self.held_out, self.least)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
