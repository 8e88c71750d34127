//! Both: asks two models at once about the same tensor, and says where they agree.
//!
//! `POST` an image of cells; the answer is `{"width", "height", "agreement", "mean": {"count", "area"}, "models": {name:
//! {"count", "area"}, …}}`. `agreement` is the intersection of the two masks over their union, 1 where both are empty;
//! `mean` is what the mean of both masks says, which is the surer of the two where they differ.
//!
//! Owns one step with two inferences that share a tensor: the tiles are written once, sealed, and read by both. An
//! example of how a function puts models together.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;
use tenon_pictures::canvas::Canvas;
use tenon_pictures::runs::{Runs, TooManyRuns};
use tenon_pictures::tiles::{Plan, SIDE, fitting_scale};
use tenon_pictures::{Limits, Query, body};
use tenon_sdk::images::{Fit, Image};
use tenon_sdk::{
    HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor, setting,
};

/// The plugin's names for the models: the keys under `[models]` in `function.toml`.
const MODELS: [&str; 2] = ["first", "second"];
/// Stretches of rows in a mask.
const MAX_RUNS: usize = 1 << 20;
const PAYLOAD_TOO_LARGE: u16 = 413;
/// Pixels are normalised as the models were trained.
const MEAN: f32 = 0.5;
const DEVIATION: f32 = 0.25;

/// One invocation.
#[derive(Debug, Default)]
pub struct Both {
    /// Left by `preprocess`: where tiles belong, and from which value on a pixel is inside.
    asked: Option<(Plan, u8)>,
}

#[derive(Serialize)]
struct Answer {
    width: u32,
    height: u32,
    agreement: f64,
    mean: Seen,
    models: BTreeMap<String, Seen>,
}

#[derive(Serialize)]
struct Seen {
    count: usize,
    area: u64,
}

impl Preprocessing for Both {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let query = Query::read(request, &["threshold"])?;
        let threshold = query.number("threshold", 0.5_f32, 0.0..=1.0)?;
        let sent = body::read(request, Limits { images: 1 })?;
        let image: Image = sent.open(request, 0)?;
        let size = (image.width(), image.height());
        let most = setting("max_tiles", 64);
        let plan = Plan::new(size, fitting_scale(size), setting("overlap", 64), most).map_err(|tiles| {
            let detail = format!("an image of {} x {} pixels has {tiles} tiles, {most} at most", size.0, size.1);
            Rejection::new(PAYLOAD_TOO_LARGE, "too-many-tiles", detail)
        })?;
        let tensor = tiles(&image, &plan)?;
        self.asked = Some((plan, (threshold * 255.0).ceil().clamp(1.0, 255.0) as u8));
        let ask = |model: &str| Inference::new(model).input("image", &tensor).or_trap();
        Ok(MODELS.map(ask).into_iter().collect::<Vec<Inference>>().into())
    }
}

fn tiles(image: &Image, plan: &Plan) -> Result<Tensor, Rejection> {
    let (rows, side) = (plan.tiles(), u64::from(SIDE));
    let tensor = body::judged(Tensor::create("FP32", &[rows as u64, 3, side, side]))?;
    for row in 0..rows {
        let fit = Fit::part(plan.area(row), SIDE, SIDE);
        fit.normalise((MEAN, MEAN, MEAN), (DEVIATION, DEVIATION, DEVIATION));
        body::judged(image.into_tensor(&tensor, row as u64, &fit))?;
    }
    Ok(tensor)
}

impl Postprocessing for Both {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let (plan, least) = self.asked.take().expect("preprocess leaves the plan");
        let (width, height) = plan.size;
        let [first, second] = outputs.as_slice() else {
            panic!("two inferences were asked and {} came back", outputs.len());
        };
        let masks = [first, second].map(|outputs| mask(outputs, plan.clone()));
        let pairs = || masks[0].iter().zip(&masks[1]);
        let inside = |pair: &(&u8, &u8), both: bool| {
            let (first, second) = (*pair.0 >= least, *pair.1 >= least);
            if both { first && second } else { first || second }
        };
        let any = pairs().filter(|pair| inside(pair, false)).count();
        let all = pairs().filter(|pair| inside(pair, true)).count();
        let mean: Vec<u8> = pairs().map(|(a, b)| a.midpoint(*b)).collect();
        let names = setting("names", MODELS.join(","));
        let mut models = BTreeMap::new();
        for (name, mask) in names.split(',').zip(&masks) {
            models.insert(name.trim().to_owned(), seen(mask, width, least)?);
        }
        let agreement = if any == 0 { 1.0 } else { all as f64 / any as f64 };
        let answer = Answer { width, height, agreement, mean: seen(&mean, width, least)?, models };
        Ok(Response::json(200, &answer).or_trap().into())
    }
}

/// The mask of the whole image, of one model.
fn mask(outputs: &Outputs, plan: Plan) -> Vec<u8> {
    let masks = outputs.tensor("mask").or_trap();
    let (tiles, tile_bytes) = (plan.tiles() as u64, u64::from(SIDE) * u64::from(SIDE));
    assert_eq!((masks.datatype().as_str(), masks.size()), ("UINT8", tiles * tile_bytes), "masks of tiles");
    let mut canvas = Canvas::new(plan);
    for tile in 0..tiles {
        canvas.add(&masks.read(tile * tile_bytes, tile_bytes).or_trap());
    }
    canvas.into_mask()
}

fn seen(mask: &[u8], width: u32, least: u8) -> Result<Seen, Rejection> {
    let min_area = setting("min_area", 16_u64);
    let runs = Runs::find(mask, width, least, MAX_RUNS).map_err(|TooManyRuns(most)| {
        let detail = format!("a mask falls into more than {most} stretches: raise `threshold`");
        Rejection::unprocessable("mask-too-fragmented", detail)
    })?;
    let areas = runs.regions().iter().map(|region| region.area).filter(|area| *area >= min_area);
    Ok(Seen { count: areas.clone().count(), area: areas.sum() })
}

tenon_sdk::export!(Both: preprocessing, postprocessing);
