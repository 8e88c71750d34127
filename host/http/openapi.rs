//! How one speaks to each plane, as OpenAPI 3.1: `/openapi.json`. The documents lie in the folder beside this file, and its
//! tests hold them against routes and errors. Refuses to make them of the code: what a person wrote reads better.

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};

const DATA: &str = include_str!("openapi/data.json");
const CONTROL: &str = include_str!("openapi/control.json");

/// The data plane's.
pub(super) async fn data() -> Response<Body> {
    document(DATA)
}

/// The control plane's.
pub(super) async fn control() -> Response<Body> {
    document(CONTROL)
}

fn document(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
