//! Whole invocations, natively: validate, preprocess, a made-up model, postprocess.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

use serde_json::{Value, json};
use tenon_sdk::{
    Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Step, Tensor, Validation,
    native::{configure, text::tokenize_with_offsets},
};
use tenon_tagger::Tagger;

const FIRST: i64 = 101;
const LAST: i64 = 102;
/// Of the labels O, B-CELL, I-CELL, B-MARKER, I-MARKER, B-TISSUE, I-TISSUE.
const LABELS: usize = 7;

/// One token for each word: 1 where it begins with `T`, 3 with `C`, 0 else; special ones around.
fn stand_in_tokenizer() {
    tokenize_with_offsets(|text| {
        let mut tokens = vec![(FIRST, [0, 0])];
        let mut start = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            match (start, c.is_whitespace()) {
                (None, false) => start = Some(at),
                (Some(from), true) => {
                    let id = match text.as_bytes()[from] {
                        b'T' => 1,
                        b'C' => 3,
                        _ => 0,
                    };
                    tokens.push((id, [from as u32, at as u32]));
                    start = None;
                }
                _ => {}
            }
        }
        tokens.push((LAST, [0, 0]));
        tokens
    });
}

/// Gives each token the label that its id says, surely; special ones anything.
fn stand_in_model(inference: &Inference, odd: Option<f32>) -> Outputs {
    let ids = inference.question().tensor("input_ids").expect("input_ids").rows::<i64>().expect("INT64");
    let lengths: Vec<u64> = ids.iter().map(|row| row.len() as u64).collect();
    let logits = Tensor::create_ragged("FP32", &[0, LABELS as u64], 0, &lengths).expect("a shape");
    let mut scores = Vec::new();
    for id in ids.iter().flatten() {
        let mut token = [0.0_f32; LABELS];
        token[usize::try_from(*id).unwrap_or(0).min(LABELS - 1)] = 12.0;
        scores.extend(token);
    }
    if let Some(odd) = odd {
        scores[LABELS + 2] = odd;
    }
    logits.write(0, &scores.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<_>>()).expect("it fits");
    Outputs::of([("logits", logits)])
}

fn answer(step: Step) -> Value {
    match step {
        Step::Respond(response) => serde_json::from_slice(&response.sent().body).expect("JSON"),
        Step::Infer(_) => panic!("asked again"),
    }
}

fn invoke(request: &Request) -> Result<(Value, usize), Rejection> {
    stand_in_tokenizer();
    let mut plugin = Tagger::default();
    plugin.validate(request)?;
    match plugin.preprocess(request)? {
        Step::Infer(inferences) => {
            let ids = inferences[0].question().tensor("input_ids").unwrap();
            let rows = ids.lengths().unwrap();
            for name in ["attention_mask", "token_type_ids"] {
                assert_eq!(inferences[0].question().tensor(name).unwrap().lengths().unwrap(), rows, "{name}");
            }
            let mask = inferences[0].question().tensor("attention_mask").unwrap().values::<i64>().unwrap();
            assert!(mask.iter().all(|one| *one == 1));
            let outputs = vec![stand_in_model(&inferences[0], None)];
            plugin.postprocess(request, outputs).map(|step| (answer(step), rows.len()))
        }
        responded => Ok((answer(responded), 0)),
    }
}

fn text(body: &str) -> Request {
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    Request { headers, ..Request::post(body) }
}

fn documents(documents: &Value) -> Request {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Request { headers, ..Request::post(json!({ "documents": documents }).to_string()) }
}

fn spans(answer: &Value, document: usize) -> Vec<(u64, u64, String, String, u64)> {
    let spans = answer["documents"][document]["spans"].as_array().expect("spans");
    let number = |span: &Value, key: &str| span[key].as_u64().unwrap();
    let string = |span: &Value, key: &str| span[key].as_str().unwrap().to_owned();
    let told = |span| {
        (
            number(span, "start"),
            number(span, "end"),
            string(span, "text"),
            string(span, "label"),
            number(span, "sentence"),
        )
    };
    spans.iter().map(told).collect()
}

#[test]
fn spans_are_told_in_characters_of_the_original() {
    let (answer, _) = invoke(&text("é 😀 Tregs. No CD4 here.")).unwrap();
    assert_eq!(answer["documents"][0]["sentences"][1], json!({ "start": 11, "end": 23, "text": "No CD4 here." }));
    let wanted = [(4, 10, "Tregs.".into(), "CELL".into(), 0), (14, 17, "CD4".into(), "MARKER".into(), 1)];
    assert_eq!(spans(&answer, 0), wanted);
    assert_eq!((&answer["model"], &answer["unit"]), (&json!("tagger"), &json!("characters")));
    assert_eq!(answer["usage"], json!({ "tokens": 6, "windows": 1 }));
    assert!(answer["documents"][0].get("id").is_none());
    let confidence = answer["documents"][0]["spans"][0]["confidence"].as_f64().unwrap();
    assert!(confidence > 0.99 && confidence <= 1.0);
}

#[test]
fn markup_is_stripped_and_offsets_lead_into_it() {
    let html = "<p>All <b>Tregs</b> &amp; C&#68;4</p>";
    let (answer, _) = invoke(&documents(&json!([{ "id": "x", "html": html }, { "id": 2, "text": "none" }]))).unwrap();
    let found = spans(&answer, 0);
    assert_eq!(found[0].2, "Tregs");
    assert_eq!(&html[found[0].0 as usize..found[0].1 as usize], "Tregs");
    assert_eq!((found[1].2.as_str(), &html[found[1].0 as usize..found[1].1 as usize]), ("CD4", "C&#68;4"));
    assert_eq!((&answer["documents"][0]["id"], &answer["documents"][1]["id"]), (&json!("x"), &json!(2)));
    assert_eq!(answer["documents"][1]["spans"], json!([]));
}

#[test]
fn one_bad_document_does_not_spoil_the_others() {
    let (answer, rows) = invoke(&documents(&json!(["", { "text": "Tregs" }, { "html": "<p></p>" }, 5]))).unwrap();
    let codes: Vec<_> = (0..4).map(|index| answer["documents"][index]["error"]["code"].clone()).collect();
    assert_eq!(codes, [json!("empty-text"), Value::Null, json!("empty-text"), json!("invalid-document")]);
    assert_eq!(answer["documents"][0]["error"]["pointer"], "/documents/0");
    assert_eq!((spans(&answer, 1).len(), rows), (1, 1));
    let (answer, rows) = invoke(&documents(&json!([""]))).unwrap();
    assert_eq!((answer["documents"][0]["error"]["code"].as_str(), rows), (Some("empty-text"), 0));
    assert_eq!(invoke(&text("<>")).unwrap().0["documents"][0]["spans"], json!([]));
}

#[test]
fn long_documents_are_read_in_windows_and_every_word_is_found_once() {
    configure(&[("max_tokens", "12"), ("overlap", "4")]);
    let words: Vec<_> = (0..100).map(|index| if index % 3 == 0 { "Treg" } else { "and" }).collect();
    let (answer, rows) = invoke(&text(&words.join(" "))).unwrap();
    assert_eq!(rows, 16);
    assert_eq!(answer["usage"], json!({ "tokens": 100, "windows": 16 }));
    assert_eq!(spans(&answer, 0).len(), 34);
}

#[test]
fn windows_of_all_documents_have_a_limit() {
    configure(&[("max_tokens", "6"), ("overlap", "2"), ("max_windows", "3")]);
    let long = "a b c d e f g h";
    let (answer, rows) = invoke(&documents(&json!(["a", long, long, "b"]))).unwrap();
    let codes: Vec<_> = (0..4).map(|index| answer["documents"][index]["error"]["code"].clone()).collect();
    assert_eq!(codes, [Value::Null, json!("too-many-windows"), json!("too-many-windows"), Value::Null]);
    assert_eq!(rows, 2);
    let rejection = invoke(&text(&format!("{long} {long} {long}"))).unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (413, "too-many-windows"));
}

#[test]
fn callers_choose_labels_confidence_and_unit() {
    let ask = |name: &str, value: &str| {
        let query = vec![(name.to_owned(), value.to_owned())];
        invoke(&Request { query, ..text("😀 Tregs CD4") }).unwrap().0
    };
    assert_eq!(spans(&ask("labels", "MARKER"), 0).len(), 1);
    assert_eq!(spans(&ask("min_confidence", "1"), 0).len(), 0);
    assert_eq!(spans(&ask("unit", "utf16"), 0)[0].0, 3);
    assert_eq!(spans(&ask("unit", "bytes"), 0)[0].0, 5);
}

#[test]
#[should_panic(expected = "no finite number")]
fn an_answer_is_never_made_up() {
    stand_in_tokenizer();
    let request = text("Tregs");
    let mut plugin = Tagger::default();
    let Step::Infer(inferences) = plugin.preprocess(&request).unwrap() else { panic!("answered without a model") };
    let _ = plugin.postprocess(&request, vec![stand_in_model(&inferences[0], Some(f32::NAN))]);
}

#[test]
#[should_panic(expected = "less than max_tokens")]
fn windows_that_cannot_move_on_are_a_fault_of_the_function() {
    configure(&[("max_tokens", "10"), ("overlap", "8")]);
    let _ = invoke(&text("Tregs"));
}

#[test]
fn a_megabyte_without_white_space_and_one_of_control_characters() {
    for body in ["x".repeat(1 << 20), "\u{1}".repeat(1 << 20), "😀".repeat(1 << 18), "شكرا".repeat(1 << 16)] {
        let (answer, _) = invoke(&text(&body)).unwrap();
        assert_eq!(answer["documents"][0]["sentences"].as_array().unwrap().len(), 1);
    }
}
