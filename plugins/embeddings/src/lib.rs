//! Embeddings: texts in, vectors out, in the language of whoever asks.
//!
//! `POST /v1/embeddings` as of OpenAI's API (`input`, `encoding_format`, …), `POST /embed` as of
//! Text Embeddings Inference (`inputs`, `truncate`, `normalize`). `docs/reranker.md` has both.
//!
//! Owns the order of things: read, encode, ask, answer. Refuses to know what a right question is
//! (`asked`) and how answers look (`answer`), so that both are plain functions with native tests.
#![forbid(unsafe_code)]

mod answer;
mod asked;

use tenon_sdk::text::{Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor, Validation,
    setting,
};

use answer::Told;
use asked::{Inputs, Limits, Question};

/// The plugin's name for the model: the key under `[models]` in `function.toml`.
const ENCODER: &str = "encoder";
const PAYLOAD_TOO_LARGE: u16 = 413;

/// One invocation.
#[derive(Debug, Default)]
pub struct Embeddings {
    /// Left by `validate` for `preprocess`, and by that for `postprocess`: parsed once.
    question: Option<Question>,
    tokens: u64,
}

/// Rows as the model reads them.
struct Rows {
    ids: Tensor,
    ones: Tensor,
    zeros: Tensor,
    /// For each row, whether it lost its end.
    truncated: Vec<bool>,
}

impl Validation for Embeddings {
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        self.question = Some(asked::read(request, &Limits::from_config())?);
        Ok(())
    }
}

impl Preprocessing for Embeddings {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        if self.question.is_none() {
            self.validate(request)?;
        }
        let question = self.question.as_ref().expect("validate leaves the question");
        let limit = Limits::from_config().tokens;
        let rows = match rows(&question.inputs, limit) {
            // A request can ask for this much; every other failure is a fault of ours.
            Err(failure) if ["too-large", "memory"].contains(&failure.code.as_str()) => {
                return Err(failure.into_rejection(PAYLOAD_TOO_LARGE));
            }
            rows => rows.or_trap(),
        };
        if let Some(row) = rows.truncated.iter().position(|cut| *cut && !question.truncate) {
            return Err(question.too_many_tokens(row, limit));
        }
        self.tokens = rows.ids.lengths().unwrap_or_default().iter().sum();
        Ok(ask(&rows).or_trap().into())
    }
}

impl Postprocessing for Embeddings {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let question = self.question.take().expect("preprocess leaves the question");
        let outputs = outputs.first().expect("one inference was asked, so one output came");
        let rows = outputs.tensor("embedding").and_then(|tensor| tensor.rows::<f32>()).or_trap();
        let asked = match &question.inputs {
            Inputs::Texts(texts) => texts.len(),
            Inputs::Tokens(rows) => rows.len(),
        };
        assert_eq!(rows.len(), asked, "the model gave {} vectors for {asked} inputs", rows.len());
        let vectors = rows.iter().map(|vector| answer::scaled(vector, question.normalize)).collect();
        let told = Told { model: &setting("model", ENCODER.to_owned()), tokens: self.tokens };
        Ok(answer::write(&question, vectors, &told).or_trap().into())
    }
}

fn rows(inputs: &Inputs, limit: u32) -> Result<Rows, Failure> {
    match inputs {
        Inputs::Texts(texts) => {
            let options = Options::new();
            options.max_length(limit);
            options.truncate("longest-first")?;
            let rows: Vec<Input> = texts.iter().map(|text| Input::Single(text.clone())).collect();
            let encoding = encode(ENCODER, &rows, &options)?;
            let (ids, ones, zeros) = (encoding.ids(), encoding.attention_mask(), encoding.type_ids());
            Ok(Rows { ids, ones, zeros, truncated: encoding.truncated() })
        }
        Inputs::Tokens(rows) => {
            let filled = |value: i64| {
                let rows: Vec<Vec<i64>> = rows.iter().map(|row| vec![value; row.len()]).collect();
                Tensor::ragged(&rows)
            };
            let (ids, ones, zeros) = (Tensor::ragged(rows)?, filled(1)?, filled(0)?);
            Ok(Rows { ids, ones, zeros, truncated: vec![false; rows.len()] })
        }
    }
}

fn ask(rows: &Rows) -> Result<Inference, Failure> {
    Inference::new(ENCODER)
        .input("input_ids", &rows.ids)?
        .input("attention_mask", &rows.ones)?
        .input("token_type_ids", &rows.zeros)
}

tenon_sdk::export!(Embeddings: validation, preprocessing, postprocessing);
