//! A whole invocation, natively: validate, preprocess, a made-up model, postprocess.

use serde_json::{Value, json};
use tenon_embeddings::Embeddings;
use tenon_sdk::native::{Sent, configure};
use tenon_sdk::{
    Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor, Validation, text,
};

/// One token for each word, its length; a model that makes a vector of the first two tokens.
fn stand_in() {
    text::tokenize_with(|text| text.split(' ').map(|word| word.len() as i64).collect());
    configure(&[("model", "words"), ("max_tokens", "3"), ("dimensions", "2")]);
}

fn stand_in_model(inference: &Inference) -> Outputs {
    let tensor = |name: &str| inference.question().tensor(name).expect(name);
    let ids = tensor("input_ids").rows::<i64>().expect("INT64");
    for (name, value) in [("attention_mask", 1), ("token_type_ids", 0)] {
        assert_eq!(tensor(name).lengths(), tensor("input_ids").lengths());
        assert!(tensor(name).values::<i64>().expect("INT64").iter().all(|found| *found == value), "{name}");
    }
    let vectors: Vec<f32> = ids.iter().flat_map(|row| [row[0] as f32, *row.get(1).unwrap_or(&0) as f32]).collect();
    Outputs::of([("embedding", Tensor::fixed(&[ids.len() as u64, 2], &vectors).expect("a row for each text"))])
}

fn at(path: &str, body: Value) -> Result<Sent, Rejection> {
    let request = Request { path: path.to_owned(), ..Request::post(body.to_string()) };
    let mut plugin = Embeddings::default();
    plugin.validate(&request)?;
    let Step::Infer(inferences) = plugin.preprocess(&request)? else { panic!("answered without a model") };
    let outputs = inferences.iter().map(stand_in_model).collect();
    match plugin.postprocess(&request, outputs)? {
        Step::Respond(response) => Ok(response.sent()),
        Step::Infer(_) => panic!("asked again"),
    }
}

fn json_at(path: &str, body: Value) -> Value {
    serde_json::from_slice(&at(path, body).expect("an answer").body).expect("JSON")
}

#[test]
fn texts_as_openai_answers() {
    stand_in();
    let answer = json_at("/v1/embeddings", json!({"input": ["aaa bbbb", "c"], "model": "text-embedding-3-small"}));
    let entry = |index: u64, vector: Value| json!({"object": "embedding", "index": index, "embedding": vector});
    assert_eq!(
        answer,
        json!({"object": "list", "data": [entry(0, json!([0.6, 0.8])), entry(1, json!([1.0, 0.0]))], "model": "words",
            "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    );
    let one = json_at("", json!({"input": "c", "encoding_format": "base64"}));
    assert_eq!(one["data"], json!([entry(0, json!("AACAPwAAAAA="))]));
}

#[test]
fn tokens_go_to_the_model_as_they_are() {
    stand_in();
    let one = json_at("", json!({"input": [3, 4]}));
    assert_eq!((&one["data"][0]["embedding"], &one["usage"]["prompt_tokens"]), (&json!([0.6, 0.8]), &json!(2)));
    let two = json_at("", json!({"input": [[3, 4], [7]]}));
    assert_eq!(two["data"][1]["embedding"], json!([1.0, 0.0]));
    assert_eq!(two["usage"]["total_tokens"], 3);
}

#[test]
fn texts_as_text_embeddings_inference_answers() {
    stand_in();
    assert_eq!(json_at("/embed", json!({"inputs": "aaa bbbb"})), json!([[0.6, 0.8]]));
    assert_eq!(json_at("/embed", json!({"inputs": ["aaa bbbb"], "normalize": false})), json!([[3.0, 4.0]]));
    let told = at("/embed", json!({"inputs": ["a", "b c"]})).unwrap();
    assert_eq!(told.headers, [("x-compute-tokens".to_owned(), "3".to_owned())]);
}

#[test]
fn long_texts_are_cut_only_where_somebody_says_so() {
    stand_in();
    let long = json!({"input": ["a", "a b c d"], "inputs": "a b c d"});
    let refused = at("", long.clone()).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (400, "too-many-tokens"));
    assert_eq!(refused.pointer.as_deref(), Some("/input/1"));
    let refused = at("/embed", long.clone()).unwrap_err();
    assert_eq!((refused.status, refused.pointer.as_deref()), (413, Some("/inputs")));
    let mut told = long.clone();
    told["truncate"] = true.into();
    assert!(at("/embed", told).is_ok());
    configure(&[("auto_truncate", "true"), ("max_tokens", "3"), ("dimensions", "2")]);
    assert_eq!(json_at("", long)["usage"]["total_tokens"], 4);
}

#[test]
fn it_answers_the_same_without_validate() {
    stand_in();
    let request = Request::post(r#"{"input": "aa b"}"#);
    let mut plugin = Embeddings::default();
    let Step::Infer(inferences) = plugin.preprocess(&request).unwrap() else { panic!("answered without a model") };
    let outputs = inferences.iter().map(stand_in_model).collect();
    let Step::Respond(response) = plugin.postprocess(&request, outputs).unwrap() else { panic!("asked again") };
    assert_eq!(response.sent().status, 200);
}
