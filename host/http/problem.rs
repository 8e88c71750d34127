//! THE table: what each error is over HTTP. Status, code and title stand here and nowhere else; the shape is
//! `application/problem+json` (RFC 9457), or, for a function's callers, what `shape` makes of it.

mod shape;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;

use crate::{
    account::Holder,
    function::{AccessError, BodyError, EngineError, ErrorShape, InferError, InvokeError, ModelError, SandboxError},
};

/// An error as the caller sees it.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: String,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

/// Codes with status and title, in the order of DESIGN section 8.
pub(super) const TABLE: [(&str, u16, &str); 43] = [
    ("bad-request", 400, "The request is malformed"),
    ("unauthenticated", 401, "A token is needed"),
    ("forbidden", 403, "This is not allowed"),
    ("not-found", 404, "There is nothing here"),
    ("function-not-found", 404, "There is no such function"),
    ("revision-not-found", 404, "The function has no such ready revision"),
    ("model-not-found", 404, "There is no such model or version"),
    ("tenant-not-found", 404, "There is no such tenant"),
    ("key-not-found", 404, "There is no such key"),
    ("deployment-not-found", 404, "There is no such deployment"),
    ("method-not-allowed", 405, "The method is not allowed here"),
    ("body-timeout", 408, "The body did not come in time"),
    ("conflict", 409, "Things do not stand that way"),
    ("quota", 409, "The tenant may have no more"),
    ("model-refused", 409, "The models were not changed"),
    ("model-in-use", 409, "Functions are bound to the model"),
    ("model-busy", 503, "Another change of models is in progress"),
    ("body-too-large", 413, "The body is too large"),
    ("unsupported-coding", 415, "The body is packed in a way that is not understood"),
    ("too-many-rows", 413, "The request brings too many rows"),
    ("digest-mismatch", 422, "The content is not what was announced"),
    ("invalid", 422, "That makes no sense"),
    ("rate-limited", 429, "Too many requests"),
    ("concurrency-limit", 429, "Too many invocations at once"),
    ("too-many-followers", 429, "Too many follow logs"),
    ("queue-full", 429, "A model's queue is full"),
    ("tenant-memory", 429, "The tenant's memory is used up"),
    ("plugin-trap", 502, "The plugin trapped"),
    ("plugin-contract", 502, "The plugin broke the contract"),
    ("plugin-memory", 502, "The plugin used all its memory"),
    ("plugin-deadline", 504, "The plugin used all its processor time"),
    ("model-failed", 502, "The model failed on this request's rows"),
    ("host-memory", 503, "The host's memory is used up"),
    ("device-memory", 503, "The device's memory is used up"),
    ("model-unavailable", 503, "The model is not available"),
    ("deploy-busy", 503, "Too many deployments wait"),
    ("registry-unavailable", 503, "The registry cannot be reached"),
    ("draining", 503, "This host is stopping"),
    ("deadline-exceeded", 504, "There was no answer in time"),
    ("queue-timeout", 504, "The rows waited too long for the model"),
    ("not-offered", 501, "This host does not offer that"),
    ("not-ready", 503, "This host is not ready"),
    ("internal", 500, "Something is wrong inside Tenon"),
];

/// The most that a detail of ours says: some name what the caller sent, and nobody is charged for them.
const MAX_DETAIL_BYTES: usize = 4 << 10;

impl Problem {
    /// A problem with one of the table's codes.
    pub(super) fn new(code: &str, detail: impl Into<String>, request_id: &str) -> Self {
        let found = TABLE.iter().find(|(known, ..)| *known == code);
        let (code, status, title) = *found.unwrap_or(&TABLE[TABLE.len() - 1]);
        let mut detail: String = detail.into();
        if detail.len() > MAX_DETAIL_BYTES {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
            detail.shrink_to_fit();
        }
        Self {
            kind: format!("urn:tenon:problem:{code}"),
            title,
            status,
            detail,
            code: code.into(),
            request_id: request_id.into(),
            pointer: None,
            retry_after: None,
        }
    }

    /// What ended an invocation, but for a plugin's own refusal, which has its own status and code.
    pub(super) fn of(error: &InvokeError, request_id: &str) -> Self {
        let (code, retry_after) = code_of(error);
        let detail = match error {
            // Never the inner text: it is in the log, under the request's id.
            InvokeError::Internal(_) | InvokeError::Sandbox(SandboxError::Internal(_)) => {
                "the log tells more, under this request's id".to_owned()
            }
            error => error.to_string(),
        };
        let mut problem = Self::new(code, detail, request_id);
        problem.retry_after = retry_after;
        if let InvokeError::Rejected(rejection) = error {
            problem.status = rejection.status;
            problem.title = "The function refused the request";
            problem.kind = format!("urn:tenon:problem:rejection:{}", rejection.code);
            problem.code.clone_from(&rejection.code);
            problem.detail.clone_from(&rejection.detail);
            problem.pointer.clone_from(&rejection.pointer);
        }
        problem
    }

    /// Why models were not changed. Operators read this: it may name the host's files.
    pub(super) fn of_change(error: &ModelError, request_id: &str) -> Self {
        let code = match error {
            ModelError::NotFound(_) => "model-not-found",
            ModelError::Refused(_) | ModelError::Misfit(_) => "model-refused",
            ModelError::InUse { .. } => "model-in-use",
            ModelError::Busy(_) => "model-busy",
            ModelError::Stopped(_) => "draining",
            ModelError::Internal(_) => "internal",
        };
        let mut problem = Self::new(code, error.to_string(), request_id);
        problem.retry_after = matches!(error, ModelError::Busy(_)).then_some(MODEL_RETRY);
        problem
    }

    /// Why an operator did not get the model that was asked for.
    pub(super) fn of_model(error: &EngineError, request_id: &str) -> Self {
        let code = match error {
            EngineError::NotFound { .. } => "model-not-found",
            EngineError::Reference(_) => "bad-request",
            EngineError::Failed { .. } | EngineError::Unloaded { .. } => "model-unavailable",
            EngineError::Config(_) | EngineError::Repository { .. } => "internal",
        };
        Self::new(code, error.to_string(), request_id)
    }

    /// Tells an operator who met others to come again.
    pub(super) fn comes_again(&mut self) {
        self.retry_after = Some(MODEL_RETRY);
    }

    /// The status, for who tells errors in another way.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// What is wrong, likewise.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The document.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The document in a shape of a caller's choice, and what it is.
    pub(super) fn shaped(&self, shape: ErrorShape) -> (&'static str, Vec<u8>) {
        shape::write(self, shape)
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response<Body> {
        self.into_response_as(ErrorShape::Problem)
    }

    /// The answer in a shape of a caller's choice: status and headers are the same in each.
    pub(super) fn into_response_as(self, shape: ErrorShape) -> Response<Body> {
        let (content_type, document) = self.shaped(shape);
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: "0" would invite the caller back at once.
            let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The code of what ended an invocation, a plugin's own included.
pub(super) fn code(error: &InvokeError) -> String {
    match error {
        InvokeError::Rejected(rejection) => rejection.code.clone(),
        error => code_of(error).0.into(),
    }
}

/// When an operator who met another change should come again.
const MODEL_RETRY: Duration = Duration::from_secs(5);
/// When a caller refused for memory should come again.
const MEMORY_RETRY: Duration = Duration::from_secs(1);

/// An error's code, and when to come again where that helps.
fn code_of(error: &InvokeError) -> (&'static str, Option<Duration>) {
    match error {
        InvokeError::FunctionNotFound { .. } => ("function-not-found", None),
        InvokeError::RevisionNotFound { .. } => ("revision-not-found", None),
        InvokeError::Body(BodyError::TooLarge { .. }) => ("body-too-large", None),
        InvokeError::Body(BodyError::Broken(_)) | InvokeError::Rejected(_) => ("bad-request", None),
        InvokeError::Malformed(_) => ("bad-request", None),
        InvokeError::TooLarge(_) => ("body-too-large", None),
        InvokeError::NoModel { known: false, .. } => ("model-not-found", None),
        InvokeError::NoModel { known: true, .. } => ("model-unavailable", Some(MEMORY_RETRY)),
        InvokeError::TooManyRows { .. } => ("too-many-rows", None),
        InvokeError::Concurrency { retry_after, .. } | InvokeError::TenantConcurrency { retry_after, .. } => {
            ("concurrency-limit", Some(*retry_after))
        }
        InvokeError::TenantLimit { retry_after, .. } | InvokeError::FunctionConcurrency { retry_after, .. } => {
            ("concurrency-limit", Some(*retry_after))
        }
        InvokeError::RateLimited { retry_after, .. } => ("rate-limited", Some(*retry_after)),
        InvokeError::Access(error) => (access(error), None),
        InvokeError::Draining { retry_after } => ("draining", Some(*retry_after)),
        InvokeError::Deadline { .. } => ("deadline-exceeded", None),
        InvokeError::Contract(_) => ("plugin-contract", None),
        InvokeError::Memory(over) => match over.holder {
            Holder::Invocation => ("plugin-memory", None),
            Holder::Tenant => ("tenant-memory", Some(MEMORY_RETRY)),
            Holder::Host => ("host-memory", Some(MEMORY_RETRY)),
        },
        InvokeError::Sandbox(error) => match error {
            SandboxError::Trap { .. } => ("plugin-trap", None),
            SandboxError::Contract(_) => ("plugin-contract", None),
            SandboxError::Memory(_) => ("plugin-memory", None),
            SandboxError::Cpu { .. } => ("plugin-deadline", None),
            SandboxError::Internal(_) => ("internal", None),
        },
        InvokeError::Infer(error) => infer(error),
        InvokeError::Internal(_) => ("internal", None),
    }
}

/// The code of why somebody is not let in.
pub(super) fn access(error: &AccessError) -> &'static str {
    match error {
        AccessError::Missing | AccessError::Invalid => "unauthenticated",
        AccessError::Forbidden(_) => "forbidden",
    }
}

fn infer(error: &InferError) -> (&'static str, Option<Duration>) {
    match error {
        InferError::TooManyRows { .. } => ("too-many-rows", None),
        InferError::QueueFull { retry_after, .. } => ("queue-full", Some(*retry_after)),
        InferError::QueueTimeout { .. } => ("queue-timeout", None),
        InferError::Deadline { .. } => ("deadline-exceeded", None),
        InferError::ModelFailed { .. } => ("model-failed", None),
        InferError::Unavailable { .. } => ("model-unavailable", Some(MEMORY_RETRY)),
        InferError::DeviceMemory { retry_after, .. } => ("device-memory", *retry_after),
        InferError::Memory(_) => ("plugin-memory", None),
        _ => ("plugin-contract", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_an_error_is_in_the_table() {
        for (code, status, _) in TABLE {
            assert_eq!(TABLE.iter().filter(|(other, ..)| *other == code).count(), 1, "{code}");
            assert!((400..600).contains(&status));
            let problem = Problem::new(code, "", "");
            assert_eq!((problem.status, &problem.code[..]), (status, code));
        }
        assert_eq!(Problem::new("unheard-of", "", "").code, "internal");
    }

    #[test]
    fn inner_texts_stay_inside() {
        let error = InvokeError::Internal("secret".into());
        assert!(!serde_json::to_string(&Problem::of(&error, "1")).unwrap().contains("secret"));
    }

    #[test]
    fn what_a_caller_sent_is_not_said_back_at_length() {
        let (tenant, function) = ("ä".repeat(MAX_DETAIL_BYTES), String::new());
        let problem = Problem::of(&InvokeError::FunctionNotFound { tenant, function }, "");
        assert!(problem.to_bytes().len() < MAX_DETAIL_BYTES + 500 && problem.detail.contains("ää"));
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        for (milliseconds, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let retry_after = Duration::from_millis(milliseconds);
            let problem = Problem::of(&InvokeError::Draining { retry_after }, "");
            assert_eq!(problem.into_response().headers()[header::RETRY_AFTER], seconds);
        }
    }
}
