//! Which service's language a caller speaks.
//!
//! Owns the paths, and what each service calls things and answers when they are wrong. Refuses
//! to know how a question is read and an answer is written; those ask here what differs.

use serde_json::Value;
use tenon_sdk::Rejection;

/// A service whose clients are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// This plugin's own.
    Own,
    /// Text Embeddings Inference: `texts` in, a bare list out.
    Tei,
    /// vLLM.
    Vllm,
    /// `/v1/rerank`, which Cohere, Jina and others have: an answer that all of them read.
    Common,
    /// Cohere's first API.
    CohereV1,
    /// Cohere's second.
    CohereV2,
    /// Jina.
    Jina,
}

/// Paths below the function, as an operator's `[[route]]` leads to them.
const PATHS: [(&str, Dialect); 7] = [
    ("", Dialect::Own),
    ("/", Dialect::Own),
    ("/rerank", Dialect::Vllm),
    ("/v1/rerank", Dialect::Common),
    ("/v2/rerank", Dialect::CohereV2),
    ("/cohere/v1/rerank", Dialect::CohereV1),
    ("/jina/v1/rerank", Dialect::Jina),
];

/// What documents beyond are charged as another search, in Cohere's way of counting.
pub(crate) const DOCUMENTS_PER_SEARCH: usize = 100;

impl Dialect {
    /// The one that is spoken at a path.
    ///
    /// Rejects other paths, 404 `no-such-path`.
    pub(crate) fn at(path: &str) -> Result<Self, Rejection> {
        let found = PATHS.iter().find(|(known, _)| *known == path);
        found.map(|(_, dialect)| *dialect).ok_or_else(|| {
            let known: Vec<&str> = PATHS.iter().map(|(path, _)| *path).filter(|path| path.len() > 1).collect();
            Rejection::new(404, "no-such-path", format!("nothing is ranked there; try {}", known.join(", ")))
        })
    }

    /// The same once the body is there: at `/rerank` two services differ in nothing else.
    pub(crate) fn of_body(self, body: &Value) -> Self {
        if self == Dialect::Vllm && body.get("texts").is_some() { Dialect::Tei } else { self }
    }

    /// The member with the texts to be ranked.
    pub(crate) fn texts(self) -> &'static str {
        if self == Dialect::Tei { "texts" } else { "documents" }
    }

    /// The member that asks for the texts back, and what holds without it.
    pub(crate) fn return_texts(self) -> Option<(&'static str, bool)> {
        match self {
            Dialect::Tei => Some(("return_text", false)),
            Dialect::Own | Dialect::CohereV1 | Dialect::Common => Some(("return_documents", false)),
            Dialect::Jina => Some(("return_documents", true)),
            // They come always, and never.
            Dialect::Vllm | Dialect::CohereV2 => None,
        }
    }

    /// Whether scores go from 0 to 1, where the caller says nothing of it.
    pub(crate) fn normalizes(self) -> bool {
        self != Dialect::Own
    }

    /// Whether documents may be cut shorter than the function cuts them, and have fields.
    pub(crate) fn has_documents(self) -> bool {
        !matches!(self, Dialect::Own | Dialect::Tei)
    }

    /// The status that its clients know for a body that can be read and is no question.
    pub(crate) fn status(self, code: &str) -> u16 {
        match self {
            Dialect::Own | Dialect::Jina => 422,
            Dialect::Vllm | Dialect::Common | Dialect::CohereV1 | Dialect::CohereV2 => 400,
            Dialect::Tei if code.starts_with("empty-") => 400,
            Dialect::Tei if ["too-many-documents", "text-too-long", "too-many-tokens"].contains(&code) => 413,
            Dialect::Tei => 422,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_path_decides_and_at_one_the_body() {
        for (path, dialect) in PATHS {
            assert_eq!(Dialect::at(path), Ok(dialect));
        }
        for other in ["/embed", "/v3/rerank", "/rerank/", "rerank"] {
            let rejection = Dialect::at(other).unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (404, "no-such-path"));
            assert!(rejection.detail.contains("/v2/rerank"), "{}", rejection.detail);
        }
        let bare = Dialect::at("/rerank").unwrap();
        assert_eq!(bare.of_body(&json!({ "texts": null })), Dialect::Tei);
        assert_eq!(bare.of_body(&json!({ "documents": [] })), Dialect::Vllm);
        assert_eq!(bare.of_body(&json!([])), Dialect::Vllm);
        assert_eq!(Dialect::Own.of_body(&json!({ "texts": [] })), Dialect::Own);
    }

    #[test]
    fn statuses_are_those_that_clients_know() {
        for (dialect, code, status) in [
            (Dialect::Own, "too-many-documents", 422),
            (Dialect::Jina, "empty-query", 422),
            (Dialect::CohereV2, "invalid-top-n", 400),
            (Dialect::Vllm, "missing-query", 400),
            (Dialect::Tei, "empty-texts", 400),
            (Dialect::Tei, "too-many-documents", 413),
            (Dialect::Tei, "too-many-tokens", 413),
            (Dialect::Tei, "missing-query", 422),
        ] {
            assert_eq!(dialect.status(code), status, "{dialect:?} {code}");
        }
    }
}
