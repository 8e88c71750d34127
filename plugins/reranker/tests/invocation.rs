//! A whole invocation, natively: validate, preprocess, a made-up model, postprocess.

use serde_json::{Value, json};
use tenon_reranker::Reranker;
use tenon_sdk::native::{Sent, configure};
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
    let mut inferences = all_asked(step);
    assert_eq!(inferences.len(), 1);
    inferences.remove(0)
}

fn all_asked(step: Step) -> Vec<Inference> {
    match step {
        Step::Infer(inferences) => inferences,
        Step::Respond(_) => panic!("answered without a model"),
    }
}

/// Asks at a path, and gives the whole answer back.
fn at(path: &str, body: Value) -> Result<Sent, Rejection> {
    let request = Request { path: path.to_owned(), ..Request::post(body.to_string()) };
    let mut plugin = Reranker::default();
    plugin.validate(&request)?;
    let inferences = all_asked(plugin.preprocess(&request)?);
    let outputs = inferences.iter().map(stand_in_model).collect();
    match plugin.postprocess(&request, outputs)? {
        Step::Respond(response) => Ok(response.sent()),
        Step::Infer(_) => panic!("asked again"),
    }
}

fn json_at(path: &str, body: Value) -> Value {
    serde_json::from_slice(&at(path, body).expect("an answer").body).expect("JSON")
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

#[test]
fn each_service_is_answered_as_it_answers() {
    stand_in_tokenizer();
    configure(&[("model", "words")]);
    let documents = json!({"query": "aa b", "documents": ["b aa", "aaaa bb"], "top_n": 1, "return_documents": true,
        "model": "rerank-v3.5"});
    let document = json!({"text": "aaaa bb"});
    let best = |document: Option<&Value>| {
        let mut best = json!({"index": 1, "relevance_score": 1.0});
        document.into_iter().for_each(|document| best["document"] = document.clone());
        json!([best])
    };
    let usage = json!({"prompt_tokens": 6, "total_tokens": 6});
    let meta = |version: &str| {
        json!({"api_version": {"version": version}, "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 6, "output_tokens": 0}})
    };
    let answer = |path: &str| {
        let mut answer = json_at(path, documents.clone());
        let id = answer.as_object_mut().expect("an object").remove("id");
        (answer, id.is_some_and(|id| id.as_str().expect("text").starts_with("rerank-")))
    };
    let (with, without) = (best(Some(&document)), best(None));
    for (path, expected, named) in [
        ("", json!({"results": with, "model": "words", "usage": {"tokens": 6}}), false),
        ("/rerank", json!({"results": with, "model": "words", "usage": usage}), true),
        ("/jina/v1/rerank", json!({"object": "list", "results": with, "model": "words", "usage": usage}), false),
        ("/cohere/v1/rerank", json!({"results": with, "meta": meta("1")}), true),
        ("/v2/rerank", json!({"results": without, "meta": meta("2")}), true),
        (
            "/v1/rerank",
            json!({"object": "list", "results": with, "model": "words", "usage": usage, "meta": meta("1")}),
            true,
        ),
    ] {
        assert_eq!(answer(path), (expected, named), "{path}");
    }
    let tei = at("/rerank", json!({"query": "aa b", "texts": ["b aa", "aaaa bb"], "return_text": true})).unwrap();
    let ranks: Value = serde_json::from_slice(&tei.body).unwrap();
    assert_eq!(ranks[0], json!({"index": 1, "text": "aaaa bb", "score": 1.0}));
    assert_eq!((ranks.as_array().unwrap().len(), ranks[1]["index"].clone()), (2, json!(0)));
    assert_eq!(tei.headers, [("x-compute-tokens".to_owned(), "6".to_owned())]);
    let bare = json_at("/rerank", json!({"query": "aa b", "texts": ["aaaa bb"]}));
    assert_eq!(bare, json!([{"index": 0, "score": 1.0}]));
}

#[test]
fn documents_with_fields_come_back_whole() {
    stand_in_tokenizer();
    let body = json!({"query": "aa b", "documents": [{"title": "aaaa bb", "year": 1932}, "plain"],
        "rank_fields": ["title"], "return_documents": true, "top_n": 2});
    let answer = json_at("/cohere/v1/rerank", body);
    assert_eq!(answer["results"][0]["document"], json!({"title": "aaaa bb", "year": 1932}));
    assert_eq!(answer["results"][1]["document"], json!({"text": "plain"}));
}

#[test]
fn documents_may_be_cut_shorter_than_the_query() {
    stand_in_tokenizer();
    let body = json!({"query": "a b c d", "documents": ["a b c d", "a"], "max_tokens_per_doc": 2});
    let request = Request { path: "/v2/rerank".to_owned(), ..Request::post(body.to_string()) };
    let inferences = all_asked(Reranker::default().preprocess(&request).unwrap());
    let lengths = |inference: &Inference| inference.question().tensor("input_ids").unwrap().lengths().unwrap();
    assert_eq!(inferences.iter().map(lengths).collect::<Vec<_>>(), [vec![4], vec![2, 1]]);
    let answer = json_at("/v2/rerank", body);
    assert_eq!(answer["meta"]["tokens"]["input_tokens"], 7);
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
}

#[test]
fn what_may_not_be_cut_is_refused_with_its_place() {
    stand_in_tokenizer();
    configure(&[("max_tokens", "3")]);
    let ask = |query: &str, more: Value| {
        let mut body = json!({"query": query, "texts": ["a", "a b c d"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        at("/rerank", body)
    };
    let refused = ask("q", json!({"truncate": false})).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (413, "too-many-tokens"));
    assert_eq!(refused.pointer.as_deref(), Some("/texts/1"));
    assert!(refused.detail.contains("more than 3 tokens, and `truncate` is false"), "{}", refused.detail);
    let refused = ask("a b c d", json!({"truncate": true, "truncation_direction": "Left"})).unwrap_err();
    assert_eq!(refused.pointer.as_deref(), Some("/query"));
    assert!(refused.detail.contains("no beginning"), "{}", refused.detail);
    assert!(ask("q", json!({"truncate": true, "truncation_direction": "Right"})).is_ok());
}
