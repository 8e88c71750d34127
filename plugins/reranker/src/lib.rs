//! The reranker: sorts documents by how well they answer a query, in the language of whoever asks.
//!
//! `POST {"query", "documents": [string or {"text"}], "top_n"?, "return_documents"?}` is
//! answered with `{"results": [{"index", "relevance_score", "document"?}], "model",
//! "usage": {"tokens"}}`, best first. At `/rerank`, `/v1/rerank` and `/v2/rerank` it speaks as
//! Text Embeddings Inference, vLLM, Cohere and Jina do: `docs/reranker.md` has the table.
//!
//! Owns the order of things: read, encode, ask, answer. Refuses to know which service's client
//! asks (`dialect`), what a right question is (`question`), how documents are scored (`ranking`)
//! and how answers look (`answer`), so that these are plain functions with native tests.
#![forbid(unsafe_code)]

mod answer;
mod dialect;
mod question;
mod ranking;

use tenon_sdk::text::{Encoding, Input, Options, encode};
use tenon_sdk::{
    Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Rows, Step, Validation,
    setting,
};

use answer::Told;
use question::{Limits, Longer, Question};

/// The plugin's name for the model: the key under `[models]` in `function.toml`.
const ENCODER: &str = "encoder";
const PAYLOAD_TOO_LARGE: u16 = 413;

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
        let encodings = match encode_rows(question) {
            // A request can ask for this much; every other failure is a fault of ours.
            Err(failure) if ["too-large", "memory"].contains(&failure.code.as_str()) => {
                return Err(failure.into_rejection(PAYLOAD_TOO_LARGE));
            }
            encoded => encoded.or_trap(),
        };
        let mut truncated = encodings.iter().flat_map(Encoding::truncated);
        if let Some(row) = truncated.position(|cut| cut).filter(|_| question.longer != Longer::Cut) {
            return Err(too_long(question, row));
        }
        let lengths = encodings.iter().flat_map(|encoding| encoding.ids().lengths().unwrap_or_default());
        self.tokens = lengths.sum();
        let inferences: Vec<Inference> = encodings.iter().map(ask).collect::<Result<_, _>>().or_trap();
        Ok(inferences.into())
    }
}

impl Postprocessing for Reranker {
    fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        let question = self.question.take().expect("preprocess leaves the question");
        let of = |outputs: &Outputs| outputs.tensor("embedding").and_then(|tensor| tensor.rows::<f32>());
        let tables: Vec<Rows<f32>> = outputs.iter().map(of).collect::<Result<_, _>>().or_trap();
        let vectors: Vec<&[f32]> = tables.iter().flat_map(Rows::iter).collect();
        let ranked = ranking::rank(&question, &vectors);
        let told = Told { model: &setting("model", ENCODER.to_owned()), tokens: self.tokens };
        Ok(answer::write(&question, &ranked, &told).or_trap().into())
    }
}

/// The query's row, then one for each document: together, or apart where documents are cut shorter.
fn encode_rows(question: &Question) -> Result<Vec<Encoding>, Failure> {
    let (of_query, of_document) = question.max_tokens;
    let single = |text: &String| Input::Single(text.clone());
    let query = std::iter::once(single(&question.query));
    let documents = question.documents.iter().map(single);
    if of_query == of_document {
        return Ok(vec![cut_at(of_query, &query.chain(documents).collect::<Vec<_>>())?]);
    }
    Ok(vec![cut_at(of_query, &query.collect::<Vec<_>>())?, cut_at(of_document, &documents.collect::<Vec<_>>())?])
}

fn cut_at(tokens: u32, rows: &[Input]) -> Result<Encoding, Failure> {
    let options = Options::new();
    options.max_length(tokens);
    options.truncate("longest-first")?;
    encode(ENCODER, rows, &options)
}

/// Refuses a text that would have to be cut otherwise than the caller wants it: row 0 is the query.
fn too_long(question: &Question, row: usize) -> Rejection {
    const CODE: &str = "too-many-tokens";
    let (of_query, of_document) = question.max_tokens;
    let (limit, pointer) = match row.checked_sub(1) {
        None => (of_query, "/query".to_owned()),
        Some(document) => (of_document, format!("/{}/{document}", question.dialect.texts())),
    };
    let why = match question.longer {
        Longer::CutInFront => "only an end is cut off here, no beginning (`truncation_direction`)",
        Longer::Cut | Longer::Refused => "`truncate` is false",
    };
    let detail = format!("the text has more than {limit} tokens, and {why}");
    Rejection::new(question.dialect.status(CODE), CODE, detail).at(pointer)
}

fn ask(encoding: &Encoding) -> Result<Inference, Failure> {
    Inference::new(ENCODER)
        .input("input_ids", &encoding.ids())?
        .input("attention_mask", &encoding.attention_mask())?
        .input("token_type_ids", &encoding.type_ids())
}

tenon_sdk::export!(Reranker: validation, preprocessing, postprocessing);
