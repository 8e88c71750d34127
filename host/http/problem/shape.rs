//! The second table: what errors look like to clients of other services, where a function or a route says so.
//!
//! Owns members and their names. Refuses to decide a status: that is the first table's, and a client of OpenAI's meets the
//! 429 and the `Retry-After` that everybody meets.

use serde_json::{Value, json};

use super::Problem;
use crate::function::ErrorShape;

const JSON: &str = "application/json";

/// What OpenAI and Text Embeddings Inference call an error of this status.
fn kinds(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "validation"),
        403 => ("permission_error", "validation"),
        429 => ("rate_limit_error", "overloaded"),
        503 => ("server_error", "unhealthy"),
        500.. => ("server_error", "backend"),
        _ => ("invalid_request_error", "validation"),
    }
}

/// The document, and its type.
pub(super) fn write(problem: &Problem, shape: ErrorShape) -> (&'static str, Vec<u8>) {
    let document = match shape {
        ErrorShape::Problem => return ("application/problem+json", problem.to_bytes()),
        ErrorShape::OpenAi => json!({ "error": {
            "message": problem.detail,
            "type": kinds(problem.status).0,
            "param": problem.pointer.as_deref().map(parameter),
            "code": problem.code,
        } }),
        ErrorShape::Tei => json!({ "error": message(problem), "error_type": tei(problem) }),
        ErrorShape::Cohere => json!({ "id": problem.request_id, "message": message(problem) }),
        ErrorShape::Jina => json!({ "detail": message(problem) }),
    };
    (JSON, bytes(&document))
}

fn bytes(document: &Value) -> Vec<u8> {
    // Text always becomes JSON.
    serde_json::to_vec(document).unwrap_or_default()
}

/// Two of its kinds are told apart by the code.
fn tei(problem: &Problem) -> &'static str {
    match &*problem.code {
        code if problem.status < 500 && code.starts_with("empty-") => "empty",
        "tokenizer" => "tokenizer",
        _ => kinds(problem.status).1,
    }
}

/// What is wrong, and where, for shapes that have no place of their own for it.
fn message(problem: &Problem) -> String {
    match problem.pointer.as_deref().filter(|pointer| !pointer.is_empty()) {
        Some(pointer) => format!("{} (at {pointer})", problem.detail),
        None => problem.detail.clone(),
    }
}

/// A JSON Pointer as OpenAI writes a parameter: `/input/3` is `input[3]`. The whole body is no parameter.
fn parameter(pointer: &str) -> Value {
    let mut parameter = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match step.parse::<u64>() {
            Ok(index) => parameter.push_str(&format!("[{index}]")),
            Err(_) if parameter.is_empty() => parameter = step,
            Err(_) => parameter.push_str(&format!(".{step}")),
        }
    }
    if parameter.is_empty() { Value::Null } else { parameter.into() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{function::InvokeError, http::problem::TABLE, invocation::Rejection};

    fn shaped(problem: &Problem, shape: ErrorShape) -> Value {
        let (content_type, document) = write(problem, shape);
        assert_eq!(content_type == JSON, shape != ErrorShape::Problem);
        serde_json::from_slice(&document).unwrap()
    }

    fn rejection(status: u16, code: &str, pointer: Option<&str>) -> Problem {
        let rejection = Rejection {
            status,
            code: code.into(),
            detail: "said \"so\"".into(),
            pointer: pointer.map(Into::into),
            headers: Vec::new(),
            body: None,
            charge: None,
        };
        Problem::of(&InvokeError::Rejected(rejection.into()), "id-1")
    }

    #[test]
    fn each_shape_has_the_members_that_its_clients_read() {
        let problem = rejection(400, "invalid-input", Some("/input/3"));
        for (shape, document) in [
            (
                ErrorShape::OpenAi,
                json!({ "error": { "message": "said \"so\"", "type": "invalid_request_error", "param": "input[3]",
                    "code": "invalid-input" } }),
            ),
            (ErrorShape::Tei, json!({ "error": "said \"so\" (at /input/3)", "error_type": "validation" })),
            (ErrorShape::Cohere, json!({ "id": "id-1", "message": "said \"so\" (at /input/3)" })),
            (ErrorShape::Jina, json!({ "detail": "said \"so\" (at /input/3)" })),
        ] {
            assert_eq!(shaped(&problem, shape), document);
        }
        assert_eq!(shaped(&problem, ErrorShape::Problem)["pointer"], "/input/3");
        // The whole body is no place to name.
        for whole in [None, Some("")] {
            let problem = rejection(400, "x", whole);
            assert_eq!(shaped(&problem, ErrorShape::OpenAi)["error"]["param"], Value::Null);
            assert_eq!(shaped(&problem, ErrorShape::Jina)["detail"], "said \"so\"");
        }
    }

    #[test]
    fn kinds_go_by_status() {
        for (code, openai, tei) in [
            ("bad-request", "invalid_request_error", "validation"),
            ("unauthenticated", "authentication_error", "validation"),
            ("forbidden", "permission_error", "validation"),
            ("function-not-found", "invalid_request_error", "validation"),
            ("method-not-allowed", "invalid_request_error", "validation"),
            ("body-too-large", "invalid_request_error", "validation"),
            ("queue-full", "rate_limit_error", "overloaded"),
            ("concurrency-limit", "rate_limit_error", "overloaded"),
            ("plugin-trap", "server_error", "backend"),
            ("model-failed", "server_error", "backend"),
            ("draining", "server_error", "unhealthy"),
            ("device-memory", "server_error", "unhealthy"),
            ("queue-timeout", "server_error", "backend"),
            ("internal", "server_error", "backend"),
        ] {
            let problem = Problem::new(code, "x", "1");
            assert_eq!(shaped(&problem, ErrorShape::OpenAi)["error"]["type"], openai, "{code}");
            assert_eq!(shaped(&problem, ErrorShape::Tei)["error_type"], tei, "{code}");
        }
        assert_eq!(shaped(&rejection(400, "empty-documents", None), ErrorShape::Tei)["error_type"], "empty");
        assert_eq!(shaped(&rejection(422, "tokenizer", None), ErrorShape::Tei)["error_type"], "tokenizer");
    }

    #[test]
    fn pointers_become_parameters() {
        for (pointer, expected) in
            [("/a", "a"), ("/a/b/0/c", "a.b[0].c"), ("/0/a", "[0].a"), ("/a~1b/~0", "a/b.~"), ("/a/01x", "a.01x")]
        {
            assert_eq!(parameter(pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn status_and_headers_are_the_same_in_each() {
        let shapes = [ErrorShape::Problem, ErrorShape::OpenAi, ErrorShape::Tei, ErrorShape::Cohere, ErrorShape::Jina];
        for (code, status, _) in TABLE {
            for shape in shapes {
                let response = Problem::new(code, "x", "1").into_response_as(shape);
                assert_eq!(response.status(), status, "{code}");
            }
        }
        let retry_after = Duration::from_secs(2);
        for shape in shapes {
            let response = Problem::of(&InvokeError::Draining { retry_after }, "1").into_response_as(shape);
            assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"2".parse().unwrap()));
        }
    }
}
