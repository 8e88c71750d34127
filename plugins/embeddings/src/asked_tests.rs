//! Tables of right and wrong questions.

use super::*;

const LIMITS: Limits =
    Limits { inputs: 3, text_bytes: 10, tokens: 4, vocabulary: 100, dimensions: 2, auto_truncate: false };

fn at(path: &str, body: &str) -> Result<Question, Rejection> {
    read(&Request { path: path.to_owned(), ..Request::post(body) }, &LIMITS)
}

fn texts(texts: &[&str]) -> Inputs {
    Inputs::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn inputs_in_each_form() {
    for (input, inputs, listed) in [
        (r#""a""#, texts(&["a"]), false),
        (r#"["a", " "]"#, texts(&["a", " "]), true),
        ("[1, 99]", Inputs::Tokens(vec![vec![1, 99]]), false),
        ("[[1, 2], [3]]", Inputs::Tokens(vec![vec![1, 2], vec![3]]), true),
        ("[0, 0, 0, 0]", Inputs::Tokens(vec![vec![0; 4]]), false),
    ] {
        for (path, member) in [("", "input"), ("/", "input"), ("/v1/embeddings", "input"), ("/embed", "inputs")] {
            let question = at(path, &format!(r#"{{"{member}": {input}}}"#)).unwrap();
            assert_eq!((&question.inputs, question.listed), (&inputs, listed), "{path} {input}");
        }
    }
}

#[test]
fn what_openai_and_text_embeddings_inference_let_callers_say() {
    let openai = |more: &str| at("/v1/embeddings", &format!(r#"{{"input": "a", "model": "m"{more}}}"#)).unwrap();
    assert!(!openai("").packed && openai("").normalize && !openai("").truncate);
    assert!(openai(r#", "encoding_format": "base64", "user": "u", "dimensions": 2, "more": []"#).packed);
    assert!(!openai(r#", "encoding_format": "float", "dimensions": null, "truncate": true"#).truncate);
    let tei = |more: &str| at("/embed", &format!(r#"{{"inputs": "a"{more}}}"#)).unwrap();
    assert!(tei("").normalize && !tei("").truncate && !tei("").packed);
    let told = tei(r#", "normalize": false, "truncate": true, "truncation_direction": "Right""#);
    assert!(!told.normalize && told.truncate);
    assert!(!tei(r#", "encoding_format": "base64", "truncation_direction": "left""#).packed);
    let cuts = Limits { auto_truncate: true, ..LIMITS };
    assert!(read(&Request::post(r#"{"input": "a"}"#), &cuts).unwrap().truncate);
}

#[test]
fn wrong_inputs() {
    for (input, code, pointer, detail) in [
        ("null", "missing-input", "", "`input` is missing"),
        ("3", "invalid-input", "", "found a number"),
        ("{}", "invalid-input", "", "found an object"),
        ("true", "invalid-input", "", "found a boolean"),
        (r#""""#, "empty-input", "", "the text is empty"),
        ("[]", "empty-input", "", "nothing to embed"),
        ("[[]]", "empty-input", "/0", "no tokens"),
        (r#"["a", ""]"#, "empty-input", "/1", "the text is empty"),
        (r#"["a", [1]]"#, "invalid-input", "/1", "found an array"),
        (r#"["a", 1]"#, "invalid-input", "/1", "found a number"),
        (r#"[[1], "a"]"#, "invalid-input", "/1", "found a string"),
        ("[null]", "invalid-input", "/0", "found null"),
        (r#"[1, "a"]"#, "invalid-token", "/1", "found a string"),
        ("[1, 100]", "invalid-token", "/1", "expected an id from 0 to 99, found 100"),
        ("[-1]", "invalid-token", "/0", "found -1"),
        ("[1.5]", "invalid-token", "/0", "found 1.5"),
        ("[[1], [1e9]]", "invalid-token", "/1/0", "found 1000000000.0"),
        ("[18446744073709551615]", "invalid-token", "/0", "found 18446744073709551615"),
        ("[1, 2, 3, 4, 5]", "too-many-tokens", "", "5 tokens, 4 at most"),
        ("[[1], [1, 2, 3, 4, 5]]", "too-many-tokens", "/1", "5 tokens"),
        (r#"["a","b","c","d"]"#, "too-many-inputs", "", "4 inputs, 3 at most"),
        (r#""12345678901""#, "text-too-long", "", "11 bytes of text, 10 at most"),
        (r#"["a", "12345678901"]"#, "text-too-long", "/1", "11 bytes"),
    ] {
        let rejection = at("/v1/embeddings", &format!(r#"{{"input": {input}}}"#)).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, code), "{input}");
        assert_eq!(rejection.pointer, Some(format!("/input{pointer}")), "{input}");
        assert!(rejection.detail.contains(detail), "{input}: {}", rejection.detail);
    }
}

#[test]
fn wrong_wishes() {
    for (path, more, status, code) in [
        ("", r#""dimensions": 1"#, 400, "invalid-dimensions"),
        ("", r#""dimensions": 2.0"#, 400, "invalid-dimensions"),
        ("", r#""dimensions": "2""#, 400, "invalid-dimensions"),
        ("", r#""encoding_format": "hex""#, 400, "invalid-encoding-format"),
        ("", r#""encoding_format": 3"#, 400, "invalid-encoding-format"),
        ("", r#""model": 3"#, 400, "invalid-model"),
        ("", r#""user": []"#, 400, "invalid-user"),
        ("/embed", r#""normalize": 1"#, 422, "invalid-normalize"),
        ("/embed", r#""truncate": "yes""#, 422, "invalid-truncate"),
        ("/embed", r#""truncate": true, "truncation_direction": "Left""#, 422, "invalid-truncation-direction"),
        ("/embed", r#""truncation_direction": 1"#, 422, "invalid-truncation-direction"),
        ("/embed", r#""prompt_name": "query""#, 422, "unknown-prompt"),
        ("/embed", r#""dimensions": 1"#, 422, "invalid-dimensions"),
    ] {
        let rejection = at(path, &format!(r#"{{"input": "a", "inputs": "a", {more}}}"#)).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{more}");
    }
}

#[test]
fn text_embeddings_inference_says_no_in_its_own_way() {
    for (inputs, status, code, pointer) in [
        ("[]", 400, "empty-input", "/inputs"),
        (r#""""#, 400, "empty-input", "/inputs"),
        (r#"["a","b","c","d"]"#, 413, "too-many-inputs", "/inputs"),
        (r#"["12345678901"]"#, 413, "text-too-long", "/inputs/0"),
        ("[[1,2,3,4,5]]", 413, "too-many-tokens", "/inputs/0"),
        ("7", 422, "invalid-input", "/inputs"),
    ] {
        let rejection = at("/embed", &format!(r#"{{"inputs": {inputs}}}"#)).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{inputs}");
        assert_eq!(rejection.pointer.as_deref(), Some(pointer), "{inputs}");
    }
}

#[test]
fn what_is_no_question_at_all() {
    for (path, body, status, code) in [
        ("", "", 400, "empty-body"),
        ("", "{", 400, "invalid-json"),
        ("", "[]", 400, "not-an-object"),
        ("/embed", "[]", 422, "not-an-object"),
        ("/rerank", "{}", 404, "no-such-path"),
        ("/v1/embeddings/", "{}", 404, "no-such-path"),
    ] {
        let rejection = at(path, body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{path} {body}");
    }
    let get = Request { method: "GET".to_owned(), ..Request::default() };
    assert_eq!(read(&get, &LIMITS).unwrap_err().status, 405);
}
