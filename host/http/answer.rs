//! Wire out: from an `Outcome` to a response.

use std::{fmt::Write as _, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};

use super::{
    handle::Head,
    problem::{Problem, code},
};
use crate::{
    function::{ErrorShape, InvokeError, Outcome},
    invocation::{self, Rejection, Stage},
};

/// Writes an outcome: the plugin's answer, its refusal, or a problem, these in `shape`, and what every answer of a function
/// tells.
pub(super) fn write(outcome: Outcome, head: &Head, shape: ErrorShape) -> Response<Body> {
    write_as(outcome, head, |error| match error {
        InvokeError::Rejected(rejection) => refusal(rejection, head, shape),
        error => Problem::of(&error, &head.id).into_response_as(shape),
    })
}

/// The same, with errors as somebody else writes them.
pub(super) fn write_as(
    outcome: Outcome,
    head: &Head,
    refuse: impl FnOnce(InvokeError) -> Response<Body>,
) -> Response<Body> {
    // Only where somebody wants to know: a refusal's code is text of its own.
    let report = outcome.report.map(|report| (report, outcome.result.as_ref().map_or_else(code, |_| String::new())));
    let mut response = match outcome.result {
        Ok(answer) => plugin_answer(answer),
        Err(error) => refuse(error),
    };
    let headers = response.headers_mut();
    if let Some(revision) = outcome.revision {
        headers.insert("x-tenon-revision", HeaderValue::from(revision));
    }
    headers.insert("x-tenon-cache", HeaderValue::from_static(outcome.cache));
    // Letters and digits are always a valid value; where no function was found there is nothing to tell.
    let served = outcome.revision.is_some() || !outcome.stages.is_empty();
    if let Some(timing) =
        served.then(|| HeaderValue::try_from(timing(&outcome.stages, outcome.rows, head)).ok()).flatten()
    {
        headers.insert("server-timing", timing);
    }
    if outcome.trace != head.trace {
        response.extensions_mut().insert(outcome.trace);
    }
    if let Some((report, code)) = report {
        report.answered(response.status().as_u16(), code);
    }
    response
}

/// The stages that ended; the whole where none did, as at the door.
fn timing(stages: &[(Stage, Duration)], rows: Option<(u64, u64)>, head: &Head) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut timing = String::new();
    for (stage, time) in stages {
        let comma = if timing.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(timing, "{comma}{};dur={:.3}", stage.name(), milliseconds(*time));
    }
    if let Some((asked, known)) = rows {
        let comma = if timing.is_empty() { "" } else { ", " };
        let _ = write!(timing, "{comma}rows;desc=\"{known} of {asked} known\"");
    }
    if timing.is_empty() {
        let _ = write!(timing, "total;dur={:.3}", milliseconds(head.arrived.elapsed()));
    }
    timing
}

fn plugin_answer(answer: invocation::Response) -> Response<Body> {
    let invocation::Response { status, content_type, headers, body, charge } = answer;
    // The charge lives as long as the body: a slow reader's answer is still held for the invocation.
    let body = bytes::Bytes::from_owner(Charged { body, _charge: charge });
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    own_headers(&mut response, headers, content_type);
    response
}

struct Charged {
    body: bytes::Bytes,
    _charge: Option<crate::account::Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn refusal(mut rejection: Box<Rejection>, head: &Head, shape: ErrorShape) -> Response<Body> {
    let (status, headers, charge) = (rejection.status, std::mem::take(&mut rejection.headers), rejection.charge.take());
    let (content_type, body) = match rejection.body.take() {
        Some(own) => own,
        None => {
            let (content_type, document) = Problem::of(&InvokeError::Rejected(rejection), &head.id).shaped(shape);
            (content_type.into(), document.into())
        }
    };
    let mut response = Response::new(Body::from(bytes::Bytes::from_owner(Charged { body, _charge: charge })));
    own_headers(&mut response, headers, content_type);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

/// The plugin's headers. The sandbox has checked names and values; what http would refuse all the same is left out.
fn own_headers(response: &mut Response<Body>, headers: Vec<(String, String)>, content_type: String) {
    let target = response.headers_mut();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            target.append(name, value);
        }
    }
    if let Ok(content_type) = HeaderValue::try_from(content_type) {
        target.insert(header::CONTENT_TYPE, content_type);
    }
}
