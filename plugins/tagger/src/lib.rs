//! The tagger: marks names and places in a text. A sketch: no model exists yet; it is here so
//! that the contract is known to fit, and compiles against it.
//!
//! `POST {"text"}`; the answer is `{"spans": [{"start", "end", "tag", "score"}]}` with positions in
//! characters (Unicode scalar values), because that is what callers' strings are indexed by;
//! the tokenizer's offsets are UTF-8 bytes.
//!
//! Owns the flow: encode with offsets, ask, join tokens to spans. What is to come: many texts
//! in a request, texts longer than a row, names of tags.
#![forbid(unsafe_code)]

mod spans;

use serde::Serialize;
use tenon_sdk::json::{self, Place};
use tenon_sdk::text::{Encoding, Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step,
};

use spans::Span;

const PAYLOAD_TOO_LARGE: u16 = 413;

/// One invocation: the text and where its tokens lie.
#[derive(Debug, Default)]
pub struct Tagger {
    text: String,
    offsets: Vec<u32>,
}

#[derive(Serialize)]
struct Answer {
    spans: Vec<Span>,
}

impl Preprocessing for Tagger {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        let body = json::body(request)?;
        let body = Place::root(&body);
        let Some(text) = body.member("text") else {
            return Err(body.reject_missing("missing-text", "text"));
        };
        let Some(words) = text.text() else {
            return Err(text.reject_kind("invalid-text", "a string"));
        };
        let encoding = match encode_with_offsets(words) {
            Err(failure) if ["too-long", "too-large"].contains(&failure.code.as_str()) => {
                let rejection = failure.into_rejection(PAYLOAD_TOO_LARGE);
                return Err(rejection.at(text.pointer()));
            }
            encoded => encoded.or_trap(),
        };
        let offsets = encoding.offsets().expect("the options ask for offsets");
        self.offsets = offsets.values().or_trap();
        self.text = words.to_owned();
        Ok(ask(&encoding).or_trap().into())
    }
}

fn encode_with_offsets(text: &str) -> Result<Encoding, Failure> {
    let options = Options::new();
    options.offsets(true);
    encode("tagger", &[Input::Single(text.to_owned())], &options)
}

fn ask(encoding: &Encoding) -> Result<Inference, Failure> {
    Inference::new("tagger").input("input_ids", &encoding.ids())?.input("attention_mask", &encoding.attention_mask())
}

impl Postprocessing for Tagger {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let tags = outputs[0].tensor("tag").and_then(|tag| tag.values::<i64>()).or_trap();
        let scores = outputs[0].tensor("score").and_then(|score| score.values::<f32>()).or_trap();
        let spans = spans::join(&self.text, &self.offsets, &tags, &scores);
        Ok(Response::json(200, &Answer { spans }).or_trap().into())
    }
}

tenon_sdk::export!(Tagger: preprocessing, postprocessing);
