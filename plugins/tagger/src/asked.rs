//! What a caller asks, and each way in which it can be wrong. Owns the codes: what is wrong with a request as a whole is a
//! rejection, what is wrong with one document of several is a fault of that document, and the others are answered. Refuses
//! to know models and tokens.

use serde::Serialize;
use serde_json::Value;
use tenon_sdk::{
    Rejection, Request,
    json::{self, Place},
    setting,
};

use crate::{
    format::{self, Format, Markup},
    places::Unit,
};

const NOT_FOUND: u16 = 404;
pub(crate) const PAYLOAD_TOO_LARGE: u16 = 413;
const UNPROCESSABLE: u16 = 422;
const DEFAULT_MAX_DOCUMENTS: usize = 1000;
const DEFAULT_MAX_DOCUMENT_BYTES: usize = 1 << 20;
const MAX_ID_BYTES: usize = 256;
/// The longest piece of a caller's that a message repeats.
const QUOTED_CHARACTERS: usize = 40;

/// What a request may be at most: `[config]` in `function.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) documents: usize,
    pub(crate) document_bytes: usize,
}

impl Limits {
    pub(crate) fn from_config() -> Self {
        Limits {
            documents: setting("max_documents", DEFAULT_MAX_DOCUMENTS),
            document_bytes: setting("max_document_bytes", DEFAULT_MAX_DOCUMENT_BYTES),
        }
    }
}

/// How the caller wants the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) unit: Unit,
    pub(crate) min_confidence: f32,
    /// For each label of the model whether it is wanted.
    pub(crate) labels: Vec<bool>,
}

/// Why one document has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    #[serde(skip)]
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
}

impl Fault {
    pub(crate) fn new(status: u16, code: &'static str, detail: String) -> Self {
        Fault { status, code, detail, pointer: None }
    }

    fn at(mut self, pointer: String) -> Self {
        self.pointer = Some(pointer);
        self
    }

    /// The same, where the document is all that was asked.
    pub(crate) fn into_rejection(self) -> Rejection {
        Rejection::new(self.status, self.code, self.detail)
    }
}

/// A document as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: Option<Value>,
    pub(crate) content: Result<(String, Markup), Fault>,
}

/// A request that passed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) wishes: Wishes,
    pub(crate) documents: Vec<Entry>,
    /// The body is the document; its fault is the request's.
    pub(crate) alone: bool,
}

/// Reads the request; `labels` are the model's.
pub(crate) fn read(request: &Request, limits: &Limits, labels: &[String]) -> Result<Asked, Rejection> {
    if !["", "/"].contains(&request.path().as_str()) {
        let detail = format!("there is nothing at `{}`; POST to the function itself", quoted(&request.path()));
        return Err(Rejection::new(NOT_FOUND, "path-not-found", detail));
    }
    if request.method() != "POST" {
        return Err(Rejection::method_not_allowed("POST"));
    }
    let wishes = wishes(&request.query(), labels)?;
    let body = request.body();
    match format::of(request, &body)? {
        Format::Json => {
            let value = json::parse(&body)?;
            drop(body);
            Ok(Asked { wishes, documents: documents(&Place::root(&value), limits)?, alone: false })
        }
        Format::One(markup) => {
            let text = String::from_utf8(body).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Rejection::bad_request("invalid-utf8", format!("the body is not UTF-8: first at byte {at}"))
            })?;
            let content = Ok(within(text, limits).map_err(Fault::into_rejection)?);
            Ok(Asked {
                wishes,
                documents: vec![Entry { id: None, content: content.map(|t| (t, markup)) }],
                alone: true,
            })
        }
    }
}

fn wishes(query: &[(String, String)], labels: &[String]) -> Result<Wishes, Rejection> {
    let mut wishes = Wishes { unit: Unit::Characters, min_confidence: 0.0, labels: vec![true; labels.len()] };
    let wrong = |code: &str, detail: String| Err(Rejection::unprocessable(code, detail));
    for (name, value) in query {
        match name.as_str() {
            "unit" => match Unit::parse(value) {
                Some(unit) => wishes.unit = unit,
                None => {
                    let detail = format!("`unit` is characters, utf16 or bytes, not `{}`", quoted(value));
                    return wrong("invalid-unit", detail);
                }
            },
            "min_confidence" => match value.parse::<f32>() {
                Ok(least) if (0.0..=1.0).contains(&least) => wishes.min_confidence = least,
                _ => {
                    let detail = format!("`min_confidence` is a number from 0 to 1, not `{}`", quoted(value));
                    return wrong("invalid-min-confidence", detail);
                }
            },
            "labels" => {
                let wanted: Vec<&str> = value.split(',').map(str::trim).collect();
                let unknown = wanted.iter().find(|wanted| !labels.iter().any(|label| label == *wanted));
                if let Some(unknown) = unknown {
                    let detail = format!("`labels` are of {}, not `{}`", labels.join(","), quoted(unknown));
                    return wrong("invalid-labels", detail);
                }
                wishes.labels = labels.iter().map(|label| wanted.contains(&label.as_str())).collect();
            }
            other => {
                let detail = format!("`{}` is no parameter; there are unit, min_confidence and labels", quoted(other));
                return wrong("unknown-parameter", detail);
            }
        }
    }
    Ok(wishes)
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARACTERS).collect()
}

fn documents(body: &Place<'_>, limits: &Limits) -> Result<Vec<Entry>, Rejection> {
    let Some(members) = body.value().as_object() else {
        return Err(body.reject_kind("not-an-object", "an object with `documents`"));
    };
    if let Some(unknown) = members.keys().find(|name| *name != "documents") {
        let unknown = quoted(unknown);
        let place = body.member(&unknown);
        let detail = format!("`{unknown}` is no member; there is `documents`");
        let rejection = Rejection::unprocessable("unknown-field", detail);
        return Err(rejection.at(place.map_or_else(String::new, |place| place.pointer())));
    }
    let Some(documents) = body.member("documents") else {
        return Err(body.reject_missing("missing-documents", "documents"));
    };
    let Some(items) = documents.items() else {
        return Err(documents.reject_kind("invalid-documents", "an array"));
    };
    if items.len() == 0 {
        return Err(documents.reject("empty-documents", "there are no documents"));
    }
    if items.len() > limits.documents {
        let detail = format!("{} documents, {} at most", items.len(), limits.documents);
        return Err(Rejection::new(PAYLOAD_TOO_LARGE, "too-many-documents", detail).at(documents.pointer()));
    }
    Ok(items.map(|item| entry(&item, limits)).collect())
}

fn entry(item: &Place<'_>, limits: &Limits) -> Entry {
    let known = |id: &Place<'_>| {
        let fits = id.value().is_number() || id.text().is_some_and(|text| text.len() <= MAX_ID_BYTES);
        fits.then(|| id.value().clone())
    };
    let id = item.member("id").and_then(|id| known(&id));
    Entry { id, content: content(item, limits) }
}

fn content(item: &Place<'_>, limits: &Limits) -> Result<(String, Markup), Fault> {
    const KINDS: [(&str, Markup); 3] = [("text", Markup::Plain), ("html", Markup::Html), ("jats", Markup::Jats)];
    let fault = |place: &Place<'_>, code, detail| Fault::new(UNPROCESSABLE, code, detail).at(place.pointer());
    if let Some(text) = item.text() {
        return within(text.to_owned(), limits).map(|text| (text, Markup::Plain)).map_err(|f| f.at(item.pointer()));
    }
    let Some(members) = item.value().as_object() else {
        let detail = format!("expected a string or an object with one of text, html, jats, found {}", item.kind());
        return Err(fault(item, "invalid-document", detail));
    };
    let is_known = |name: &str| name == "id" || KINDS.iter().any(|(kind, _)| *kind == name);
    if let Some(unknown) = members.keys().find(|name| !is_known(name)) {
        let unknown = quoted(unknown);
        return Err(fault(item, "unknown-field", format!("`{unknown}` is no member; there are id, text, html, jats")));
    }
    if let Some(id) = item.member("id")
        && !(id.value().is_number() || id.text().is_some_and(|text| text.len() <= MAX_ID_BYTES))
    {
        let detail = format!("expected a number or a string of at most {MAX_ID_BYTES} bytes");
        return Err(fault(&id, "invalid-id", detail));
    }
    let mut given = KINDS.iter().filter(|(name, _)| item.member(name).is_some());
    let (Some((name, markup)), None) = (given.next(), given.next()) else {
        return Err(fault(item, "invalid-document", "expected exactly one of text, html, jats".to_owned()));
    };
    let place = item.member(name).expect("it was just found");
    let Some(text) = place.text() else {
        return Err(fault(&place, "invalid-document", format!("expected a string, found {}", place.kind())));
    };
    within(text.to_owned(), limits).map(|text| (text, *markup)).map_err(|fault| fault.at(place.pointer()))
}

fn within(text: String, limits: &Limits) -> Result<String, Fault> {
    if text.len() > limits.document_bytes {
        let detail = format!("{} bytes, {} at most", text.len(), limits.document_bytes);
        return Err(Fault::new(PAYLOAD_TOO_LARGE, "document-too-large", detail));
    }
    if text.trim().is_empty() {
        return Err(Fault::new(UNPROCESSABLE, "empty-text", "there is no text".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
