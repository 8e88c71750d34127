//! Both rounds, natively: a picture in memory and made-up models.

use serde_json::{Value, json};
use tenon_pipeline::Pipeline;
use tenon_sdk::{Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor};

/// A picture of 320 x 160 whose right half is bright.
fn picture() -> Request {
    let mut body = b"--b\r\ncontent-type: image/x\r\n\r\nP5 320 160 255\n".to_vec();
    body.extend((0..160 * 320).map(|pixel| if pixel % 320 < 160 { 0 } else { 255 }));
    body.extend_from_slice(b"\r\n--b--");
    let headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    Request { headers, ..Request::post(body) }
}

/// Boxes of forty pixels in the detector's square, left and right, of the first class.
fn detector(places: &[(f32, f32)]) -> Outputs {
    let mut numbers = vec![0.0; 9 * places.len()];
    for (index, (x, confidence)) in places.iter().enumerate() {
        for (line, value) in [(0, *x), (1, 160.0), (2, 40.0), (3, 40.0), (4, *confidence)] {
            numbers[line * places.len() + index] = value;
        }
    }
    Outputs::of([("output0", Tensor::fixed(&[1, 9, places.len() as u64], &numbers).expect("nine lines"))])
}

/// What is bright is a circle, what is dark a star.
fn classifier(inference: &Inference) -> Outputs {
    let crops = inference.question().tensor("images").expect("the input's name");
    assert_eq!(crops.shape()[1..], [3, 64, 64]);
    let bright = crops.rows::<f32>().expect("FP32");
    let scores: Vec<f32> = bright
        .iter()
        .flat_map(|row| {
            let bright = row[64 * 32 + 32];
            [bright, 0.0, 0.0, 1.0 - bright, 0.0]
        })
        .collect();
    Outputs::of([("scores", Tensor::fixed(&[crops.shape()[0], 5], &scores).expect("five scores each"))])
}

fn asked(step: Step, model: &str) -> Inference {
    let Step::Infer(mut inferences) = step else { panic!("answered already") };
    let inference = inferences.pop().expect("one inference");
    assert_eq!(inference.question().model(), model);
    inference
}

fn answer(step: Step) -> Value {
    let Step::Respond(response) = step else { panic!("asked again") };
    serde_json::from_slice(&response.sent().body).expect("JSON")
}

fn first_round(plugin: &mut Pipeline, places: &[(f32, f32)]) -> Result<Step, Rejection> {
    asked(plugin.preprocess(&picture())?, "detector");
    plugin.postprocess(&picture(), vec![detector(places)])
}

#[test]
fn two_rounds_and_an_answer() {
    let mut plugin = Pipeline::default();
    let step = first_round(&mut plugin, &[(80.0, 0.5), (240.0, 0.9), (241.0, 0.8)]).unwrap();
    let classified = classifier(&asked(step, "classifier"));
    let answer = answer(plugin.postprocess(&picture(), vec![classified]).unwrap());
    assert_eq!((&answer["width"], &answer["height"]), (&json!(320), &json!(160)));
    let objects = answer["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "one of two that overlap");
    assert_eq!(objects[0]["box"], json!({"x1": 220.0, "y1": 60.0, "x2": 260.0, "y2": 100.0}));
    assert_eq!((&objects[0]["classified"]["class"], &objects[0]["agreed"]), (&json!("circle"), &json!(true)));
    assert_eq!((&objects[1]["classified"]["class"], &objects[1]["agreed"]), (&json!("star"), &json!(false)));
}

#[test]
fn nothing_found_is_an_answer_after_one_round() {
    let answer = answer(first_round(&mut Pipeline::default(), &[(80.0, 0.1)]).unwrap());
    assert_eq!(answer["objects"], json!([]));
}

#[test]
fn what_is_no_number_is_told() {
    let nan = first_round(&mut Pipeline::default(), &[(80.0, f32::NAN)]).unwrap_err();
    assert_eq!((nan.status, nan.code.as_str()), (502, "model-not-finite"));
    let mut plugin = Pipeline::default();
    asked(first_round(&mut plugin, &[(80.0, 0.9)]).unwrap(), "classifier");
    let scores = Tensor::fixed(&[1, 5], &[f32::NAN; 5]).unwrap();
    let nan = plugin.postprocess(&picture(), vec![Outputs::of([("scores", scores)])]).unwrap_err();
    assert_eq!(nan.code, "model-not-finite");
}

#[test]
fn wrong_requests_are_refused() {
    let refused = |request: &Request| Pipeline::default().preprocess(request).unwrap_err().code;
    assert_eq!(refused(&Request::post("")), "empty-body");
    let query = vec![("confidence".to_owned(), "7".to_owned())];
    assert_eq!(refused(&Request { query, ..picture() }), "invalid-parameter");
    let two = format!(r#"{{"images": ["{0}", "{0}"]}}"#, "AAAA");
    assert_eq!(refused(&Request::post(two)), "too-many-images");
}
