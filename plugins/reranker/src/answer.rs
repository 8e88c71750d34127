//! The answer, as the caller's service gives it.
//!
//! Owns the shapes: which members, in which order, called what. Refuses to know how documents
//! are ranked.

use serde::Serialize;
use serde_json::Value;
use tenon_sdk::{Failure, Response};

use crate::dialect::{DOCUMENTS_PER_SEARCH, Dialect};
use crate::question::Question;
use crate::ranking::Ranked;

/// Text Embeddings Inference tells the tokens beside the answer, which is a bare list.
const TOKENS_HEADER: &str = "x-compute-tokens";

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'static str>,
    results: Vec<Ranking<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
}

#[derive(Serialize)]
struct Ranking<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

/// A document as it is given back: its text whatever the shape in which it came, or, where it
/// was ranked by its fields, all of them.
#[derive(Serialize)]
#[serde(untagged)]
enum Document<'a> {
    Text { text: &'a str },
    Given(&'a Value),
}

#[derive(Serialize)]
struct TeiRank<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    score: f32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Usage {
    Own { tokens: u64 },
    Others { prompt_tokens: u64, total_tokens: u64 },
}

#[derive(Serialize)]
struct Meta {
    api_version: Version,
    billed_units: Billed,
    tokens: Tokens,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Serialize)]
struct Billed {
    search_units: usize,
}

#[derive(Serialize)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
}

/// What is told beside the order.
pub(crate) struct Told<'a> {
    /// The model's name.
    pub(crate) model: &'a str,
    /// The tokens of query and documents, after cutting.
    pub(crate) tokens: u64,
}

/// Writes the answer.
pub(crate) fn write(question: &Question, ranked: &[Ranked], told: &Told<'_>) -> Result<Response, Failure> {
    if question.dialect == Dialect::Tei {
        let text = |index: usize| question.return_documents.then(|| question.documents[index].as_str());
        let ranks = ranked.iter().map(|it| TeiRank { index: it.index, text: text(it.index), score: it.score });
        let response = Response::json(200, &ranks.collect::<Vec<_>>())?;
        response.header(TOKENS_HEADER, &told.tokens.to_string())?;
        return Ok(response);
    }
    Response::json(200, &answer(question, ranked, told))
}

fn answer<'a>(question: &'a Question, ranked: &[Ranked], told: &Told<'a>) -> Answer<'a> {
    let ranking = |it: &Ranked| Ranking {
        index: it.index,
        relevance_score: it.score,
        document: question.return_documents.then(|| document(question, it.index)),
    };
    let results = ranked.iter().map(ranking).collect();
    let tokens = told.tokens;
    let usage = || Some(Usage::Others { prompt_tokens: tokens, total_tokens: tokens });
    let meta = |version| {
        let search_units = question.documents.len().div_ceil(DOCUMENTS_PER_SEARCH);
        let tokens = Tokens { input_tokens: tokens, output_tokens: 0 };
        Some(Meta { api_version: Version { version }, billed_units: Billed { search_units }, tokens })
    };
    let (id, object, model) = (Some(question.id.as_str()), Some("list"), Some(told.model));
    let bare = Answer { id: None, object: None, results, model: None, usage: None, meta: None };
    match question.dialect {
        Dialect::Own | Dialect::Tei => Answer { model, usage: Some(Usage::Own { tokens }), ..bare },
        Dialect::Vllm => Answer { id, model, usage: usage(), ..bare },
        Dialect::Jina => Answer { object, model, usage: usage(), ..bare },
        Dialect::CohereV1 => Answer { id, meta: meta("1"), ..bare },
        Dialect::CohereV2 => Answer { id, meta: meta("2"), ..bare },
        Dialect::Common => Answer { id, object, model, usage: usage(), meta: meta("1"), ..bare },
    }
}

fn document(question: &Question, index: usize) -> Document<'_> {
    let given = question.given.as_ref().and_then(|given| given.get(index)).filter(|given| given.is_object());
    given.map_or_else(|| Document::Text { text: &question.documents[index] }, Document::Given)
}
