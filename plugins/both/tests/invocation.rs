//! A whole invocation, natively: a picture in memory and two models that see different halves.

use serde_json::Value;
use tenon_both::Both;
use tenon_sdk::{Outputs, Postprocessing, Preprocessing, Request, Step, Tensor};

fn picture(width: usize, height: usize) -> Request {
    let mut body = format!("--b\r\ncontent-type: image/x\r\n\r\nP5 {width} {height} 255\n").into_bytes();
    body.resize(body.len() + width * height, 128);
    body.extend_from_slice(b"\r\n--b--");
    let headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    Request { headers, ..Request::post(body) }
}

fn sees(rows: usize, sure: impl Fn(usize) -> u8) -> Outputs {
    let mask: Vec<u8> = (0..rows * 256 * 256).map(|pixel| sure(pixel % 256)).collect();
    Outputs::of([("mask", Tensor::fixed(&[rows as u64, 256, 256], &mask).expect("a mask for each tile"))])
}

fn ask(request: &Request, outputs: [Outputs; 2]) -> Value {
    let mut plugin = Both::default();
    let Ok(Step::Infer(inferences)) = plugin.preprocess(request) else { panic!("no inference") };
    let models: Vec<&str> = inferences.iter().map(|inference| inference.question().model()).collect();
    assert_eq!(models, ["first", "second"]);
    let Ok(Step::Respond(response)) = plugin.postprocess(request, outputs.into()) else { panic!("no answer") };
    serde_json::from_slice(&response.sent().body).expect("JSON")
}

#[test]
fn agreement_is_what_both_see_of_what_either_sees() {
    let left = sees(1, |x| if x < 128 { 255 } else { 0 });
    let more = sees(1, |x| if x < 192 { 200 } else { 0 });
    let answer = ask(&picture(256, 256), [left, more]);
    assert!((answer["agreement"].as_f64().unwrap() - 128.0 / 192.0).abs() < 1e-9);
    assert_eq!(answer["models"]["first"]["area"], 128 * 256);
    assert_eq!(answer["models"]["second"]["area"], 192 * 256);
    assert_eq!((&answer["mean"]["count"], &answer["mean"]["area"]), (&1.into(), &(128 * 256).into()));
    assert_eq!(ask(&picture(256, 256), [sees(1, |_| 0), sees(1, |_| 0)])["agreement"], 1.0);
}

#[test]
fn both_read_the_same_rows() {
    let request = picture(448, 256);
    let mut plugin = Both::default();
    let Ok(Step::Infer(inferences)) = plugin.preprocess(&request) else { panic!("no inference") };
    for inference in &inferences {
        let tensor = inference.question().tensor("image").unwrap();
        assert_eq!(tensor.shape(), [2, 3, 256, 256]);
        assert!((tensor.values::<f32>().unwrap()[0] - (128.0 / 255.0 - 0.5) / 0.25).abs() < 1e-6);
    }
    let refused = Both::default().preprocess(&picture(2048, 2048)).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (413, "too-many-tiles"));
}
