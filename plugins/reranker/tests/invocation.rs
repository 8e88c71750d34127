//! A whole invocation, natively: validate, preprocess, a made-up model, postprocess.

use serde_json::{Value, json};
use tenon_reranker::Reranker;
use tenon_sdk::native::configure;
use tenon_sdk::{
    Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor, Validation, text,
};

/// One token for each word, its length; a model that makes a vector of the first two tokens.
fn stand_in_tokenizer() {
    text::tokenize_with(|text| text.split(' ').map(|word| word.len() as i64).collect());
}

fn stand_in_model(inference: &Inference) -> Outputs {
    let ids = inference.question().tensor("input_ids").expect("input_ids").rows::<i64>().expect("INT64");
    let vectors: Vec<f32> = ids.iter().flat_map(|row| [row[0] as f32, *row.get(1).unwrap_or(&0) as f32]).collect();
    Outputs::of([("embedding", Tensor::fixed(&[ids.len() as u64, 2], &vectors).expect("a row for each text"))])
}

fn asked(step: Step) -> Inference {
    match step {
        Step::Infer(mut inferences) => inferences.pop().expect("one inference"),
        Step::Respond(_) => panic!("answered without a model"),
    }
}

fn answer(step: Step) -> Value {
    match step {
        Step::Respond(response) => serde_json::from_slice(&response.sent().body).expect("JSON"),
        Step::Infer(_) => panic!("asked again"),
    }
}

fn rerank(plugin: &mut Reranker, request: &Request) -> Result<Value, Rejection> {
    let inference = asked(plugin.preprocess(request)?);
    assert_eq!(inference.question().model(), "encoder");
    plugin.postprocess(request, vec![stand_in_model(&inference)]).map(answer)
}

fn example() -> Request {
    let body = json!({"query": "aa b", "documents": ["b aa", "aaaa bb c", {"text": "aa bb"}],
                      "return_documents": true, "top_n": 2});
    Request::post(body.to_string())
}

#[test]
fn the_best_document_comes_first() {
    stand_in_tokenizer();
    configure(&[("model", "words")]);
    let request = example();
    let mut plugin = Reranker::default();
    plugin.validate(&request).unwrap();
    let answer = rerank(&mut plugin, &request).unwrap();
    assert_eq!(answer["model"], "words");
    assert_eq!(answer["usage"]["tokens"], 9);
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    let best = &answer["results"][0];
    assert_eq!((&best["index"], &best["document"]["text"]), (&json!(1), &json!("aaaa bb c")));
    assert!((best["relevance_score"].as_f64().unwrap() - 1.0).abs() < 1e-6);
}

#[test]
fn it_answers_the_same_without_validate() {
    stand_in_tokenizer();
    let request = example();
    let mut validated = Reranker::default();
    validated.validate(&request).unwrap();
    let with = rerank(&mut validated, &request).unwrap();
    assert_eq!(with, rerank(&mut Reranker::default(), &request).unwrap());
}

#[test]
fn texts_are_cut_at_the_configured_tokens() {
    stand_in_tokenizer();
    configure(&[("max_tokens", "3")]);
    let request = Request::post(r#"{"query": "a b c d e", "documents": ["a b", "a b c d"]}"#);
    let inference = asked(Reranker::default().preprocess(&request).unwrap());
    for name in ["input_ids", "attention_mask", "token_type_ids"] {
        let lengths = inference.question().tensor(name).unwrap().lengths();
        assert_eq!(lengths, Some(vec![3, 2, 3]), "{name}");
    }
}

#[test]
fn limits_come_from_the_configuration() {
    configure(&[("max_documents", "1")]);
    let request = Request::post(r#"{"query": "q", "documents": ["a", "b"]}"#);
    let rejection = Reranker::default().preprocess(&request).unwrap_err();
    assert_eq!(rejection.code, "too-many-documents");
}
