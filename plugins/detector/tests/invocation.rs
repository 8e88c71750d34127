//! Whole invocations, natively: pictures in memory, a made-up model.

use serde_json::{Value, json};
use tenon_detector::detection::Detector;
use tenon_sdk::images::Image;
use tenon_sdk::native::Sent;
use tenon_sdk::{Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor};

const PPM: &str = "application/octet-stream";

/// A form with a picture of each of these sizes; of none, what is no picture.
fn form(sizes: &[Option<(u32, u32)>]) -> Request {
    let mut body = Vec::new();
    for size in sizes {
        body.extend_from_slice(
            format!(
                "--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"x\"\r\ncontent-type: {PPM}\r\n\r\n"
            )
            .as_bytes(),
        );
        match size {
            Some((width, height)) => {
                body.extend_from_slice(format!("P6 {width} {height} 255\n").as_bytes());
                body.resize(body.len() + (width * height * 3) as usize, 7);
            }
            None => body.extend_from_slice(b"GIF89a"),
        }
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--");
    let headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    Request { headers, path: "/detect".to_owned(), ..Request::post(body) }
}

fn with(mut request: Request, path: &str, query: &[(&str, &str)]) -> Request {
    request.path = path.to_owned();
    request.query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    request
}

/// In each row a box in the middle, eighty pixels wide and forty high, and another that overlaps it; `odd` says what a row's
/// surest is.
fn stand_in_model(inference: &Inference, odd: impl Fn(usize) -> f32) -> Outputs {
    let shape = inference.question().tensor("images").expect("the input's name").shape();
    assert_eq!(shape[1..], [3, 320, 320]);
    let rows = (0..shape[0] as usize).flat_map(|row| {
        let mut numbers = [0.0_f32; 9 * 2];
        for (line, values) in [(0, [160.0, 162.0]), (1, [160.0, 160.0]), (2, [80.0, 80.0]), (3, [40.0, 40.0])] {
            numbers[line * 2..][..2].copy_from_slice(&values);
        }
        numbers[(4 + 3) * 2..][..2].copy_from_slice(&[odd(row), 0.5]);
        numbers
    });
    let numbers: Vec<f32> = rows.collect();
    Outputs::of([("output0", Tensor::fixed(&[shape[0], 9, 2], &numbers).expect("nine lines of two"))])
}

fn invoke(request: &Request, odd: impl Fn(usize) -> f32) -> Result<Sent, Rejection> {
    let mut plugin = Detector::<Image>::default();
    let step = match plugin.preprocess(request)? {
        Step::Infer(inferences) => plugin.postprocess(request, vec![stand_in_model(&inferences[0], odd)])?,
        step => step,
    };
    let Step::Respond(response) = step else { panic!("asked again") };
    Ok(response.sent())
}

fn answer(request: &Request) -> Value {
    serde_json::from_slice(&invoke(request, |_| 0.75).expect("an answer").body).expect("JSON")
}

#[test]
fn one_image_is_one_object() {
    let answer = answer(&form(&[Some((640, 320))]));
    let wanted = json!({"width": 640, "height": 320, "detections": [{
        "class": "star", "class_id": 3, "confidence": 0.75,
        "box": {"x1": 240.0, "y1": 120.0, "x2": 400.0, "y2": 200.0},
    }]});
    assert_eq!(answer, wanted);
}

#[test]
fn several_are_a_list_with_errors_in_their_places() {
    let answer = answer(&form(&[Some((320, 320)), None, Some((160, 80))]));
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!((&images[0]["width"], &images[2]["width"]), (&json!(320), &json!(160)));
    assert_eq!(images[1]["error"]["code"], "not-an-image");
    assert_eq!(images[2]["detections"][0]["box"], json!({"x1": 60.0, "y1": 30.0, "x2": 100.0, "y2": 50.0}));
}

#[test]
fn rows_are_those_that_can_be_read() {
    let mut plugin = Detector::<Image>::default();
    let Ok(Step::Infer(inferences)) = plugin.preprocess(&form(&[None, Some((4, 4)), None])) else {
        panic!("no inference")
    };
    let tensor = inferences[0].question().tensor("images").unwrap();
    assert_eq!(tensor.shape(), [1, 3, 320, 320]);
    assert!(tensor.values::<f32>().unwrap().iter().all(|value| (value - 7.0 / 255.0).abs() < 1e-6));
    let none = answer(&form(&[None, None]));
    assert_eq!(none["images"][1]["error"]["status"], 415);
}

#[test]
fn one_that_cannot_be_read_is_refused() {
    assert_eq!(invoke(&form(&[None]), |_| 0.75).unwrap_err().status, 415);
}

#[test]
fn thresholds_and_classes_are_the_callers() {
    let count = |query: &[(&str, &str)]| {
        answer(&with(form(&[Some((320, 320))]), "/detect", query))["detections"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[("iou", "0.99")]), 2);
    assert_eq!(count(&[("iou", "0.99"), ("max_detections", "1")]), 1);
    assert_eq!(count(&[("confidence", "0.8")]), 0);
    assert_eq!(count(&[("classes", "circle,square")]), 0);
    assert_eq!(count(&[("classes", "star")]), 1);
}

#[test]
fn what_is_no_number_is_told_and_hurts_no_other_image() {
    for odd in [f32::NAN, f32::INFINITY] {
        let rejection = invoke(&form(&[Some((4, 4))]), |_| odd).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (502, "model-not-finite"));
    }
    let sent = invoke(&form(&[Some((4, 4)), Some((4, 4))]), |row| if row == 0 { f32::NAN } else { 0.75 }).unwrap();
    let answer: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(answer["images"][0]["error"]["code"], "model-not-finite");
    assert_eq!(answer["images"][1]["detections"].as_array().unwrap().len(), 1);
}

#[test]
fn the_picture_itself() {
    let sent = invoke(&with(form(&[Some((320, 200))]), "/detect/annotated", &[("format", "png")]), |_| 0.75).unwrap();
    assert_eq!(sent.content_type, "image/png");
    assert!(sent.body.starts_with(b"P6 320 200 255\n"));
    assert_eq!(sent.headers, [("x-detections".to_owned(), "1".to_owned())]);
    let two = form(&[Some((4, 4)), Some((8, 8))]);
    assert_eq!(invoke(&with(two.clone(), "/annotated", &[]), |_| 0.75).unwrap_err().code, "several-images");
    let second = invoke(&with(two, "/annotated", &[("index", "1")]), |_| 0.75).unwrap();
    assert!(second.body.starts_with(b"P6 8 8 255\n"));
}
