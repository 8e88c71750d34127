//! Every kind of picture through the guest's own decoders, natively; a made-up model.

use std::path::Path;

use serde_json::Value;
use tenon_detector_guest::detection::Detector;
use tenon_detector_guest::picture::Decoded;
use tenon_sdk::native::Sent;
use tenon_sdk::{Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor};

fn picture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision/pictures");
    std::fs::read(folder.join(name)).expect("a fixture")
}

/// The model finds a star in the middle of everything.
fn invoke(path: &str, body: Vec<u8>) -> Result<Sent, Rejection> {
    let request = Request { path: path.to_owned(), ..Request::post(body) };
    let mut plugin = Detector::<Decoded>::default();
    let Step::Infer(inferences) = plugin.preprocess(&request)? else { panic!("answered without a model") };
    let rows = inferences[0].question().tensor("images").expect("the input's name").shape()[0];
    let star = Tensor::fixed(&[rows, 9, 1], &[160.0_f32, 160.0, 40.0, 40.0, 0.0, 0.0, 0.0, 0.9, 0.0]);
    let outputs = Outputs::of([("output0", star.expect("one place"))]);
    match plugin.postprocess(&request, vec![outputs])? {
        Step::Respond(response) => Ok(response.sent()),
        Step::Infer(_) => panic!("asked again"),
    }
}

#[test]
fn pictures_of_every_kind() {
    let kinds = [
        ("plain.jpg", (48, 32)),
        ("progressive.jpg", (48, 32)),
        ("cmyk.jpg", (48, 32)),
        ("grey.jpg", (48, 32)),
        ("turned.jpg", (32, 48)),
        ("plain.png", (48, 32)),
        ("palette.png", (48, 32)),
        ("transparent.png", (48, 32)),
        ("sixteen.png", (48, 32)),
        ("one.png", (1, 1)),
        ("animated.png", (48, 32)),
        ("animated.webp", (48, 32)),
        ("plain.webp", (48, 32)),
        ("lossless.webp", (48, 32)),
    ];
    for (name, (width, height)) in kinds {
        let sent = invoke("/detect", picture(name)).unwrap_or_else(|rejection| panic!("{name}: {}", rejection.detail));
        let answer: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!((&answer["width"], &answer["height"]), (&width.into(), &height.into()), "{name}");
        let found = &answer["detections"][0];
        let middle = found["box"]["x1"].as_f64().unwrap() + found["box"]["x2"].as_f64().unwrap();
        assert!((middle - f64::from(width)).abs() < 0.5, "{name}: {found}");
    }
}

#[test]
fn pictures_that_are_none() {
    let whole = picture("plain.png");
    let cases = [
        (whole[..60].to_vec(), 415, "not-an-image"),
        (picture("huge.png"), 413, "too-large"),
        (picture("animated.gif"), 415, "not-an-image"),
        (b"\xff\xd8\xff".to_vec(), 415, "not-an-image"),
        (picture("plain.webp")[..40].to_vec(), 415, "not-an-image"),
    ];
    for (body, status, code) in cases {
        let rejection = invoke("/detect", body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{}", rejection.detail);
    }
}

#[test]
fn boxes_are_drawn_and_encoded() {
    let sent = invoke("/detect/annotated", picture("plain.png")).unwrap();
    assert_eq!(sent.content_type, "image/jpeg");
    let plain = image::load_from_memory(&picture("plain.png")).unwrap().into_rgb8();
    let drawn = image::load_from_memory(&sent.body).unwrap().into_rgb8();
    assert_eq!(plain.dimensions(), drawn.dimensions());
    let apart = |x: u32, y: u32| {
        plain.get_pixel(x, y).0.iter().zip(drawn.get_pixel(x, y).0).map(|(a, b)| a.abs_diff(b)).max().unwrap()
    };
    assert!(apart(45, 30) < 40, "nothing there");
    assert!((0..48).any(|x| (0..32).any(|y| apart(x, y) > 80)), "a box somewhere");
}
