//! Trains one model: draws pictures, takes steps, keeps a running mean of the weights, says how it goes. Owns the loop;
//! what is learnt is the lesson's, and how long and how fast is the schedule's. Refuses losses that are no numbers.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tch::{
    Device,
    nn::{self, OptimizerConfig},
};

use super::{
    layers::{Layers, Source},
    lesson::{Lesson, held_out, seeds_of_step},
    schedule::{Budget, Course, rate},
    weights::Weights,
};

/// Pulls weights towards 0.
const DECAY: f64 = 0.02;
/// Longer gradients are shortened to this.
const MOST_GRADIENT: f64 = 10.0;
/// Steps over which weights are averaged, once there are that many.
const MEMORY: f64 = 400.0;
/// Between two lines of progress.
const BETWEEN_LINES: Duration = Duration::from_secs(20);
/// Held-out figures on the way, and of how many pictures: enough to see where it goes.
const LOOKS: u64 = 6;
const PICTURES_AT_A_LOOK: u64 = 32;
/// Shorter trainings are not looked at on the way: a look would take longer than they do.
const BEFORE_A_LOOK: Duration = Duration::from_secs(30);
/// Losses of the beginning and of the end that are compared.
const COMPARED: usize = 10;

/// What came out.
pub(crate) struct Trained {
    /// The running mean of the weights.
    pub(crate) weights: Weights,
    /// Steps taken.
    pub(crate) steps: u64,
    /// Mean losses of the first and of the last steps.
    pub(crate) losses: [f64; 2],
    /// How long it took.
    pub(crate) time: Duration,
}

/// How a training begins and when it ends.
pub(crate) struct Plan<'a> {
    /// When it ends.
    pub(crate) budget: Budget,
    /// Of the first weights, and of the pictures.
    pub(crate) seed: u64,
    /// Weights to go on from. The course is then at its middle: what is easy has been learnt.
    pub(crate) from: Option<&'a Weights>,
}

/// Trains until the budget is used up. `keep` gets the weights whenever they were looked at, so that a training that is
/// cut short is not lost.
pub(crate) fn train(
    lesson: &dyn Lesson,
    plan: &Plan<'_>,
    keep: &mut dyn FnMut(&Weights) -> anyhow::Result<()>,
    out: &mut impl Write,
) -> anyhow::Result<Trained> {
    let Plan { budget, seed, from } = *plan;
    let recipe = lesson.recipe();
    tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
    let store = nn::VarStore::new(Device::Cpu);
    let network = lesson.network(&Layers::new(Source::Fresh(&store)))?;
    if let Some(from) = from {
        from.put_into(&store)?;
    }
    let mut weights = Weights::of(&store);
    let mut optimizer = nn::AdamW { wd: DECAY, ..nn::AdamW::default() }.build(&store, recipe.rate)?;
    let course = Course::new(budget);
    let mut losses: Vec<f64> = Vec::new();
    let mut told = Instant::now();
    let mut looks = 1;
    let mut step = 0;
    loop {
        let mut progress = course.progress(step);
        if progress >= 1.0 && step > 0 {
            break;
        }
        let look = progress * (LOOKS + 1) as f64 >= looks as f64 && course.elapsed() >= BEFORE_A_LOOK;
        if from.is_some() {
            progress = f64::midpoint(progress, 1.0);
        }
        optimizer.set_lr(recipe.rate * rate(progress));
        let loss = lesson.loss(&*network, &seeds_of_step(seed, step, recipe.batch), progress)?;
        let value = loss.f_double_value(&[])?;
        ensure!(value.is_finite(), "{}: the loss is {value} at step {step}", lesson.name());
        optimizer.backward_step_clip_norm(&loss, MOST_GRADIENT);
        // Young means forget quickly: the first weights are worth nothing.
        weights.follow(&store, (1.0 / MEMORY).max(1.0 / (step as f64 / 8.0 + 1.0)))?;
        losses.push(value);
        step += 1;
        if look || told.elapsed() >= BETWEEN_LINES {
            told = Instant::now();
            let latest = mean(&losses[losses.len().saturating_sub(50)..]);
            write!(out, "{}: step {step}, loss {latest:.4}", lesson.name())?;
            if look {
                looks += 1;
                keep(&weights)?;
                let measured = measure(lesson, &weights, PICTURES_AT_A_LOOK)?;
                write!(out, ", held-out {} {:.3}", recipe.figure.0, measured.figure)?;
            }
            writeln!(out, ", {} s gone, {} s left", course.elapsed().as_secs(), course.left(step).as_secs())?;
            out.flush()?;
        }
    }
    let compared = COMPARED.min(losses.len());
    let losses = [mean(&losses[..compared]), mean(&losses[losses.len() - compared..])];
    Ok(Trained { weights, steps: step, losses, time: course.elapsed() })
}

/// The figures of those weights on so many held-out pictures.
pub(crate) fn measure(
    lesson: &dyn Lesson,
    weights: &Weights,
    pictures: u64,
) -> anyhow::Result<super::lesson::Measured> {
    let network = lesson.network(&Layers::new(Source::Kept(weights)))?;
    tch::no_grad(|| lesson.measure(&*network, &held_out(pictures)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
