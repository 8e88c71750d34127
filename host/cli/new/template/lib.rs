//! Counts words: `{"text": "How are you?"}` becomes `{"words": 3}`. Put what your function does in its place.
#![forbid(unsafe_code)]

use serde_json::json;
use tenon_sdk::json::Place;
use tenon_sdk::{HostCall, Preprocessing, Rejection, Request, Response, Step, Validation};

/// One invocation: made afresh for each request, gone with its answer.
#[derive(Default)]
struct Plugin {
    /// Left by `validate` for `preprocess`.
    text: String,
}

impl Validation for Plugin {
    /// Refuses what is wrong, and says where.
    fn validate(&mut self, request: &Request) -> Result<(), Rejection> {
        let body = tenon_sdk::json::body(request)?;
        let body = Place::root(&body);
        let Some(text) = body.member("text") else {
            return Err(body.reject_missing("missing-text", "text"));
        };
        let Some(words) = text.text() else {
            return Err(text.reject_kind("invalid-text", "a string"));
        };
        self.text = words.to_owned();
        Ok(())
    }
}

impl Preprocessing for Plugin {
    /// Says what is to be done: ask a model, or answer at once, as here.
    fn preprocess(&mut self, _: &Request) -> Result<Step, Rejection> {
        let words = self.text.split_whitespace().count();
        Ok(Response::json(200, &json!({ "words": words })).or_trap().into())
    }
}

tenon_sdk::export!(Plugin: validation, preprocessing);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted() {
        let mut plugin = Plugin::default();
        let request = Request::post(r#"{"text": "How are you?"}"#);
        plugin.validate(&request).unwrap();
        let Ok(Step::Respond(response)) = plugin.preprocess(&request) else { panic!("no answer") };
        assert_eq!(response.sent().body, br#"{"words":3}"#);
    }

    #[test]
    fn a_request_without_text_is_refused_with_the_place() {
        let rejection = Plugin::default().validate(&Request::post("{}")).unwrap_err();
        assert_eq!((rejection.status, rejection.pointer.as_deref()), (422, Some("/text")));
    }
}
