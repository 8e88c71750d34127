//! How one speaks to each plane, as OpenAPI 3.1: `/openapi.json`. The documents lie in the folder beside this file, and its
//! tests hold them against routes and errors. Refuses to make them of the code: what a person wrote reads better.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use serde_json::{Value, json};

use super::mapped::{Line, Mapped};
use crate::function::ErrorShape;

const DATA: &str = include_str!("openapi/data.json");
const CONTROL: &str = include_str!("openapi/control.json");

/// The operations of a function, which those of an operator's route are, too.
const CALLS: [(&str, &str); 2] = [("GET", "get"), ("POST", "post")];

/// The data plane's, with the operator's routes in it.
pub(super) fn data(mapped: &Mapped) -> Bytes {
    let read = if mapped.is_empty() { None } else { serde_json::from_str::<Value>(DATA).ok() };
    let Some(mut document) = read else { return Bytes::from_static(DATA.as_bytes()) };
    let components = json!({ "components": document["components"] });
    for (number, line) in mapped.lines().enumerate() {
        let own = document["paths"]["/v1/functions/{tenant}/{function}"].clone();
        let mut item = json!({});
        for (method, key) in CALLS {
            if line.methods.allowed().split(", ").any(|allowed| allowed == method) {
                item[key] = operation((own[key].clone(), &components), line, number + 1);
            }
        }
        document["paths"][line.shown()] = item;
    }
    // A document that was read can be written.
    serde_json::to_vec(&document).map_or_else(|_| Bytes::from_static(DATA.as_bytes()), Bytes::from)
}

/// A function's operation as that of a route: no tenant and function to be named, errors in the route's shape.
fn operation((mut operation, components): (Value, &Value), line: &Line, number: usize) -> Value {
    operation["operationId"] = format!("{}Route{number}", operation["operationId"].as_str().unwrap_or_default()).into();
    operation["summary"] = format!("Invoke `{}/{}`", line.tenant, line.function).into();
    operation["tags"] = json!(["routes"]);
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        let of_path = |parameter: &Value| {
            ["tenant", "function"].iter().any(|name| parameter["$ref"] == format!("#/components/parameters/{name}"))
        };
        parameters.retain(|parameter| !of_path(parameter));
        if line.has_tail() {
            parameters.push(json!({ "name": "rest", "in": "path", "required": true, "schema": { "type": "string" },
                "description": "The rest of the path, with slashes in it." }));
        }
    }
    let Some(schema) = line.errors.and_then(schema) else { return operation };
    let answers = operation["responses"].as_object_mut().into_iter().flatten();
    for (_, answer) in answers.filter(|(status, _)| !status.starts_with('2')) {
        // What all operations share is written out here: there it is in the shape of the others.
        if let Some(shared) = answer["$ref"].as_str().and_then(|pointer| components.pointer(&pointer[1..])) {
            *answer = shared.clone();
        }
        if let Some(content) = answer["content"].as_object_mut() {
            content.remove("application/problem+json");
            content.insert("application/json".into(), json!({ "schema": { "$ref": schema } }));
        }
    }
    operation
}

/// Where the document describes errors of another shape than its own.
fn schema(shape: ErrorShape) -> Option<&'static str> {
    match shape {
        ErrorShape::Problem => None,
        ErrorShape::OpenAi => Some("#/components/schemas/OpenAiError"),
        ErrorShape::Tei => Some("#/components/schemas/TeiError"),
        ErrorShape::Cohere => Some("#/components/schemas/CohereError"),
        ErrorShape::Jina => Some("#/components/schemas/JinaError"),
    }
}

/// The control plane's.
pub(super) async fn control() -> Response<Body> {
    document(Bytes::from_static(CONTROL.as_bytes()))
}

/// A document as an answer.
pub(super) fn document(text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
