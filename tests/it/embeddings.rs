//! Embeddings in a whole host: by OpenAI's own client (PyPI's `openai`; what it asks and expects is in `client.py`), by
//! bytes as it sends them, and as Text Embeddings Inference is asked. Vectors and tokens against an independent
//! implementation's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    programs,
    rerankers::Reference,
    routes::routed,
    support::{Served, TestHost, made},
};

/// What pip is told.
const PACKAGE: &str = "openai==3.52.0";
const PATH: &str = "/v1/embeddings";
/// Against vectors that PyTorch computed, in FP32.
const TOLERANCE: f32 = 1e-5;

/// Routes as docs/reranker.md shows them.
async fn host() -> Served {
    let routes = json!([
        { "path": PATH, "function": "demo/embeddings", "methods": ["POST"] },
        { "path": "/embed", "function": "demo/embeddings", "methods": ["POST"], "errors": "tei" },
        { "path": "/nobody/v1/embeddings", "function": "demo/nobody", "errors": "openai" },
    ]);
    let test = TestHost::new().minilm();
    test.place("demo", "embeddings", &made(".tenon/services/functions/demo/embeddings"));
    routed(test, routes).start().await
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let most = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(most < TOLERANCE, "{most}");
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn unpacked(value: &Value) -> Vec<f32> {
    let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_own_client() {
    let Some(mut python) = programs::python("openai", PACKAGE) else { return };
    let host = host().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/embeddings/client.py");
    python.arg(script).arg(&host.base).arg(made("tests/fixtures/minilm"));
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("well\n"), "{said}{error}");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_and_tokens_are_those_of_an_independent_implementation() {
    let host = host().await;
    let reference = Reference::read();
    let tokens = reference.tokens(0..reference.sentences.len());
    for (input, format) in [
        (json!(reference.sentences), "float"),
        (json!(reference.sentences), "base64"),
        (json!(reference.ids), "base64"),
    ] {
        let body = json!({ "input": input, "model": "minilm", "encoding_format": format });
        let answer = host.post(PATH, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("minilm")));
        for (index, (entry, expected)) in answer["data"].as_array().unwrap().iter().zip(&reference.vectors).enumerate()
        {
            assert_eq!((&entry["object"], &entry["index"]), (&json!("embedding"), &json!(index)));
            let vector = &entry["embedding"];
            close(&if format == "float" { numbers(vector) } else { unpacked(vector) }, expected);
        }
        assert_eq!(answer["data"].as_array().unwrap().len(), reference.sentences.len());
    }
    let embed = host.post("/embed", json!({ "inputs": reference.sentences, "normalize": true }).to_string()).await;
    assert_eq!(embed.header("x-compute-tokens"), tokens.to_string());
    let vectors = embed.json();
    assert_eq!(vectors.as_array().unwrap().len(), reference.sentences.len());
    vectors
        .as_array()
        .unwrap()
        .iter()
        .zip(&reference.vectors)
        .for_each(|(found, expected)| close(&numbers(found), expected));
    let one =
        host.post("/embed", json!({ "inputs": reference.sentences[3], "normalize": false }).to_string()).await.json();
    close(&numbers(&one[0]), &reference.vectors[3]);
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_as_openai_says_it() {
    let host = host().await;
    for (body, status, code, param) in [
        (json!({ "input": "" }), 400, "empty-input", json!("input")),
        (json!({ "input": [] }), 400, "empty-input", json!("input")),
        (json!({ "input": ["a", ""] }), 400, "empty-input", json!("input[1]")),
        (json!({ "input": ["a", 5] }), 400, "invalid-input", json!("input[1]")),
        (json!({ "input": null }), 400, "missing-input", json!("input")),
        (json!({ "input": [30_522] }), 400, "invalid-token", json!("input[0]")),
        (json!({ "input": [[101], [-1]] }), 400, "invalid-token", json!("input[1][0]")),
        (json!({ "input": vec![101; 257] }), 400, "too-many-tokens", json!("input")),
        (json!({ "input": ["a", "word ".repeat(300)] }), 400, "too-many-tokens", json!("input[1]")),
        (json!({ "input": "x".repeat(1 << 20) }), 400, "text-too-long", json!("input")),
        (json!({ "input": vec!["a"; 10_000] }), 400, "too-many-inputs", json!("input")),
        (json!({ "input": "a", "dimensions": 64 }), 400, "invalid-dimensions", json!("dimensions")),
        (json!({ "input": "a", "encoding_format": "hex" }), 400, "invalid-encoding-format", json!("encoding_format")),
        (json!([]), 400, "not-an-object", json!(null)),
        (json!({ "input": "x".repeat(9 << 20) }), 413, "body-too-large", json!(null)),
    ] {
        let answer = host.post(PATH, body.to_string()).await;
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{error}");
        assert_eq!(
            (&error["type"], answer.header("content-type")),
            (&json!("invalid_request_error"), "application/json")
        );
    }
    let gone = host.post("/nobody/v1/embeddings", "{}").await;
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("function-not-found")));
    let tei = host.post("/embed", r#"{"inputs": []}"#).await;
    assert_eq!((tei.status, &tei.json()["error_type"]), (400, &json!("empty")));
    assert_eq!(host.get(PATH).await.json()["error"]["code"], "method-not-allowed");
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_have_vectors_like_others_and_known_ones_are_the_same() {
    let host = host().await;
    let odd =
        [" ", "\u{0}\u{7f}\u{feff}", "Медове 蜂蜜 عسل शहद 🍯 mỹ", "e\u{301}\u{202e}x\u{202c}", &"x".repeat(30_000)];
    let ask = async || host.post(PATH, json!({ "input": odd, "encoding_format": "base64" }).to_string()).await;
    let first = ask().await;
    assert_eq!(first.status, 200, "{}", first.text());
    for entry in first.json()["data"].as_array().unwrap() {
        let vector = unpacked(&entry["embedding"]);
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    let again = ask().await;
    assert_eq!((again.header("x-tenon-cache"), &again.body), ("partial", &first.body));
    assert!(again.header("server-timing").contains("5 of 5 known"), "{}", again.header("server-timing"));
    host.all_back_to_zero().await;
}
