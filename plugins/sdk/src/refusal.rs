//! The two ways to fail: rejections with their builders, and what to do about a failure.
//!
//! Refuses to choose: there is no `From<Failure> for Rejection`, because only the plugin
//! knows whether a failed host call is the caller's fault (a text too long: reject) or its
//! own (a shape that cannot be: trap).

use crate::Failure;

const BAD_REQUEST: u16 = 400;
const METHOD_NOT_ALLOWED: u16 = 405;
const UNPROCESSABLE: u16 = 422;

/// The plugin refuses the request: what the caller gets instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status, 400 to 499; anything else is a fault of the plugin.
    pub status: u16,
    /// Short, stable, in kebab-case: what a caller's program may compare with.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// What in the request's body is wrong, as a JSON Pointer (RFC 6901).
    pub pointer: Option<String>,
    /// Further headers of the answer.
    pub headers: Vec<(String, String)>,
    /// The plugin's own body instead of the problem document. Boxed because it is rare, and
    /// every `Result` of a plugin is as large as its rejection.
    pub body: Option<Box<Content>>,
}

/// A body together with its media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The media type, such as `application/json`.
    pub content_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Rejection {
    /// A rejection with a 4xx status, a stable kebab-case code, and a sentence for a person.
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Rejection {
            status,
            code: code.to_owned(),
            detail: detail.into(),
            pointer: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// 400: what came cannot be read.
    pub fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(BAD_REQUEST, code, detail)
    }

    /// 422: it can be read, and is wrong.
    pub fn unprocessable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(UNPROCESSABLE, code, detail)
    }

    /// 405 with the `allow` header that HTTP asks for: `allowed` is such as `POST`.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let detail = format!("this function answers {allowed} only");
        Self::new(METHOD_NOT_ALLOWED, "method-not-allowed", detail).header("allow", allowed)
    }

    /// Says which place of the body is wrong, as a JSON Pointer: `/documents/3`.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers with a body of the plugin's own instead of the problem document.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let content_type = content_type.to_owned();
        self.body = Some(Box::new(Content { content_type, bytes: bytes.into() }));
        self
    }
}

impl Failure {
    /// The failure as a rejection: its code and detail, with a status of the plugin's choice.
    pub fn into_rejection(self, status: u16) -> Rejection {
        Rejection::new(status, &self.code, self.detail)
    }
}

/// What a plugin does about a host call that failed.
pub trait HostCall<T> {
    /// Traps (502 for the caller) with the failure in the function's log: for failures that
    /// only a fault of the plugin can cause.
    fn or_trap(self) -> T;

    /// Rejects with the failure's code and detail under `status`: for failures that a request
    /// can cause.
    fn or_reject(self, status: u16) -> Result<T, Rejection>;
}

impl<T> HostCall<T> for Result<T, Failure> {
    #[track_caller]
    fn or_trap(self) -> T {
        match self {
            Ok(value) => value,
            Err(failure) => panic!("a host call failed with `{}`: {}", failure.code, failure.detail),
        }
    }

    fn or_reject(self, status: u16) -> Result<T, Rejection> {
        self.map_err(|failure| failure.into_rejection(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), Failure> {
        Err(Failure { code: "too-long".into(), detail: "row 3 has 700 tokens".into() })
    }

    #[test]
    fn a_failure_becomes_a_rejection_with_the_status_of_choice() {
        let rejection = failed().or_reject(413).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (413, "too-long"));
        assert_eq!(rejection.detail, "row 3 has 700 tokens");
    }

    #[test]
    #[should_panic(expected = "a host call failed with `too-long`: row 3 has 700 tokens")]
    fn a_trap_says_what_failed() {
        failed().or_trap();
    }

    #[test]
    fn a_refused_method_names_those_allowed() {
        let rejection = Rejection::method_not_allowed("POST");
        assert_eq!(rejection.status, 405);
        assert_eq!(rejection.headers, [("allow".to_owned(), "POST".to_owned())]);
    }
}
