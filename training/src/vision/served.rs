//! From committed weights to folders of a model repository. Owns that an export is made of the weights' file and of
//! nothing else, and is skipped when up to date; the folder's form is `folder`'s, the tracing `export`'s.

use std::{io::Write, path::Path};

use anyhow::Context;
use tch::Tensor;

use super::{
    layers::{Layers, Source},
    lesson::Lesson,
    weights::Weights,
    weights_file,
};
use crate::{export::Model, folder, folder::Folder};

/// The program text that turns weights into a module, for all models: whoever changes it gets new exports.
const SOURCES: [&str; 12] = [
    include_str!("served.rs"),
    include_str!("layers.rs"),
    include_str!("weights.rs"),
    include_str!("lesson.rs"),
    include_str!("detector/net.rs"),
    include_str!("classifier/net.rs"),
    include_str!("cells/unet.rs"),
    include_str!("cells/resunet.rs"),
    include_str!("cells/hrnet.rs"),
    include_str!("cells/mod.rs"),
    include_str!("../export.rs"),
    include_str!("../program.rs"),
];
/// Rows of the example that is traced, then of those that are compared.
const ROWS: [i64; 3] = [2, 1, 5];

/// Writes a model's folder into the repository `to`, unless it is there already.
pub(crate) fn export(lesson: &dyn Lesson, weights: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let name = lesson.name();
    let file = weights_file(weights, name);
    let bytes =
        folder::read(&file).with_context(|| format!("no weights of {name}: run `tenon-training train {name}`"))?;
    let mut parts = vec![&bytes[..], lesson.manifest().as_bytes()];
    parts.extend(SOURCES.map(str::as_bytes));
    let recipe = folder::digest(&parts);
    let place = Folder::new(to, name);
    if place.is_made_from(&recipe) {
        writeln!(out, "model {name}: up to date in {}", place.home().display())?;
        return Ok(());
    }
    let network = lesson.network(&Layers::new(Source::Kept(&Weights::read(&file)?)))?;
    let forward = |inputs: &[Tensor]| network.answer(&inputs[0]).map(|answer| vec![answer]);
    let examples: Vec<_> = ROWS.iter().map(|rows| vec![lesson.example(*rows)]).collect();
    Model { name, recipe: &recipe, manifest: lesson.manifest(), beside: &[], examples: &examples }
        .publish(&forward, &place, out)
}
