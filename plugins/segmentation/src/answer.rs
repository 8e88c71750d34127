//! What becomes of an image's mask: numbers and outlines, run lengths, a PNG, a picture with lines.
//!
//! Owns the answer's shape and its bounds: a mask that is noise is refused, not listed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tenon_pictures::boxes::Corners;
use tenon_pictures::palette::colour;
use tenon_pictures::picture::line_width;
use tenon_pictures::rings::{Outlines, Ring};
use tenon_pictures::runs::{Region, Runs};
use tenon_pictures::{Refused, body, rle};
use tenon_sdk::images::{Image, Pen, Point};
use tenon_sdk::{HostCall, Rejection, Request, Response};

use crate::question::{Mask, Question};

/// Stretches of rows in a mask: 16 MB while regions are sought.
const MAX_RUNS: usize = 1 << 20;
const MAX_REGIONS: usize = 20_000;
/// Numbers of a mask's run lengths.
const MAX_COUNTS: usize = 1 << 20;
/// Corners of a region that a host draws, an end for each ring included.
const MOST_CORNERS: usize = 16_384;
/// How much an outline's inside is coloured.
const TINT: f32 = 0.3;

/// The answer about one image.
#[derive(Debug)]
pub(crate) struct Answer {
    size: (u32, u32),
    seen: Seen,
    /// 255 inside of the regions.
    mask: Vec<u8>,
    rings: Vec<Vec<Ring>>,
}

#[derive(Debug, Serialize)]
struct Seen {
    width: u32,
    height: u32,
    model: String,
    count: usize,
    area: u64,
    regions: Vec<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<Told>,
}

/// One region, in pixels of the image.
#[derive(Debug, Serialize)]
struct Found {
    area: u64,
    centroid: Place,
    #[serde(rename = "box")]
    corners: Corners<u32>,
    score: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    polygon: Vec<Ring>,
}

#[derive(Debug, Serialize)]
struct Place {
    x: f64,
    y: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    Png { png: String },
    Rle { size: [u32; 2], counts: Vec<u32> },
}

impl Answer {
    /// Finds what is in a mask of the image's size.
    pub(crate) fn of(mask: Vec<u8>, size: (u32, u32), question: &Question) -> Result<Answer, Rejection> {
        let noise = |detail: String| Rejection::unprocessable("mask-too-fragmented", detail);
        let runs = Runs::find(&mask, size.0, question.least, MAX_RUNS).map_err(|runs| {
            noise(format!("the mask falls into more than {} stretches: raise `threshold`, or lower `scale`", runs.0))
        })?;
        drop(mask);
        let large = |region: &Region| region.area >= question.min_area.max(1);
        let kept: Vec<bool> = runs.regions().iter().map(large).collect();
        let count = kept.iter().filter(|kept| **kept).count();
        if count > MAX_REGIONS {
            return Err(noise(format!("the mask has {count} regions, {MAX_REGIONS} at most: raise `min_area`")));
        }
        let mut outlines = Outlines::new(&runs);
        let numbers = (0..kept.len()).filter(|region| kept[*region]);
        let rings: Vec<Vec<Ring>> = match question.outlined() {
            true => numbers.clone().map(|region| outlines.rings(region, question.tolerance)).collect(),
            false => vec![Vec::new(); count],
        };
        let regions: Vec<Found> = numbers.map(|region| Found::of(&runs.regions()[region])).collect();
        let mask = runs.mask(size.0, |region| kept[region]);
        let seen = Seen {
            width: size.0,
            height: size.1,
            model: question.model.clone(),
            count,
            area: regions.iter().map(|region| region.area).sum(),
            mask: question.told(&mask, size)?,
            regions,
        };
        Ok(Answer { size, seen, mask, rings })
    }

    /// The object that JSON has.
    pub(crate) fn into_json(self) -> Vec<u8> {
        let Answer { mut seen, rings, mask, .. } = self;
        drop(mask);
        for (region, rings) in seen.regions.iter_mut().zip(rings) {
            region.polygon = rings;
        }
        serde_json::to_vec(&seen).expect("numbers, text and lists are JSON")
    }

    /// The mask itself.
    pub(crate) fn into_png(self) -> Result<Response, Rejection> {
        let response = Response::new(200, "image/png");
        let image = body::judged(Image::from_pixels(self.size.0, self.size.1, 1, &self.mask))?;
        body::judged(image.encode("png", &response))?;
        self.noted(response)
    }

    /// The picture with an outline around each region.
    pub(crate) fn draw(self, image: &Image, (format, request): (&str, &Request)) -> Result<Response, Rejection> {
        let pen = Pen::new();
        pen.width(line_width(self.size));
        pen.fill(TINT);
        for (region, rings) in self.rings.iter().enumerate() {
            let (red, green, blue) = colour(region);
            pen.colour(red, green, blue);
            image.draw_polygon(&drawn(rings), &pen);
        }
        let response = Response::new(200, &format!("image/{format}"));
        body::judged(image.encode(format, &response))?;
        if request.header("accept").is_some() {
            response.header("vary", "accept").or_trap();
        }
        self.noted(response)
    }

    /// A picture says in brief what is in it, for programs.
    fn noted(&self, response: Response) -> Result<Response, Rejection> {
        response.header("x-count", &self.seen.count.to_string()).or_trap();
        Ok(response)
    }
}

/// A region's rings as they are drawn: of more corners than a host draws, every so many-th, and no rings that have too few.
fn drawn(rings: &[Ring]) -> Vec<Vec<Point>> {
    let corners = rings.iter().map(|ring| ring.len() + 1).sum::<usize>();
    // What is left of a ring of three steps or more is at most five thirds of its part.
    let step = if corners > MOST_CORNERS { (corners * 5).div_ceil(MOST_CORNERS * 3) } else { 1 };
    let point = |corner: &[u32; 2]| Point { x: corner[0] as f32, y: corner[1] as f32 };
    let long = rings.iter().filter(|ring| ring.len() >= 3 * step);
    long.map(|ring| ring.iter().step_by(step).map(point).collect()).collect()
}

impl Question {
    fn outlined(&self) -> bool {
        match self.wanted {
            crate::question::Wanted::Json => self.polygons,
            crate::question::Wanted::Annotated => true,
            crate::question::Wanted::Mask => false,
        }
    }

    fn told(&self, mask: &[u8], size: (u32, u32)) -> Result<Option<Told>, Rejection> {
        match self.mask {
            _ if self.wanted != crate::question::Wanted::Json => Ok(None),
            Mask::None => Ok(None),
            Mask::Png => Ok(Some(Told::Png { png: STANDARD.encode(png(mask, size)) })),
            Mask::Rle => {
                let detail = format!("the mask has more than {MAX_COUNTS} run lengths: ask for `mask=png`");
                let counts = rle::counts(mask, size.0, MAX_COUNTS);
                let counts = counts.ok_or_else(|| Rejection::unprocessable("mask-too-fragmented", detail))?;
                Ok(Some(Told::Rle { size: [size.1, size.0], counts }))
            }
        }
    }
}

impl Found {
    fn of(region: &Region) -> Self {
        // Hundredths of a pixel, and thousandths of certainty: more is noise that makes answers long.
        let rounded = |value: f64, steps: f64| (value * steps).round() / steps;
        Found {
            area: region.area,
            centroid: Place { x: rounded(region.centroid.0, 100.0), y: rounded(region.centroid.1, 100.0) },
            corners: region.corners.into(),
            score: rounded(region.score, 1000.0),
            polygon: Vec::new(),
        }
    }
}

/// A grey PNG.
fn png(mask: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(mask));
    written.expect("a mask has a byte for each pixel, and memory takes what is written");
    bytes
}

/// The error that stands in an image's place.
pub(crate) fn refused(rejection: Rejection) -> Vec<u8> {
    serde_json::to_vec(&Refused::from(rejection)).expect("numbers and text are JSON")
}

/// The answer about one image.
pub(crate) fn one(object: Vec<u8>) -> Response {
    Response::bytes(200, "application/json", &object).or_trap()
}

/// The answer about several.
pub(crate) fn list(objects: Vec<Vec<u8>>) -> Response {
    let response = Response::new(200, "application/json");
    let mut before: &[u8] = b"{\"images\":[";
    for object in objects {
        response.write(before).or_trap();
        response.write(&object).or_trap();
        before = b",";
    }
    response.write(b"]}").or_trap();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_outlines_are_drawn_with_fewer_corners() {
        let ring = |corners: usize| (0..corners as u32).map(|at| [at, at % 7]).collect::<Ring>();
        let points = |rings: &[Ring]| drawn(rings).iter().map(|ring| ring.len() + 1).sum::<usize>();
        assert_eq!(drawn(&[ring(9), ring(4)]).iter().map(Vec::len).collect::<Vec<_>>(), [9, 4]);
        for rings in [vec![ring(MOST_CORNERS)], vec![ring(1_000_000)], vec![ring(4); 9_000], vec![ring(31); 3_000]] {
            assert!(points(&rings) <= MOST_CORNERS, "{}", points(&rings));
        }
        assert!(points(&[ring(1_000_000)]) > MOST_CORNERS / 3);
    }
}
