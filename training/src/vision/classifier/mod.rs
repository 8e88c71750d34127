//! `classifier`: says which of the five shapes a small picture shows. Owns how it is taught and measured; what it sees
//! is a scene's shape, cut out as roughly as a detector would.

mod net;

use tch::{Reduction, Tensor};

use super::{
    layers::Layers,
    lesson::{Lesson, Measured, Network, Recipe},
};
use crate::scenes::{CLASSES, Scene};
use net::{Classifier, SIDE};

/// Pictures that are measured at once.
const AT_ONCE: usize = 50;
/// How unsure it should stay: shapes cut off by a wrong box are not worth certainty.
const SMOOTHING: f64 = 0.05;

/// The lesson.
pub(crate) struct Cuttings;

impl Lesson for Cuttings {
    fn name(&self) -> &'static str {
        "classifier"
    }

    fn manifest(&self) -> &'static str {
        include_str!("model.toml")
    }

    fn recipe(&self) -> Recipe {
        Recipe { steps: 1000, batch: 32, rate: 2e-3, figure: ("accuracy", 0.95), held_out: 2000 }
    }

    fn network(&self, layers: &Layers<'_>) -> anyhow::Result<Box<dyn Network>> {
        Ok(Box::new(Classifier::new(layers)?))
    }

    fn loss(&self, network: &dyn Network, seeds: &[u64], _progress: f64) -> anyhow::Result<Tensor> {
        let (images, classes) = drawn(seeds);
        let logits = network.forward(&images, true)?;
        Ok(logits.f_cross_entropy_loss(&classes, None::<&Tensor>, Reduction::Mean, -100, SMOOTHING)?)
    }

    fn measure(&self, network: &dyn Network, seeds: &[u64]) -> anyhow::Result<Measured> {
        let mut right = [0.0; CLASSES.len()];
        let mut there = [0.0; CLASSES.len()];
        for seeds in seeds.chunks(AT_ONCE) {
            let (images, classes) = drawn(seeds);
            let said = Vec::<i64>::try_from(network.answer(&images)?.f_argmax(1, false)?)?;
            for (said, class) in said.into_iter().zip(Vec::<i64>::try_from(classes)?) {
                there[class as usize] += 1.0;
                right[class as usize] += if said == class { 1.0 } else { 0.0 };
            }
        }
        let figure = right.iter().sum::<f64>() / seeds.len().max(1) as f64;
        let of = |index: usize| (CLASSES[index].to_owned(), right[index] / f64::max(there[index], 1.0));
        Ok(Measured { figure, others: (0..CLASSES.len()).map(of).collect() })
    }

    fn example(&self, rows: i64) -> Tensor {
        let seeds: Vec<_> = (0..rows.unsigned_abs()).collect();
        drawn(&seeds).0
    }
}

fn drawn(seeds: &[u64]) -> (Tensor, Tensor) {
    let drawn: Vec<_> = seeds.iter().map(|seed| Scene::cut_out(*seed, SIDE as usize)).collect();
    let images: Vec<_> = drawn.iter().map(|(picture, _)| picture.tensor()).collect();
    let classes: Vec<_> = drawn.iter().map(|(_, class)| *class as i64).collect();
    (Tensor::stack(&images, 0), Tensor::from_slice(&classes))
}
