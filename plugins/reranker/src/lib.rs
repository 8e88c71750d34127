//! The reranker: sorts documents by how well they answer a query.
//!
//! `POST {"query", "documents": [string or {"text"}], "top_n"?, "return_documents"?}` is
//! answered with `{"results": [{"index", "relevance_score", "document"?}], "model",
//! "usage": {"tokens"}}`, best first; the shape that rerank clients know, so what else they
//! send (`model`, say) is ignored.
//!
//! Owns the order of things: read, encode, ask, answer. Refuses to know what a right
//! question is (`question`) and how documents are scored (`ranking`), so that both are plain
//! functions with native tests.
#![forbid(unsafe_code)]

mod question;
mod ranking;

use tenon_sdk::text::{Encoding, Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step,
    Validation, setting,
};

use question::{Limits, Question};
use ranking::{Answer, Usage};

/// The plugin's name for the model: the key under `[models]` in `function.toml`.
const ENCODER: &str = "encoder";
const PAYLOAD_TOO_LARGE: u16 = 413;
const DEFAULT_MAX_TOKENS: u32 = 256;

/// One invocation.
#[derive(Debug, Default)]
pub struct Reranker {
    /// Left by `validate` for `preprocess`, and by that for `postprocess`: parsed once.
    question: Option<Question>,
    tokens: u64,
}

impl Validation for Reranker {
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        self.question = Some(question::read(request, &Limits::from_config())?);
        Ok(())
    }
}

impl Preprocessing for Reranker {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        if self.question.is_none() {
            self.validate(request)?;
        }
        let question = self.question.as_ref().expect("validate leaves the question");
        let encoding = match encode_rows(question) {
            // A request can ask for this much; every other failure is a fault of ours.
            Err(failure) if ["too-large", "memory"].contains(&failure.code.as_str()) => {
                return Err(failure.into_rejection(PAYLOAD_TOO_LARGE));
            }
            encoded => encoded.or_trap(),
        };
        let inference = ask(&encoding).or_trap();
        let lengths = encoding.ids().lengths().unwrap_or_default();
        self.tokens = lengths.iter().sum();
        Ok(inference.into())
    }
}

impl Postprocessing for Reranker {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let question = self.question.take().expect("preprocess leaves the question");
        let outputs = outputs.first().expect("one inference was asked, so one output came");
        let vectors = outputs.tensor("embedding").and_then(|tensor| tensor.rows::<f32>()).or_trap();
        let answer = Answer {
            results: ranking::rank(&question, &vectors),
            model: setting("model", ENCODER.to_owned()),
            usage: Usage { tokens: self.tokens },
        };
        Ok(Response::json(200, &answer).or_trap().into())
    }
}

/// The query's row, then one for each document.
fn encode_rows(question: &Question) -> Result<Encoding, Failure> {
    let options = Options::new();
    options.max_length(setting("max_tokens", DEFAULT_MAX_TOKENS));
    options.truncate("longest-first")?;
    let texts = std::iter::once(&question.query).chain(&question.documents);
    let rows: Vec<Input> = texts.map(|text| Input::Single(text.clone())).collect();
    encode(ENCODER, &rows, &options)
}

fn ask(encoding: &Encoding) -> Result<Inference, Failure> {
    Inference::new(ENCODER)
        .input("input_ids", &encoding.ids())?
        .input("attention_mask", &encoding.attention_mask())?
        .input("token_type_ids", &encoding.type_ids())
}

tenon_sdk::export!(Reranker: validation, preprocessing, postprocessing);
