//! The detector: finds objects in an image. A sketch: no model exists yet, and no host links
//! `images`; it is here so that the contract is known to fit, and compiles against it.
//!
//! `POST` an image; the answer is `{"objects": [{"class", "score", "box": [x0, y0, x1, y1]}]}`
//! in pixels of the image, or with `?draw=jpeg` the image with the boxes drawn.
//!
//! Owns the flow: decode, letterbox, ask, map back, draw. Pixels never enter the guest. What
//! is to come: suppression of overlapping boxes, class names, thresholds from the query.
#![forbid(unsafe_code)]

mod boxes;

use serde::Serialize;
use tenon_sdk::images::{Fit, Image, Mapping, Pen};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
};

use boxes::Found;

/// The side of the square that the model sees, in pixels.
const SIDE: u32 = 640;
const MIN_SCORE: f32 = 0.25;
const UNSUPPORTED_MEDIA_TYPE: u16 = 415;

/// One invocation: the image stays decoded for drawing.
#[derive(Debug, Default)]
pub struct Detector {
    seen: Option<(Image, Mapping)>,
}

#[derive(Serialize)]
struct Answer {
    objects: Vec<Found>,
}

impl Preprocessing for Detector {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let image = Image::from_body(request, 0, request.body_size());
        let image = image.or_reject(UNSUPPORTED_MEDIA_TYPE)?;
        let (inference, mapping) = ask(&image).or_trap();
        self.seen = Some((image, mapping));
        Ok(inference.into())
    }
}

fn ask(image: &Image) -> Result<(Inference, Mapping), Failure> {
    let side = u64::from(SIDE);
    let tensor = Tensor::create("FP32", &[1, 3, side, side])?;
    let fit = Fit::new(SIDE, SIDE);
    fit.mode("letterbox")?;
    let mapping = image.into_tensor(&tensor, 0, &fit)?;
    Ok((Inference::new("detector").input("image", &tensor)?, mapping))
}

impl Postprocessing for Detector {
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let (image, mapping) = self.seen.take().expect("preprocess leaves the image");
        let rows: Vec<f32> = outputs[0].tensor("boxes").and_then(|boxes| boxes.values()).or_trap();
        let objects = boxes::read(&rows, MIN_SCORE, &mapping);
        let format = request.query().into_iter().find(|(name, _)| name == "draw");
        let response = match format {
            Some((_, format)) => draw(&image, &objects, &format).or_reject(400)?,
            None => Response::json(200, &Answer { objects }).or_trap(),
        };
        Ok(response.into())
    }
}

fn draw(image: &Image, objects: &[Found], format: &str) -> Result<Response, Failure> {
    let pen = Pen::new();
    for found in objects {
        pen.label(&format!("{} {:.2}", found.class, found.score));
        image.draw_box(found.area(), &pen);
    }
    let response = Response::new(200, &format!("image/{format}"));
    image.encode(format, &response)?;
    Ok(response)
}

tenon_sdk::export!(Detector: preprocessing, postprocessing);
