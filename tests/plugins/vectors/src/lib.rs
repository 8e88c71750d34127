//! Texts in, unit vectors out: `POST {"texts": ["…"], "mean"?: bool}` is answered with `{"vectors": [[…]], "tokens"}`.
//!
//! Owns nothing of its own: it is what `plugins/python` and `plugins/javascript` do, in Rust, so that their answers and
//! times have something to be held against.
#![forbid(unsafe_code)]

use serde_json::json;
use tenon_sdk::json::{self, Place};
use tenon_sdk::text::{Encoding, Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, setting,
};

/// The plugin's name for the model.
const ENCODER: &str = "encoder";
const DEFAULT_MOST_TEXTS: usize = 64;
const DECIMALS: f64 = 1e6;

/// Left by `preprocess` for `postprocess`.
#[derive(Debug, Default)]
pub struct Vectors {
    mean: bool,
    tokens: u64,
}

impl Preprocessing for Vectors {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        if request.method() != "POST" {
            return Err(Rejection::method_not_allowed("POST"));
        }
        let body = json::body(request)?;
        let body = Place::root(&body);
        if !body.value().is_object() {
            return Err(body.reject_kind("not-an-object", "an object with `texts`"));
        }
        let texts = texts(&body)?;
        self.mean = mean(&body)?;
        let rows = encode(ENCODER, &texts, &Options::new()).map_err(told)?;
        self.tokens = rows.ids().lengths().unwrap_or_default().iter().sum();
        Ok(ask(&rows).or_trap().into())
    }
}

impl Postprocessing for Vectors {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let rows = outputs[0].tensor("embedding").and_then(|tensor| tensor.rows::<f32>()).or_trap();
        let wide = |row: &[f32]| row.iter().map(|number| f64::from(*number)).collect::<Vec<f64>>();
        let mut vectors: Vec<Vec<f64>> = rows.iter().map(wide).collect();
        if self.mean {
            let sum = |mut sum: Vec<f64>, row: Vec<f64>| {
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
                sum
            };
            vectors = vectors.into_iter().reduce(sum).into_iter().collect();
        }
        let vectors: Vec<Vec<f64>> = vectors.iter().map(|vector| unit(vector)).collect();
        Ok(Response::json(200, &json!({ "vectors": vectors, "tokens": self.tokens })).or_trap().into())
    }
}

fn texts(body: &Place<'_>) -> Result<Vec<Input>, Rejection> {
    let Some(texts) = body.member("texts") else {
        return Err(body.reject_missing("missing-texts", "texts"));
    };
    let Some(items) = texts.items() else {
        return Err(texts.reject_kind("invalid-texts", "an array"));
    };
    let most = setting("max_texts", DEFAULT_MOST_TEXTS);
    match items.len() {
        0 => Err(texts.reject("empty-texts", "there are no texts")),
        count if count > most => Err(texts.reject("too-many-texts", format!("{count} texts, {most} at most"))),
        _ => items.map(|item| text(&item)).collect(),
    }
}

fn text(item: &Place<'_>) -> Result<Input, Rejection> {
    match item.text() {
        None => Err(item.reject_kind("invalid-text", "a string")),
        Some(text) if text.trim().is_empty() => Err(item.reject("empty-text", "there is no word in it")),
        Some(text) => Ok(Input::Single(text.to_owned())),
    }
}

fn mean(body: &Place<'_>) -> Result<bool, Rejection> {
    let Some(mean) = body.member("mean") else { return Ok(false) };
    mean.value().as_bool().ok_or_else(|| mean.reject_kind("invalid-mean", "true or false"))
}

/// A failure that a request can cause; every other one is a fault of the plugin.
fn told(failure: Failure) -> Rejection {
    let status = match failure.code.as_str() {
        "too-long" => 422,
        "too-large" | "memory" => 413,
        _ => return Err::<Rejection, Failure>(failure).or_trap(),
    };
    failure.into_rejection(status).at("/texts")
}

fn ask(rows: &Encoding) -> Result<Inference, Failure> {
    Inference::new(ENCODER)
        .input("input_ids", &rows.ids())?
        .input("attention_mask", &rows.attention_mask())?
        .input("token_type_ids", &rows.type_ids())
}

/// The vector brought to length 1, in as many digits as FP32 has.
fn unit(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    vector.iter().map(|number| (number / length * DECIMALS).round() / DECIMALS).collect()
}

tenon_sdk::export!(Vectors: preprocessing, postprocessing);
