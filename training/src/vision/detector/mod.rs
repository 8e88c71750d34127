//! `detector`: finds coloured shapes. Owns how it is taught and measured; the net is in `net`, its loss in `assign`,
//! its figure in `score`, what it sees in `scenes`.

mod assign;
mod net;
mod score;

use tch::Tensor;

use super::{
    layers::Layers,
    lesson::{Lesson, Measured, Network, Recipe},
};
use crate::{
    picture::{Draw, Picture, generator},
    scenes::{MOST_OBJECTS, Object, Scene},
};
use assign::{Said, Truth};
use net::{Anchors, Detector, SIDE};

/// Pictures that are measured at once.
const AT_ONCE: usize = 8;
/// Until which progress pictures are smaller than the model's input, and how large: a step on 192 pixels takes a third
/// of the time, and shapes are the same.
const SIDES: [(f64, i64); 2] = [(0.5, 192), (0.75, 256)];
/// The narrowest side of a picture, as a part of the other.
const NARROWEST: f32 = 0.45;
/// Every so many-th held-out picture is larger than the model's input and made smaller, as most callers' are.
const LARGER: u64 = 2;

/// The lesson.
pub(crate) struct Shapes;

impl Lesson for Shapes {
    fn name(&self) -> &'static str {
        "detector"
    }

    fn manifest(&self) -> &'static str {
        include_str!("model.toml")
    }

    fn recipe(&self) -> Recipe {
        Recipe { steps: 6000, batch: 8, rate: 2e-3, figure: ("mAP@0.5", 0.9), held_out: 500 }
    }

    fn network(&self, layers: &Layers<'_>) -> anyhow::Result<Box<dyn Network>> {
        Ok(Box::new(Detector::new(layers)?))
    }

    fn loss(&self, network: &dyn Network, seeds: &[u64], progress: f64) -> anyhow::Result<Tensor> {
        let side = SIDES.into_iter().find(|(until, _)| progress < *until).map_or(SIDE, |(_, side)| side);
        let lessons: Vec<_> = seeds.iter().map(|seed| letterboxed(*seed, side, false)).collect();
        let images: Vec<_> = lessons.iter().map(|(picture, _)| picture.tensor()).collect();
        let objects: Vec<_> = lessons.into_iter().map(|(_, objects)| objects).collect();
        let raw = network.forward(&Tensor::f_stack(&images, 0)?, true)?;
        let anchors = Anchors::new(side)?;
        let said = Said { boxes: &anchors.boxes(&raw)?, classes: &Detector::classes(&raw)?, middles: &anchors.middles };
        Ok(assign::loss(&said, &truth(&objects))?)
    }

    fn measure(&self, network: &dyn Network, seeds: &[u64]) -> anyhow::Result<Measured> {
        let mut pictures = Vec::new();
        for seeds in seeds.chunks(AT_ONCE) {
            let drawn: Vec<_> =
                seeds.iter().map(|seed| letterboxed(*seed, SIDE, seed.is_multiple_of(LARGER))).collect();
            let images: Vec<_> = drawn.iter().map(|(picture, _)| picture.tensor()).collect();
            let output = network.answer(&Tensor::f_stack(&images, 0)?)?;
            for (row, (_, objects)) in drawn.into_iter().enumerate() {
                pictures.push((score::detections(&output.f_get(row as i64)?)?, objects));
            }
        }
        Ok(Measured { figure: score::mean_average_precision(&pictures), others: Vec::new() })
    }

    fn example(&self, rows: i64) -> Tensor {
        let images: Vec<_> = (0..rows).map(|row| letterboxed(row.unsigned_abs(), SIDE, false).0.tensor()).collect();
        Tensor::stack(&images, 0)
    }
}

/// A scene of any proportions in the model's input, and where its shapes are there.
fn letterboxed(seed: u64, side: i64, larger: bool) -> (Picture, Vec<Object>) {
    // Not the scene's own generator: proportions would follow what is on the picture.
    let mut rng = generator(!seed);
    let side = side as usize;
    let longest = if larger { rng.usize(side..=3 * side) } else { side };
    let shorter = ((rng.between(NARROWEST, 1.0) * longest as f32) as usize).max(1);
    let (width, height) = if rng.chance(0.65) { (longest, shorter) } else { (shorter, longest) };
    let scene = Scene::new(seed, width, height);
    let (picture, placement) = scene.picture.letterboxed(side);
    let place = |mut object: Object| {
        for (index, edge) in object.bounds.iter_mut().enumerate() {
            *edge = *edge * placement.scale + placement.offset[index % 2];
        }
        object
    };
    (picture, scene.objects.into_iter().map(place).collect())
}

fn truth(pictures: &[Vec<Object>]) -> Truth {
    let mut boxes = Vec::new();
    let mut classes = Vec::new();
    let mut present = Vec::new();
    for objects in pictures {
        for index in 0..MOST_OBJECTS {
            let object = objects.get(index);
            boxes.extend(object.map_or([0.0; 4], |object| object.bounds));
            classes.push(object.map_or(0, |object| object.class as i64));
            present.push(if object.is_some() { 1.0_f32 } else { 0.0 });
        }
    }
    let shape = [pictures.len() as i64, MOST_OBJECTS as i64];
    Truth {
        boxes: Tensor::from_slice(&boxes).view([shape[0], shape[1], 4]),
        classes: Tensor::from_slice(&classes).view(shape),
        present: Tensor::from_slice(&present).view(shape),
    }
}
