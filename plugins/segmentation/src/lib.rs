//! Segmentation: outlines objects in large images. A sketch: no models exist yet, and no host
//! links `images`; it is here so that the contract is known to fit, and compiles against it.
//!
//! `POST` an image; it is cut into overlapping tiles, all of them rows of one tensor and one
//! decoding. Two models are asked at once: what is in a tile, and its outline. The answer is
//! `{"regions": [{"tile", "class", "polygon": [[x, y], …]}]}` in pixels of the image.
//!
//! Owns the flow. What is to come: outlines joined across the edges of tiles, `?draw=png`.
#![forbid(unsafe_code)]

mod tiles;

use serde::Serialize;
use tenon_sdk::images::{Fit, Image, Mapping};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Rows, Step,
    Tensor,
};

/// The side of a tile in pixels, in the image as in the tensor.
const SIDE: u32 = 512;
const OVERLAP: u32 = 64;
const MAX_TILES: usize = 256;
const UNSUPPORTED_MEDIA_TYPE: u16 = 415;

/// One invocation: where each tile lies in the image.
#[derive(Debug, Default)]
pub struct Segmentation {
    mappings: Vec<Mapping>,
}

#[derive(Serialize)]
struct Answer {
    regions: Vec<Region>,
}

#[derive(Serialize)]
struct Region {
    tile: usize,
    class: i64,
    polygon: Vec<[f32; 2]>,
}

impl Preprocessing for Segmentation {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let image = Image::from_body(request, 0, request.body_size());
        let image = image.or_reject(UNSUPPORTED_MEDIA_TYPE)?;
        let count = tiles::count(image.width(), image.height());
        if count > MAX_TILES {
            let detail = format!("{count} tiles of {SIDE} pixels, {MAX_TILES} at most");
            return Err(Rejection::new(413, "image-too-large", detail));
        }
        let tensor = self.cut(&image, count as u64).or_trap();
        Ok(ask(&tensor).or_trap().into())
    }
}

impl Segmentation {
    fn cut(&mut self, image: &Image, count: u64) -> Result<Tensor, Failure> {
        let side = u64::from(SIDE);
        let tensor = Tensor::create("FP32", &[count, 3, side, side])?;
        for (row, area) in (0..).zip(tiles::areas(image.width(), image.height())) {
            let fit = Fit::new(SIDE, SIDE);
            fit.crop(area);
            self.mappings.push(image.into_tensor(&tensor, row, &fit)?);
        }
        Ok(tensor)
    }
}

/// Both models at once, on one tensor.
fn ask(tensor: &Tensor) -> Result<Vec<Inference>, Failure> {
    Ok(vec![Inference::new("classes").input("image", tensor)?, Inference::new("outlines").input("image", tensor)?])
}

impl Postprocessing for Segmentation {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let [classes, outlines] = outputs.as_slice() else {
            panic!("two inferences were asked and {} came back", outputs.len());
        };
        let classes = classes.tensor("class").and_then(|class| class.values::<i64>()).or_trap();
        let outlines = outlines.tensor("points").and_then(|points| points.rows()).or_trap();
        let answer = Answer { regions: self.regions(&classes, &outlines) };
        Ok(Response::json(200, &answer).or_trap().into())
    }
}

impl Segmentation {
    fn regions(&self, classes: &[i64], outlines: &Rows<f32>) -> Vec<Region> {
        let tiles = self.mappings.iter().zip(classes).zip(outlines.iter()).enumerate();
        let region = |(tile, ((mapping, class), points)): (usize, ((&Mapping, &i64), &[f32]))| Region {
            tile,
            class: *class,
            polygon: tiles::back(points, mapping),
        };
        tiles.map(region).collect()
    }
}

tenon_sdk::export!(Segmentation: preprocessing, postprocessing);
