//! What a caller asks, and each way in which it can be wrong.
//!
//! Owns the codes: 400 where the body cannot be read, 422 where it can and is not a
//! question, each with a pointer to the place. Refuses to know models and tokens. Unknown
//! members are ignored, because clients of other rerankers send their own.

use tenon_sdk::json::{self, Place};
use tenon_sdk::{Rejection, Request, setting};

const DEFAULT_MAX_DOCUMENTS: usize = 1000;
const DEFAULT_MAX_TEXT_BYTES: usize = 32_768;

/// What a question may be at most: `[config]` in `function.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) documents: usize,
    pub(crate) text_bytes: usize,
}

impl Limits {
    pub(crate) fn from_config() -> Self {
        Limits {
            documents: setting("max_documents", DEFAULT_MAX_DOCUMENTS),
            text_bytes: setting("max_text_bytes", DEFAULT_MAX_TEXT_BYTES),
        }
    }
}

/// A question that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
    /// How many results the caller wants; never more than there are documents.
    pub(crate) top_n: usize,
    pub(crate) return_documents: bool,
}

/// Reads the question out of the request.
pub(crate) fn read(request: &Request, limits: &Limits) -> Result<Question, Rejection> {
    if request.method() != "POST" {
        return Err(Rejection::method_not_allowed("POST"));
    }
    let body = json::body(request)?;
    let body = Place::root(&body);
    if !body.value().is_object() {
        return Err(body.reject_kind("not-an-object", "an object with `query` and `documents`"));
    }
    let query = query(&body, limits)?;
    let documents = documents(&body, limits)?;
    let top_n = top_n(&body)?.unwrap_or(documents.len()).min(documents.len());
    Ok(Question { query, documents, top_n, return_documents: return_documents(&body)? })
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

fn documents(body: &Place<'_>, limits: &Limits) -> Result<Vec<String>, Rejection> {
    let Some(documents) = body.member("documents") else {
        return Err(body.reject_missing("missing-documents", "documents"));
    };
    let Some(items) = documents.items() else {
        return Err(documents.reject_kind("invalid-documents", "an array"));
    };
    if items.len() == 0 {
        return Err(documents.reject("empty-documents", "there are no documents to rank"));
    }
    if items.len() > limits.documents {
        let detail = format!("{} documents, {} at most", items.len(), limits.documents);
        return Err(documents.reject("too-many-documents", detail));
    }
    items.map(|item| document(&item, limits)).collect()
}

fn document(item: &Place<'_>, limits: &Limits) -> Result<String, Rejection> {
    const WANTED: &str = "a string or an object with a string `text`";
    if let Some(text) = item.text() {
        return within(text, item, limits);
    }
    if !item.value().is_object() {
        return Err(item.reject_kind("invalid-document", WANTED));
    }
    let Some(member) = item.member("text") else {
        return Err(item.reject_missing("invalid-document", "text"));
    };
    match member.text() {
        Some(text) => within(text, &member, limits),
        None => Err(member.reject_kind("invalid-document", "a string")),
    }
}

fn within(text: &str, place: &Place<'_>, limits: &Limits) -> Result<String, Rejection> {
    if text.len() > limits.text_bytes {
        let detail = format!("{} bytes of text, {} at most", text.len(), limits.text_bytes);
        return Err(place.reject("text-too-long", detail));
    }
    Ok(text.to_owned())
}

fn top_n(body: &Place<'_>) -> Result<Option<usize>, Rejection> {
    let Some(place) = body.member("top_n") else { return Ok(None) };
    match place.value().as_u64() {
        Some(wanted) if wanted > 0 => Ok(Some(usize::try_from(wanted).unwrap_or(usize::MAX))),
        _ => {
            let detail = format!("expected a whole number from 1 on, found {}", brief(&place));
            Err(place.reject("invalid-top-n", detail))
        }
    }
}

fn return_documents(body: &Place<'_>) -> Result<bool, Rejection> {
    let Some(place) = body.member("return_documents") else { return Ok(false) };
    let wanted = place.value().as_bool();
    wanted.ok_or_else(|| place.reject_kind("invalid-return-documents", "true or false"))
}

/// A number as it was written, anything else by its kind: `-1`, `a string`.
fn brief(place: &Place<'_>) -> String {
    if place.value().is_number() { place.value().to_string() } else { place.kind().to_owned() }
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
