//! Answers in one line: JSON, text, bytes.

use serde::Serialize;

use crate::{Failure, Response};

impl Response {
    /// An answer whose body is `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Result<Response, Failure> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Failure { code: "not-json".to_owned(), detail: error.to_string() })?;
        Self::bytes(status, "application/json", &body)
    }

    /// An answer whose body is plain text.
    pub fn text(status: u16, body: &str) -> Result<Response, Failure> {
        Self::bytes(status, "text/plain; charset=utf-8", body.as_bytes())
    }

    /// An answer whose body is these bytes.
    pub fn bytes(status: u16, content_type: &str, body: &[u8]) -> Result<Response, Failure> {
        let response = Response::new(status, content_type);
        response.write(body)?;
        Ok(response)
    }
}
