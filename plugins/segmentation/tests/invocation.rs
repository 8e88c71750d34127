//! Whole invocations, natively: pictures in memory, and a model that calls bright what is bright.

use serde_json::Value;
use tenon_sdk::images::Image;
use tenon_sdk::native::{Sent, configure};
use tenon_sdk::{Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor};
use tenon_segmentation::Segmentation;

/// A grey picture.
struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

/// Disks of this radius in a grid.
fn cells(width: u32, height: u32, radius: i64) -> Picture {
    let step = radius * 3;
    let inside = |x: u32, y: u32| {
        let middle = |place: u32| i64::from(place) % step - step / 2;
        middle(x).pow(2) + middle(y).pow(2) < radius.pow(2)
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| if inside(x, y) { 250 } else { 5 })).collect();
    Picture { width, height, pixels }
}

fn form(pictures: &[Option<&Picture>]) -> Request {
    let mut body = Vec::new();
    for picture in pictures {
        body.extend_from_slice(b"--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n");
        if let Some(Picture { width, height, pixels }) = picture {
            body.extend_from_slice(format!("P5 {width} {height} 255\n").as_bytes());
            body.extend_from_slice(pixels);
        }
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--");
    let headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    Request { headers, ..Request::post(body) }
}

fn with(mut request: Request, path: &str, query: &[(&str, &str)]) -> Request {
    request.path = path.to_owned();
    request.query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    request
}

fn stand_in_model(inference: &Inference) -> Outputs {
    let tensor = inference.question().tensor("image").expect("the input's name");
    let rows = tensor.shape()[0];
    let values = tensor.values::<f32>().expect("FP32");
    let tile = 256 * 256;
    let reds = values.chunks_exact(tile * 3).flat_map(|row| &row[..tile]);
    let sure: Vec<u8> = reds.map(|value| ((value * 0.25 + 0.5) * 255.0).round() as u8).collect();
    Outputs::of([("mask", Tensor::fixed(&[rows, 256, 256], &sure).expect("a mask for each tile"))])
}

/// The answer, how many steps it took, and how many rows.
fn invoke(request: &Request) -> Result<(Sent, usize, u64), Rejection> {
    let mut plugin = Segmentation::default();
    let (mut steps, mut rows) = (0, 0);
    let mut step = plugin.preprocess(request)?;
    loop {
        match step {
            Step::Respond(response) => return Ok((response.sent(), steps, rows)),
            Step::Infer(inferences) => {
                steps += 1;
                let here = |inference: &Inference| inference.question().tensor("image").expect("an input").shape()[0];
                let asked = inferences.iter().map(here).sum::<u64>();
                assert!((1..=64).contains(&asked), "{asked} rows in a step");
                rows += asked;
                step = plugin.postprocess(request, inferences.iter().map(stand_in_model).collect())?;
            }
        }
    }
}

fn json(request: &Request) -> Value {
    serde_json::from_slice(&invoke(request).expect("an answer").0.body).expect("JSON")
}

/// How many pixels are on the same side of the threshold, of those that are inside on one of them.
fn agreement(mask: &[u8], picture: &Picture) -> f64 {
    let pairs = || mask.iter().zip(&picture.pixels).map(|(mask, pixel)| (*mask != 0, *pixel > 127));
    pairs().filter(|(a, b)| *a && *b).count() as f64 / pairs().filter(|(a, b)| *a || *b).count() as f64
}

/// The mask of run lengths down the columns.
fn from_counts(answer: &Value) -> Vec<u8> {
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let (height, width) = (number(&answer["mask"]["size"][0]), number(&answer["mask"]["size"][1]));
    let mut mask = vec![0; width * height];
    let counts = answer["mask"]["counts"].as_array().expect("run lengths").iter().enumerate();
    let pixels = counts.flat_map(|(turn, count)| vec![turn % 2 == 1; number(count)]);
    for (place, _) in pixels.enumerate().filter(|(_, inside)| *inside) {
        mask[place % height * width + place / height] = 255;
    }
    mask
}

#[test]
fn a_tile_is_one_row() {
    let picture = cells(256, 256, 20);
    let request = with(form(&[Some(&picture)]), "/segment", &[("mask", "rle")]);
    let (_, steps, rows) = invoke(&request).unwrap();
    assert_eq!((steps, rows), (1, 1));
    let answer = json(&request);
    assert_eq!((answer["width"].as_u64(), answer["count"].as_u64()), (Some(256), Some(24)), "whole ones, and cut ones");
    assert_eq!(answer["model"], "unet");
    let regions = answer["regions"].as_array().unwrap();
    let areas = regions.iter().map(|region| region["area"].as_u64().unwrap());
    assert_eq!(answer["area"].as_u64().unwrap(), areas.sum::<u64>());
    assert_eq!(agreement(&from_counts(&answer), &picture), 1.0);
    let first = &regions[0];
    assert!((first["centroid"]["x"].as_f64().unwrap() - 30.5).abs() < 1.0, "{first}");
    assert!(first["score"].as_f64().unwrap() > 0.95);
    assert_eq!(first["polygon"].as_array().unwrap().len(), 1);
}

#[test]
fn large_images_are_tiled_without_seams() {
    let picture = cells(1700, 1500, 30);
    let request = with(form(&[Some(&picture)]), "", &[("mask", "rle"), ("polygons", "false")]);
    let (_, steps, rows) = invoke(&request).unwrap();
    assert_eq!((steps, rows), (2, 9 * 8));
    let answer = json(&request);
    assert_eq!(agreement(&from_counts(&answer), &picture), 1.0);
    assert!(answer["regions"][0].get("polygon").is_none());
}

#[test]
fn small_images_are_enlarged_and_come_back_in_their_own_pixels() {
    let picture = cells(90, 60, 10);
    let answer = json(&with(form(&[Some(&picture)]), "", &[("mask", "rle")]));
    assert_eq!(answer["count"], 6);
    assert!(agreement(&from_counts(&answer), &picture) > 0.9);
    let tiny = Picture { width: 1, height: 1, pixels: vec![255] };
    let answer = json(&with(form(&[Some(&tiny)]), "", &[("min_area", "1")]));
    assert_eq!((&answer["count"], &answer["area"]), (&1.into(), &1.into()));
}

#[test]
fn several_images_share_steps_and_keep_their_places() {
    let (one, large, small) = (cells(256, 256, 20), cells(1700, 1500, 30), cells(100, 100, 9));
    let request = with(form(&[Some(&one), None, Some(&large), None, Some(&small)]), "", &[("polygons", "false")]);
    let (_, steps, rows) = invoke(&request).unwrap();
    assert_eq!((steps, rows), (2, 1 + 72 + 1));
    let answer = json(&request);
    let sizes: Vec<Option<u64>> =
        answer["images"].as_array().unwrap().iter().map(|one| one["width"].as_u64()).collect();
    assert_eq!(sizes, [Some(256), None, Some(1700), None, Some(100)]);
    assert_eq!(answer["images"][3]["error"]["code"], "not-an-image");
    let none = json(&form(&[None, None]));
    assert_eq!(none["images"].as_array().unwrap().len(), 2);
}

#[test]
fn the_mask_and_the_picture_themselves() {
    let picture = cells(300, 200, 20);
    let mask = invoke(&with(form(&[Some(&picture)]), "/mask", &[])).unwrap().0;
    assert_eq!(mask.content_type, "image/png");
    let mask = Image::from_bytes(&mask.body).unwrap();
    assert_eq!((mask.width(), mask.height()), (300, 200));
    assert_eq!(agreement(mask.pixels(), &picture), 1.0);
    let (sent, ..) = invoke(&with(form(&[Some(&picture)]), "/annotated", &[("format", "png")])).unwrap();
    assert_eq!(sent.content_type, "image/png");
    assert!(sent.headers.iter().any(|(name, _)| name == "x-count"));
    let two = with(form(&[Some(&picture), Some(&picture)]), "/mask", &[]);
    assert_eq!(invoke(&two).unwrap_err().code, "several-images");
}

#[test]
fn a_mask_in_json_is_a_png() {
    use base64::Engine as _;
    let picture = cells(300, 200, 20);
    let answer = json(&with(form(&[Some(&picture)]), "", &[("mask", "png")]));
    let bytes = base64::engine::general_purpose::STANDARD.decode(answer["mask"]["png"].as_str().unwrap()).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut mask = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut mask).unwrap();
    assert_eq!(agreement(&mask, &picture), 1.0);
}

#[test]
fn bounds_are_told() {
    configure(&[("max_tiles", "3")]);
    let (small, large) = (cells(256, 256, 20), cells(800, 800, 20));
    let rejection = invoke(&form(&[Some(&large)])).unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (413, "too-many-tiles"));
    let answer = json(&form(&[Some(&small), Some(&large), Some(&small)]));
    assert_eq!(answer["images"][1]["error"]["status"], 413);
    assert!(answer["images"][2]["count"].is_u64(), "the others are answered");
    assert_eq!(invoke(&with(form(&[Some(&small)]), "", &[("scale", "8")])).unwrap_err().status, 413);
}
