//! A pipeline: finds objects, then asks a second model what each of them is.
//!
//! `POST` an image; the answer is `{"width", "height", "objects": [{"box", "detected": {"class", "confidence"},
//! "classified": {"class", "confidence"}, "agreed"}]}`, the surest first.
//!
//! Owns two rounds of `step`: `preprocess` asks the detector; the first `postprocess` cuts all objects out of the image,
//! which the host has kept decoded, as rows of one tensor for the classifier; the second one answers. Nothing found is
//! an answer after the first round. An example of how a function puts models together: no pixel enters the guest.
#![forbid(unsafe_code)]

mod answer;

use tenon_pictures::boxes::{Found, Layout, Reading, Unreadable};
use tenon_pictures::overlap::suppress;
use tenon_pictures::{Limits, Picture, Query, body};
use tenon_sdk::images::{Area, Fit, Image, Mapping};
use tenon_sdk::{
    HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor, setting,
};

use answer::{Answer, Opinion};

const OVERLAP: f32 = 0.45;
const MAX_CANDIDATES: usize = 10_000;
const BAD_GATEWAY: u16 = 502;

/// One invocation: what the last round left for the next.
#[derive(Debug, Default)]
pub enum Pipeline {
    /// Nothing was asked yet.
    #[default]
    Begun,
    /// The detector was asked.
    Detecting {
        /// Decoded once, cropped as often as there are objects.
        image: Image,
        /// From the detector's square back to the image.
        mapping: Mapping,
        /// What the caller wants at least.
        confidence: f32,
    },
    /// The classifier was asked about these.
    Classifying {
        /// Width and height of the image.
        size: (u32, u32),
        /// In pixels of the image.
        found: Vec<Found>,
    },
}

impl Preprocessing for Pipeline {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let query = Query::read(request, &["confidence", "index"])?;
        let confidence = query.number("confidence", setting("confidence", 0.25), 0.0..=1.0)?;
        let sent = body::read(request, Limits { images: 1 + query.index()?.unwrap_or(0) })?;
        let image: Image = sent.open(request, sent.only(query.index()?)?)?;
        let side: u32 = setting("size", 320);
        let tensor = body::judged(Tensor::create("FP32", &[1, 3, side.into(), side.into()]))?;
        let mapping = body::judged(image.letterbox(&tensor, 0, side))?;
        *self = Pipeline::Detecting { image, mapping, confidence };
        Ok(Inference::new("detector").input("images", &tensor).or_trap().into())
    }
}

impl Postprocessing for Pipeline {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let outputs = outputs.first().expect("one inference was asked, so one output came");
        match std::mem::take(self) {
            Pipeline::Begun => panic!("an answer to a question that nobody asked"),
            Pipeline::Detecting { image, mapping, confidence } => {
                let found = found(outputs, confidence)?;
                let size = image.size();
                let found: Vec<Found> = found.into_iter().filter_map(|found| found.placed(&mapping, size)).collect();
                if found.is_empty() {
                    return Ok(respond(&Answer::new(size, &found, &[], &names())));
                }
                let crops = crops(&image, &found)?;
                *self = Pipeline::Classifying { size, found };
                Ok(Inference::new("classifier").input("images", &crops).or_trap().into())
            }
            Pipeline::Classifying { size, found } => {
                let scores = outputs.tensor("scores").and_then(|scores| scores.rows::<f32>()).or_trap();
                let opinions: Option<Vec<Opinion>> = scores.iter().map(Opinion::of).collect();
                let opinions = opinions.ok_or_else(|| not_finite("classifier"))?;
                Ok(respond(&Answer::new(size, &found, &opinions, &names())))
            }
        }
    }
}

/// Where objects are, in the detector's square.
fn found(outputs: &Outputs, confidence: f32) -> Result<Vec<Found>, Rejection> {
    let row = outputs.tensor("output0").and_then(|output| output.values::<f32>()).or_trap();
    let reading = Reading {
        layout: Layout::YoloV8,
        classes: names().len(),
        least: confidence,
        only: None,
        candidates: MAX_CANDIDATES,
    };
    match reading.read(&row) {
        Ok(found) => Ok(suppress(found, OVERLAP, setting("max_objects", 100))),
        Err(Unreadable::NotFinite) => Err(not_finite("detector")),
        Err(Unreadable::WrongLength) => panic!("a row of {} numbers: see [config] classes", row.len()),
    }
}

/// Each object as a row: its box with a margin, stretched to a square, as the classifier was trained.
fn crops(image: &Image, found: &[Found]) -> Result<Tensor, Rejection> {
    let (side, margin) = (setting("crop", 64), setting("margin", 0.06_f32));
    let tensor = body::judged(Tensor::create("FP32", &[found.len() as u64, 3, u64::from(side), u64::from(side)]))?;
    for (row, found) in (0..).zip(found) {
        let fit = Fit::part(around(&found.corners, margin, image.size()), side, side);
        body::judged(image.into_tensor(&tensor, row, &fit))?;
    }
    Ok(tensor)
}

/// A box with a margin, cut at the image's edges.
fn around([x1, y1, x2, y2]: &[f32; 4], margin: f32, (width, height): (u32, u32)) -> Area {
    let (across, down) = ((x2 - x1) * margin, (y2 - y1) * margin);
    Area::new(
        (x1 - across).max(0.0),
        (y1 - down).max(0.0),
        (x2 + across).min(width as f32),
        (y2 + down).min(height as f32),
    )
}

fn names() -> Vec<String> {
    let names = setting("classes", "circle,square,triangle,star,cross".to_owned());
    names.split(',').map(|name| name.trim().to_owned()).collect()
}

fn not_finite(model: &str) -> Rejection {
    Rejection::new(BAD_GATEWAY, "model-not-finite", format!("the {model}'s answer is not a finite number"))
}

fn respond(answer: &Answer) -> Step {
    Response::json(200, answer).or_trap().into()
}

tenon_sdk::export!(Pipeline: preprocessing, postprocessing);
