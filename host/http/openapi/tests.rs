//! The documents against what the host does: routes, errors, the fields of orders and of what is told.

use std::collections::BTreeSet;

use axum::http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    http::{cache, control, data, functions, models, oip, problem, tenants},
    registry::{Split, TenantLimits, TenantSettings},
    telemetry::{Line, LineKind},
};

fn documents() -> [(&'static str, Value); 2] {
    [("data", DATA), ("control", CONTROL)].map(|(name, text)| (name, serde_json::from_str(text).expect(name)))
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    all.collect()
}

/// Everything in a document that has this key.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    if let Some(object) = value.as_object() {
        found.extend(object.get(key));
        object.values().for_each(|value| all(value, key, found));
    }
    value.as_array().into_iter().flatten().for_each(|value| all(value, key, found));
}

fn names(values: &Value) -> BTreeSet<&str> {
    match values {
        Value::Object(object) => object.keys().map(String::as_str).collect(),
        values => values.as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect(),
    }
}

#[test]
fn every_route_is_in_its_document_and_back() {
    let listed = |routes: &[(Method, String)]| -> BTreeSet<(String, String)> {
        routes.iter().map(|(method, path)| (method.to_string(), path.clone())).collect()
    };
    let data = [data::routes().listed().to_vec(), oip::listed()].concat();
    let routes = [listed(&data), listed(control::routes(0).listed())];
    for ((name, document), routes) in documents().iter().zip(routes) {
        let told: BTreeSet<_> = operations(document).into_iter().map(|(method, path, _)| (method, path)).collect();
        assert_eq!(told, routes, "{name}");
    }
}

#[test]
fn every_code_is_there_under_its_status() {
    for (name, document) in documents() {
        let codes: Vec<_> = problem::TABLE.iter().map(|(code, ..)| *code).collect();
        assert_eq!(document["components"]["schemas"]["Code"]["enum"], json!(codes), "{name}");
        for (method, path, operation) in operations(&document) {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let Some(text) = answer["description"].as_str().filter(|_| status.starts_with(['4', '5'])) else {
                    continue;
                };
                let said = text.split(", ").filter_map(|code| code.strip_prefix('`')?.strip_suffix('`'));
                for code in said {
                    let known = problem::TABLE.iter().find(|(known, ..)| *known == code);
                    assert_eq!(known.map(|row| row.1.to_string()), Some(status.clone()), "{method} {path}: {code}");
                }
            }
        }
    }
}

#[test]
fn a_document_is_whole() {
    for (name, document) in documents() {
        is_whole(name, &document);
    }
}

fn is_whole(name: &str, document: &Value) {
    assert_eq!(
        (&document["openapi"], &document["info"]["version"]),
        (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let mut references = Vec::new();
    all(document, "$ref", &mut references);
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{name}: {reference}");
    }
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| match parameter["$ref"].as_str() {
            Some(reference) => document.pointer(&reference[1..]).unwrap(),
            None => parameter,
        });
        let told: BTreeSet<_> =
            parameters.filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap()).collect();
        let wanted = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(told, wanted.collect(), "{method} {path}");
    }
}

/// The fields that an order may have: serde tells them to whoever sends another.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let refused = serde_json::from_value::<T>(json!({ "": 0 })).err().expect("an order refuses what it does not know");
    let text = refused.to_string();
    let known = text.split_once("expected").expect(&text).1;
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn orders_have_the_fields_that_the_host_reads() {
    let [_, (_, document)] = documents();
    let schemas = &document["components"]["schemas"];
    for (schema, fields) in [
        ("Why", fields::<functions::Why>()),
        ("TrafficOrder", fields::<functions::Traffic>()),
        ("TenantOrder", fields::<tenants::Set>()),
        ("TenantSettings", fields::<TenantSettings>()),
        ("TenantLimits", fields::<TenantLimits>()),
        ("KeyOrder", fields::<tenants::Wanted>()),
        ("Rotation", fields::<tenants::Rotation>()),
        ("LoadOrder", fields::<models::Load>()),
        ("UnloadOrder", fields::<models::Unload>()),
        ("InvalidateOrder", fields::<cache::Invalidate>()),
    ] {
        let told = names(&schemas[schema]["properties"]);
        assert_eq!(told, fields.iter().map(String::as_str).collect(), "{schema}");
        assert_eq!(schemas[schema]["additionalProperties"], false, "{schema}");
    }
}

#[test]
fn examples_of_orders_are_understood() {
    let [_, (_, document)] = documents();
    fn read<T: DeserializeOwned>(document: &Value, method: &str, end: &str) {
        let found = operations(document).into_iter().find(|(its, path, _)| its == method && path.ends_with(end));
        let example = found.expect(end).2["requestBody"]["content"]["application/json"]["example"].clone();
        serde_json::from_value::<T>(example).map(drop).unwrap_or_else(|error| panic!("{end}: {error}"));
    }
    read::<functions::Traffic>(&document, "PUT", "/traffic");
    read::<functions::Why>(&document, "POST", "/rollback");
    read::<tenants::Set>(&document, "PUT", "/tenants/{tenant}");
    read::<tenants::Wanted>(&document, "POST", "/{tenant}/keys");
    read::<tenants::Rotation>(&document, "POST", "/rotate");
    read::<models::Load>(&document, "POST", "/load");
    read::<models::Unload>(&document, "POST", "/unload");
    read::<cache::Invalidate>(&document, "POST", "/invalidate");
    let traffic = &document["paths"]["/admin/v1/functions/{tenant}/{function}/traffic"]["get"]["responses"]["200"];
    let split = traffic["content"]["application/json"]["example"]["split"].clone();
    serde_json::from_value::<Split>(split).unwrap();
}

#[test]
fn lines_and_problems_are_as_told() {
    let [_, (_, document)] = documents();
    let schemas = &document["components"]["schemas"];
    let line = Line::new(LineKind::Trap, "error", ("i".into(), 1), "x").with_backtrace("0: f");
    let problem: Value = serde_json::from_slice(&problem::Problem::new("internal", "x", "1").to_bytes()).unwrap();
    for (schema, told) in [("LogLine", serde_json::to_value(&line).unwrap()), ("Problem", problem)] {
        let (told, properties) = (names(&told), names(&schemas[schema]["properties"]));
        assert!(told.is_subset(&properties), "{schema}: {told:?}");
        assert!(names(&schemas[schema]["required"]).is_subset(&told), "{schema}: {told:?}");
    }
}

#[test]
fn an_operators_routes_are_in_the_document() {
    let routes: Vec<crate::http::Route> = serde_json::from_value(json!([
        { "path": "/rerank", "function": "demo/reranker", "methods": ["POST"], "errors": "tei" },
        { "path": "/old/{*rest}", "function": "demo/other" },
    ]))
    .unwrap();
    let mapped = Mapped::new(&routes).unwrap();
    let document: Value = serde_json::from_slice(&data(&mapped)).unwrap();
    let told = operations(&document);
    let find = |method: &str, path: &str| told.iter().find(|(its, at, _)| its == method && at == path);
    assert!(find("GET", "/rerank").is_none() && find("GET", "/old/{rest}").is_some());
    let (_, _, rerank) = find("POST", "/rerank").unwrap();
    assert_eq!(rerank["summary"], "Invoke `demo/reranker`");
    for (status, answer) in rerank["responses"].as_object().unwrap().iter().filter(|(status, _)| *status != "2XX") {
        let content = answer["content"].as_object().unwrap();
        assert_eq!(content["application/json"]["schema"]["$ref"], "#/components/schemas/TeiError", "{status}");
        assert!(!content.contains_key("application/problem+json"), "{status}");
    }
    let (_, _, other) = find("POST", "/old/{rest}").unwrap();
    let rest: Vec<_> = other["parameters"].as_array().unwrap().iter().filter(|it| it["in"] == "path").collect();
    assert_eq!(rest.len(), 1);
    is_whole("data with routes", &document);
    assert_eq!(data(&Mapped::default()), DATA.as_bytes());
}
