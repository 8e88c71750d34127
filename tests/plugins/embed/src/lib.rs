//! Encodes the lines of the body and answers with token ids and vectors: `{"ids": [[…]], "vectors": [[…]]}`.
//!
//! Owns nothing but the order of things, so that what a test compares is the host's tokenizer and the model.
#![forbid(unsafe_code)]

use serde_json::json;
use tenon_sdk::text::{Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step,
};

/// The plugin's name for the model.
const ENCODER: &str = "encoder";

/// Keeps the ids until the vectors are there.
#[derive(Debug, Default)]
pub struct Embed {
    ids: Vec<Vec<i64>>,
}

impl Preprocessing for Embed {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let Ok(text) = String::from_utf8(request.body()) else {
            return Err(Rejection::bad_request("not-utf-8", "the body is not UTF-8"));
        };
        let lines: Vec<Input> = text.lines().map(|line| Input::Single(line.to_owned())).collect();
        Ok(self.ask(&lines).or_trap().into())
    }
}

impl Embed {
    fn ask(&mut self, lines: &[Input]) -> Result<Inference, Failure> {
        let encoding = encode(ENCODER, lines, &Options::new())?;
        self.ids = encoding.ids().rows::<i64>()?.iter().map(<[i64]>::to_vec).collect();
        Inference::new(ENCODER)
            .input("input_ids", &encoding.ids())?
            .input("attention_mask", &encoding.attention_mask())?
            .input("token_type_ids", &encoding.type_ids())
    }
}

impl Postprocessing for Embed {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let vectors = outputs[0].tensor("embedding").and_then(|tensor| tensor.rows::<f32>()).or_trap();
        let vectors: Vec<_> = vectors.iter().collect();
        Ok(Response::json(200, &json!({ "ids": self.ids, "vectors": vectors })).or_trap().into())
    }
}

tenon_sdk::export!(Embed: preprocessing, postprocessing);
