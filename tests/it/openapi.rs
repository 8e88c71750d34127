//! What the host answers, against what its OpenAPI documents say that it answers.

use serde_json::Value;

use crate::{
    deploying::{answer_of, stamped},
    support::{Served, TestHost},
};

const FUNCTION: &str = "shop/stamp";

/// What is wrong with a value, if anything: fields that nobody tells of, fields that are missing, other types.
fn flaw(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return flaw(document, document.pointer(&reference[1..]).unwrap(), value);
    }
    let flaw = |schema, value| flaw(document, schema, value);
    if let Some(one) = schema["oneOf"].as_array() {
        let flaws: Vec<_> = one.iter().map(|schema| flaw(schema, value)).collect();
        return if flaws.contains(&None) { None } else { flaws.into_iter().flatten().next() };
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    let kinds = schema["type"].as_str().map(|kind| vec![kind]).unwrap_or_else(|| {
        schema["type"].as_array().into_iter().flatten().map(|kind| kind.as_str().unwrap()).collect()
    });
    if !kinds.is_empty() && !kinds.into_iter().any(is) {
        return Some(format!("{value} is not {}", schema["type"]));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        return Some(format!("{value} is none of {known:?}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| flaw(&schema["items"], item));
    }
    let (fields, known) = (value.as_object()?, schema["properties"].as_object());
    let missing = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
    if let Some(name) = missing.into_iter().find(|name| !fields.contains_key(*name)) {
        return Some(format!("{name} is missing: {value}"));
    }
    let Some(known) = known else {
        let each = &schema["additionalProperties"];
        return each.is_object().then(|| fields.values().find_map(|field| flaw(each, field))).flatten();
    };
    fields.iter().find_map(|(name, field)| match known.get(name) {
        Some(schema) => flaw(schema, field).map(|wrong| format!("{name}: {wrong}")),
        None => Some(format!("nobody tells of {name}")),
    })
}

/// Asks all that can be read, and compares.
async fn compare(host: &Served, document: &Value, base: &str, places: &[(&str, &str)]) -> usize {
    let mut compared = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let filled = places.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        // A call's answer is the function's own; what is known of a deployment is looked at by its own tests.
        if schema.is_null() || filled.contains('{') {
            continue;
        }
        let asked = host.client.get(format!("{base}{filled}")).bearer_auth(host.token()).send().await.unwrap();
        let (status, text) = (asked.status(), asked.text().await.unwrap());
        assert_eq!(status, 200, "{filled}: {text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(flaw(document, schema, &value), None, "{filled}: {value}");
        compared += 1;
    }
    compared
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_told() {
    let host = TestHost::new().models(&["identity"]).start().await;
    host.deployed(FUNCTION, "?promote=true", &stamped(1), 1).await;
    assert_eq!(host.stamp(FUNCTION).await.text(), answer_of(1));
    let body = serde_json::json!({ "name": "a", "scopes": ["invoke"] });
    let key = host.asks("POST", "/admin/v1/tenants/shop/keys", Some(body), &host.token()).await.json();
    let data = host.get("/openapi.json").await;
    let control = host.control("/openapi.json").await;
    assert_eq!((data.header("content-type"), control.header("content-type")), ("application/json", "application/json"));
    let (data, control) = (data.json(), control.json());
    assert_eq!(flaw(&control, &control["components"]["schemas"]["NewKey"], &key), None, "{key}");
    let places = [("{tenant}", "shop"), ("{function}", "stamp"), ("{model}", "identity"), ("{version}", "1")];
    let places_of_data = &places[2..];
    assert!(compare(&host, &data, &host.base, places_of_data).await >= 8);
    assert!(compare(&host, &control, &host.control, &places).await >= 12);
    let wrong = serde_json::json!({ "functions": [{ "tenant": "a" }] });
    let schema = &control["paths"]["/admin/v1/functions"]["get"]["responses"]["200"]["content"]["application/json"];
    assert!(flaw(&control, &schema["schema"], &wrong).is_some());
}
