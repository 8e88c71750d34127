//! Models that see: nets of this package, trained on pictures that it generates. Owns which there are and the commands
//! over them; each model is a `Lesson`. Knows nothing of what else this program exports.

mod cells;
mod classifier;
mod detector;
mod layers;
mod lesson;
mod record;
mod schedule;
mod served;
mod trainer;
mod weights;

#[cfg(test)]
mod tests;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use lesson::Lesson;
pub(crate) use lesson::held_out;
use record::Record;
pub(crate) use schedule::Budget;
use trainer::Plan;
use weights::Weights;

/// All models.
const LESSONS: [&dyn Lesson; 5] =
    [&detector::Shapes, &classifier::Cuttings, &cells::HRNET, &cells::RESUNET, &cells::UNET];
/// Stands for all of them on the command line.
const ALL: &str = "all";

/// True if there is a model of that name, or the name is `all`.
pub(crate) fn knows(name: &str) -> bool {
    name == ALL || LESSONS.iter().any(|lesson| lesson.name() == name)
}

/// How a model is to be trained, and where its weights go.
pub(crate) struct Order<'a> {
    /// When it ends; without it the recipe's steps.
    pub(crate) budget: Option<Budget>,
    /// Equal ones, equal weights.
    pub(crate) seed: u64,
    /// Folder of weights to go on from.
    pub(crate) from: Option<&'a Path>,
    /// Folder for the weights.
    pub(crate) to: &'a Path,
}

/// Trains one model or all of them; writes their weights, and what they came to beside them.
pub(crate) fn train(name: &str, order: &Order<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let &Order { budget, seed, from, to } = order;
    std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for lesson in lessons(name)? {
        let recipe = lesson.recipe();
        let file = weights_file(to, lesson.name());
        let mut keep = |weights: &Weights| weights.write(&file);
        let begun = from.map(|from| Weights::read(&weights_file(from, lesson.name()))).transpose()?;
        let budget = budget.unwrap_or(Budget::Steps(recipe.steps));
        let trained = trainer::train(lesson, &Plan { budget, seed, from: begun.as_ref() }, &mut keep, out)?;
        trained.weights.write(&file)?;
        writeln!(out, "{}: measuring on {} held-out pictures", lesson.name(), recipe.held_out)?;
        out.flush()?;
        // What was read back is measured, because that is what is served.
        let measured = trainer::measure(lesson, &Weights::read(&file)?, recipe.held_out)?;
        let record = Record::new(lesson, &trained, order, &measured);
        record.write(&to.join(format!("{}.json", lesson.name())))?;
        writeln!(out, "{record}")?;
    }
    Ok(())
}

/// Measures weights of the folder `weights` on `pictures` held-out pictures, or as many as the recipe says; an error if
/// one model is below what its recipe asks for.
pub(crate) fn evaluate(name: &str, weights: &Path, pictures: Option<u64>, out: &mut impl Write) -> anyhow::Result<()> {
    let mut below = Vec::new();
    for lesson in lessons(name)? {
        let recipe = lesson.recipe();
        let count = pictures.unwrap_or(recipe.held_out);
        let kept = Weights::read(&weights_file(weights, lesson.name()))?;
        let measured = trainer::measure(lesson, &kept, count)?;
        let (figure, least) = recipe.figure;
        write!(out, "{}: {figure} {:.4} on {count} held-out pictures", lesson.name(), measured.figure)?;
        for (name, value) in &measured.others {
            write!(out, ", {name} {value:.4}")?;
        }
        writeln!(out)?;
        out.flush()?;
        if measured.figure < least {
            below.push(format!("{} is below {figure} {least}", lesson.name()));
        }
    }
    ensure!(below.is_empty(), "{}", below.join("; "));
    Ok(())
}

/// Exports all models from the folder `weights` into the repository `to`.
pub(crate) fn export(weights: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    LESSONS.into_iter().try_for_each(|lesson| served::export(lesson, weights, to, out))
}

fn lessons(name: &str) -> anyhow::Result<Vec<&'static dyn Lesson>> {
    let known: Vec<_> = LESSONS.iter().map(|lesson| lesson.name()).collect();
    ensure!(knows(name), "no model `{name}`: {ALL}, or one of {}", known.join(", "));
    Ok(LESSONS.into_iter().filter(|lesson| name == ALL || lesson.name() == name).collect())
}

fn weights_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.safetensors"))
}
