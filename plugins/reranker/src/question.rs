//! What a caller asks, and each way in which it can be wrong.
//!
//! Owns the codes: 400 where the body cannot be read; where it can and is not a question, what
//! the caller's service says then (`dialect`), each with a pointer to the place. Refuses to know
//! models and tokens. Unknown members are ignored, as all these services do: their clients send
//! each other's.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;
use tenon_sdk::json::{self, Place};
use tenon_sdk::{Rejection, Request, setting};

use crate::dialect::Dialect;

const DEFAULT_MAX_DOCUMENTS: usize = 1000;
const DEFAULT_MAX_TEXT_BYTES: usize = 32_768;
const DEFAULT_MAX_TOKENS: u32 = 256;
/// Fields that one document is read by.
const MAX_RANK_FIELDS: usize = 64;

/// What a question may be at most: `[config]` in `function.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) documents: usize,
    pub(crate) text_bytes: usize,
    /// Of a text; what is longer is cut.
    pub(crate) tokens: u32,
    /// Whether it is, where a caller of Text Embeddings Inference says nothing of it.
    pub(crate) auto_truncate: bool,
}

impl Limits {
    pub(crate) fn from_config() -> Self {
        Limits {
            documents: setting("max_documents", DEFAULT_MAX_DOCUMENTS),
            text_bytes: setting("max_text_bytes", DEFAULT_MAX_TEXT_BYTES),
            tokens: setting("max_tokens", DEFAULT_MAX_TOKENS),
            auto_truncate: setting("auto_truncate", true),
        }
    }
}

/// A question that passed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) dialect: Dialect,
    /// Made of path and body, so that an answer from a cache names itself as a computed one does.
    pub(crate) id: String,
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
    /// The documents as they came, where they have fields and are wanted back.
    pub(crate) given: Option<Vec<Value>>,
    /// How many results the caller wants; never more than there are documents.
    pub(crate) top_n: usize,
    pub(crate) return_documents: bool,
    /// Whether scores go from 0 to 1.
    pub(crate) normalized: bool,
    /// The tokens of a text, and of a document.
    pub(crate) max_tokens: (u32, u32),
    /// What becomes of a text that has more.
    pub(crate) longer: Longer,
}

/// What becomes of a text with too many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Longer {
    /// It loses its end.
    Cut,
    /// It is refused: the caller wants nothing cut.
    Refused,
    /// It is refused: the caller wants it to lose its beginning, which no tokenizer here does.
    CutInFront,
}

/// Reads the question out of the request.
pub(crate) fn read(request: &Request, limits: &Limits) -> Result<Question, Rejection> {
    let dialect = Dialect::at(&request.path())?;
    if request.method() != "POST" {
        return Err(Rejection::method_not_allowed("POST"));
    }
    let bytes = request.body();
    let body = json::parse(&bytes)?;
    let dialect = dialect.of_body(&body);
    let mut name = DefaultHasher::new();
    (request.path(), &bytes).hash(&mut name);
    let id = format!("rerank-{:016x}", name.finish());
    question(&Place::root(&body), dialect, limits, id).map_err(|mut rejection| {
        rejection.status = dialect.status(&rejection.code);
        rejection
    })
}

fn question(body: &Place<'_>, dialect: Dialect, limits: &Limits, id: String) -> Result<Question, Rejection> {
    if !body.value().is_object() {
        let wanted = format!("an object with `query` and `{}`", dialect.texts());
        return Err(body.reject_kind("not-an-object", &wanted));
    }
    let query = query(body, limits)?;
    let fields = if dialect.has_documents() { rank_fields(body)? } else { Vec::new() };
    let documents = documents(body, dialect.texts(), &fields, limits)?;
    let return_documents = match dialect.return_texts() {
        Some((member, otherwise)) => flag(body, member)?.unwrap_or(otherwise),
        None => dialect == Dialect::Vllm,
    };
    let given = (return_documents && !fields.is_empty()).then(|| body.value()["documents"].as_array().cloned());
    let tei = dialect == Dialect::Tei;
    let top_n = if tei { None } else { whole(body, "top_n", "invalid-top-n")? };
    let top_n = top_n.map_or(documents.len(), |wanted| documents.len().min(wanted.try_into().unwrap_or(usize::MAX)));
    let normalized = if tei { !flag(body, "raw_scores")?.unwrap_or(false) } else { dialect.normalizes() };
    let longer = if tei { longer(body, limits)? } else { Longer::Cut };
    let shorter = if dialect.has_documents() { tokens_of_document(body)? } else { None };
    let max_tokens = (limits.tokens, shorter.map_or(limits.tokens, |tokens| limits.tokens.min(tokens)));
    let given = given.flatten();
    Ok(Question { dialect, id, query, documents, given, top_n, return_documents, normalized, max_tokens, longer })
}

fn query(body: &Place<'_>, limits: &Limits) -> Result<String, Rejection> {
    let Some(query) = body.member("query") else {
        return Err(body.reject_missing("missing-query", "query"));
    };
    let Some(text) = query.text() else {
        return Err(query.reject_kind("invalid-query", "a string"));
    };
    if text.trim().is_empty() {
        return Err(query.reject("empty-query", "the query has no text"));
    }
    within(text, &query, limits)
}

fn documents(body: &Place<'_>, name: &str, fields: &[&str], limits: &Limits) -> Result<Vec<String>, Rejection> {
    let Some(documents) = body.member(name) else {
        return Err(body.reject_missing(&format!("missing-{name}"), name));
    };
    let Some(items) = documents.items() else {
        return Err(documents.reject_kind(&format!("invalid-{name}"), "an array"));
    };
    if items.len() == 0 {
        return Err(documents.reject(&format!("empty-{name}"), format!("there are no {name} to rank")));
    }
    if items.len() > limits.documents {
        let detail = format!("{} {name}, {} at most", items.len(), limits.documents);
        return Err(documents.reject("too-many-documents", detail));
    }
    items.map(|item| document(&item, fields, limits)).collect()
}

fn document(item: &Place<'_>, fields: &[&str], limits: &Limits) -> Result<String, Rejection> {
    const WANTED: &str = "a string or an object with a string `text`";
    if let Some(text) = item.text() {
        return within(text, item, limits);
    }
    if !item.value().is_object() {
        return Err(item.reject_kind("invalid-document", WANTED));
    }
    let of_field = |name: &str| {
        let Some(member) = item.member(name) else {
            return Err(item.reject_missing("invalid-document", name));
        };
        let text = member.text().map(str::to_owned);
        text.ok_or_else(|| member.reject_kind("invalid-document", "a string"))
            .and_then(|text| within(&text, &member, limits))
    };
    if fields.is_empty() {
        return of_field("text");
    }
    let texts: Vec<String> = fields.iter().map(|name| of_field(name)).collect::<Result<_, _>>()?;
    within(&texts.join("\n"), item, limits)
}

fn within(text: &str, place: &Place<'_>, limits: &Limits) -> Result<String, Rejection> {
    if text.len() > limits.text_bytes {
        let detail = format!("{} bytes of text, {} at most", text.len(), limits.text_bytes);
        return Err(place.reject("text-too-long", detail));
    }
    Ok(text.to_owned())
}

/// The fields by which documents are ranked; none where the caller names none.
fn rank_fields<'a>(body: &'a Place<'_>) -> Result<Vec<&'a str>, Rejection> {
    let Some(place) = body.member("rank_fields") else { return Ok(Vec::new()) };
    let names = place.value().as_array().filter(|names| (1..=MAX_RANK_FIELDS).contains(&names.len()));
    let names: Option<Vec<&str>> = names.and_then(|names| names.iter().map(Value::as_str).collect());
    names.ok_or_else(|| place.reject("invalid-rank-fields", format!("expected 1 to {MAX_RANK_FIELDS} names of fields")))
}

/// The tokens of a document at most, as Cohere and Jina call it. Chunks are counted for nothing: no document is cut into any.
fn tokens_of_document(body: &Place<'_>) -> Result<Option<u32>, Rejection> {
    whole(body, "max_chunks_per_doc", "invalid-max-chunks")?;
    let cohere = whole(body, "max_tokens_per_doc", "invalid-max-tokens")?;
    let jina = whole(body, "max_doc_length", "invalid-max-tokens")?;
    Ok(cohere.or(jina).map(|tokens| tokens.try_into().unwrap_or(u32::MAX)))
}

fn longer(body: &Place<'_>, limits: &Limits) -> Result<Longer, Rejection> {
    let truncate = flag(body, "truncate")?.unwrap_or(limits.auto_truncate);
    let in_front = match body.member("truncation_direction") {
        None => false,
        Some(place) => match place.text().map(str::to_ascii_lowercase).as_deref() {
            Some("right") => false,
            Some("left") => true,
            _ => return Err(place.reject("invalid-truncation-direction", "expected `Left` or `Right`")),
        },
    };
    Ok(match (truncate, in_front) {
        (true, false) => Longer::Cut,
        (true, true) => Longer::CutInFront,
        (false, _) => Longer::Refused,
    })
}

/// A whole number from 1 on.
fn whole(body: &Place<'_>, name: &str, code: &str) -> Result<Option<u64>, Rejection> {
    let Some(place) = body.member(name) else { return Ok(None) };
    match place.value().as_u64() {
        Some(wanted) if wanted > 0 => Ok(Some(wanted)),
        _ => Err(place.reject(code, format!("expected a whole number from 1 on, found {}", brief(&place)))),
    }
}

fn flag(body: &Place<'_>, name: &str) -> Result<Option<bool>, Rejection> {
    let Some(place) = body.member(name) else { return Ok(None) };
    let code = format!("invalid-{}", name.replace('_', "-"));
    let wanted = place.value().as_bool();
    wanted.map(Some).ok_or_else(|| place.reject_kind(&code, "true or false"))
}

/// A number as it was written, anything else by its kind: `-1`, `a string`.
fn brief(place: &Place<'_>) -> String {
    if place.value().is_number() { place.value().to_string() } else { place.kind().to_owned() }
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
