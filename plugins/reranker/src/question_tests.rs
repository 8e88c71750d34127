//! Tables of right and wrong questions.

use super::*;

const LIMITS: Limits = Limits { documents: 3, text_bytes: 10, tokens: 8, auto_truncate: true };

fn ask(body: &[u8]) -> Result<Question, Rejection> {
    read(&Request::post(body), &LIMITS)
}

fn at(path: &str, body: &str) -> Result<Question, Rejection> {
    read(&Request { path: path.to_owned(), ..Request::post(body) }, &LIMITS)
}

#[test]
fn right_questions() {
    let plain = ask(br#"{"query": "q", "documents": ["a", {"text": "b", "id": 7}]}"#).unwrap();
    assert_eq!(
        (plain.dialect, &*plain.query, &plain.documents[..]),
        (Dialect::Own, "q", &["a".into(), "b".into()][..])
    );
    assert_eq!((plain.top_n, plain.return_documents, plain.normalized, plain.given), (2, false, false, None));
    assert_eq!((plain.max_tokens, plain.longer), ((8, 8), Longer::Cut));

    let more = ask(br#"{"model": 5, "query": "q", "documents": [""], "top_n": 99, "return_documents": true}"#);
    let more = more.unwrap();
    assert_eq!((more.top_n, more.return_documents), (1, true));

    let nulls = br#"{"query": "q", "documents": ["a"], "top_n": null, "return_documents": null}"#;
    assert_eq!(ask(nulls).unwrap().top_n, 1);
}

/// Body, status, code, pointer, and what the detail says.
type Case = (&'static str, u16, &'static str, Option<&'static str>, &'static str);

fn refuses(cases: &[Case]) {
    for (body, status, code, pointer, detail) in cases {
        let rejection = ask(body.as_bytes()).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (*status, *code), "{body}");
        assert_eq!(rejection.pointer.as_deref(), *pointer, "{body}");
        assert!(rejection.detail.contains(detail), "{body}: {}", rejection.detail);
    }
}

#[test]
fn what_cannot_be_read() {
    refuses(&[
        ("", 400, "empty-body", None, "the body is empty"),
        ("{\"query\": \"q\",\n\"documents\": [}", 400, "invalid-json", None, "line 2 column 15"),
        ("{} {}", 400, "invalid-json", None, "trailing characters"),
        (r#"{"query": NaN}"#, 400, "invalid-json", None, "line 1 column 11"),
    ]);
    let rejection = ask(b"{\"query\": \"\xc3\x28\"}").unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (400, "invalid-utf8"));
    assert!(rejection.detail.contains("first at byte 11"), "{}", rejection.detail);
}

#[test]
fn wrong_queries() {
    const AT: Option<&str> = Some("/query");
    refuses(&[
        ("[]", 422, "not-an-object", Some(""), "found an array"),
        ("{}", 422, "missing-query", AT, "`query` is missing"),
        (r#"{"query": null}"#, 422, "missing-query", AT, "missing"),
        (r#"{"query": 3}"#, 422, "invalid-query", AT, "found a number"),
        (r#"{"query": " \n"}"#, 422, "empty-query", AT, "no text"),
        (r#"{"query": "12345678901"}"#, 422, "text-too-long", AT, "11 bytes of text, 10 at most"),
    ]);
}

fn with_documents(documents: &str) -> Rejection {
    ask(format!(r#"{{"query": "q", "documents": {documents}}}"#).as_bytes()).unwrap_err()
}

#[test]
fn wrong_documents() {
    let cases = [
        ("null", "missing-documents", "/documents", "`documents` is missing"),
        (r#""a""#, "invalid-documents", "/documents", "found a string"),
        ("{}", "invalid-documents", "/documents", "found an object"),
        ("[]", "empty-documents", "/documents", "no documents"),
        (r#"["a","b","c","d"]"#, "too-many-documents", "/documents", "4 documents, 3 at most"),
        (r#"["a", 1]"#, "invalid-document", "/documents/1", "found a number"),
        ("[null]", "invalid-document", "/documents/0", "found null"),
        ("[{}]", "invalid-document", "/documents/0/text", "`text` is missing"),
        (r#"[{"text": [1]}]"#, "invalid-document", "/documents/0/text", "found an array"),
        (r#"["a", "12345678901"]"#, "text-too-long", "/documents/1", "11 bytes"),
        (r#"[{"text": "12345678901"}]"#, "text-too-long", "/documents/0/text", "11 bytes"),
    ];
    for (documents, code, pointer, detail) in cases {
        let rejection = with_documents(documents);
        assert_eq!((rejection.status, rejection.code.as_str()), (422, code), "{documents}");
        assert_eq!(rejection.pointer.as_deref(), Some(pointer), "{documents}");
        assert!(rejection.detail.contains(detail), "{documents}: {}", rejection.detail);
    }
}

#[test]
fn wrong_wishes() {
    let cases = [
        (r#""top_n": 0"#, "invalid-top-n", "/top_n", "found 0"),
        (r#""top_n": -1"#, "invalid-top-n", "/top_n", "found -1"),
        (r#""top_n": 1.5"#, "invalid-top-n", "/top_n", "found 1.5"),
        (r#""top_n": "3""#, "invalid-top-n", "/top_n", "found a string"),
        (r#""return_documents": 1"#, "invalid-return-documents", "/return_documents", "a number"),
    ];
    for (member, code, pointer, detail) in cases {
        let rejection = with_documents(&format!(r#"["a"], {member}"#));
        assert_eq!((rejection.status, rejection.code.as_str()), (422, code), "{member}");
        assert_eq!(rejection.pointer.as_deref(), Some(pointer), "{member}");
        assert!(rejection.detail.contains(detail), "{member}: {}", rejection.detail);
    }
}

#[test]
fn only_post_is_answered() {
    let get = Request { method: "GET".to_owned(), ..Request::default() };
    let rejection = read(&get, &LIMITS).unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (405, "method-not-allowed"));
    assert_eq!(rejection.headers, [("allow".to_owned(), "POST".to_owned())]);
}

const TWO: &str = r#""query": "q", "documents": ["a", "b"]"#;

#[test]
fn each_service_has_its_defaults() {
    // Path, texts back by default, scores from 0 to 1.
    for (path, returns, normalized) in [
        ("", false, false),
        ("/rerank", true, true),
        ("/v1/rerank", false, true),
        ("/v2/rerank", false, true),
        ("/cohere/v1/rerank", false, true),
        ("/jina/v1/rerank", true, true),
    ] {
        let question = at(path, &format!("{{{TWO}}}")).unwrap();
        assert_eq!((question.return_documents, question.normalized), (returns, normalized), "{path}");
    }
    let tei = at("/rerank", r#"{"query": "q", "texts": ["a"], "documents": 3}"#).unwrap();
    assert_eq!((tei.dialect, tei.return_documents, tei.normalized), (Dialect::Tei, false, true));
    let raw = r#"{"query": "q", "texts": ["a"], "raw_scores": true, "return_text": true, "top_n": 0}"#;
    let tei = at("/rerank", raw).unwrap();
    assert_eq!((tei.return_documents, tei.normalized, tei.top_n), (true, false, 1));
}

#[test]
fn an_id_is_the_same_for_the_same_question() {
    let id = |path: &str, more: &str| at(path, &format!("{{{TWO}{more}}}")).unwrap().id;
    assert_eq!(id("/v1/rerank", ""), id("/v1/rerank", ""));
    assert_ne!(id("/v1/rerank", ""), id("/v2/rerank", ""));
    assert_ne!(id("/v1/rerank", ""), id("/v1/rerank", " "));
    assert!(id("/v1/rerank", "").starts_with("rerank-") && id("/v1/rerank", "").len() == 23);
}

#[test]
fn what_becomes_of_long_texts() {
    for (more, longer) in [
        ("", Longer::Cut),
        (r#", "truncate": true"#, Longer::Cut),
        (r#", "truncate": true, "truncation_direction": "Right""#, Longer::Cut),
        (r#", "truncate": true, "truncation_direction": "left""#, Longer::CutInFront),
        (r#", "truncate": false"#, Longer::Refused),
    ] {
        let question = at("/rerank", &format!(r#"{{"query": "q", "texts": ["a"]{more}}}"#)).unwrap();
        assert_eq!(question.longer, longer, "{more}");
    }
    let strict = Limits { auto_truncate: false, ..LIMITS };
    let request = Request { path: "/rerank".to_owned(), ..Request::post(r#"{"query": "q", "texts": ["a"]}"#) };
    assert_eq!(read(&request, &strict).unwrap().longer, Longer::Refused);
    for (more, tokens) in [
        ("", (8, 8)),
        (r#", "max_tokens_per_doc": 3"#, (8, 3)),
        (r#", "max_tokens_per_doc": 4096"#, (8, 8)),
        (r#", "max_tokens_per_doc": 18446744073709551615"#, (8, 8)),
        (r#", "max_doc_length": 5, "max_chunks_per_doc": 10"#, (8, 5)),
    ] {
        assert_eq!(at("/v2/rerank", &format!("{{{TWO}{more}}}")).unwrap().max_tokens, tokens, "{more}");
    }
}

#[test]
fn documents_with_fields() {
    let body = r#"{"query": "q", "documents": [{"a": "x", "b": "y", "n": 1}, "z"], "rank_fields": ["b", "a"]"#;
    let question = at("/v1/rerank", &format!("{body}}}")).unwrap();
    assert_eq!((&question.documents[..], question.given), (&["y\nx".to_owned(), "z".to_owned()][..], None));
    let question = at("/v1/rerank", &format!(r#"{body}, "return_documents": true}}"#)).unwrap();
    assert_eq!(question.given.unwrap()[0]["n"], 1);
    for (fields, code, pointer) in [
        (r#"["b", "c"]"#, "invalid-document", "/documents/0/c"),
        (r#"["n"]"#, "invalid-document", "/documents/0/n"),
        ("[]", "invalid-rank-fields", "/rank_fields"),
        ("[1]", "invalid-rank-fields", "/rank_fields"),
        (r#""a""#, "invalid-rank-fields", "/rank_fields"),
    ] {
        let body = body.replace(r#"["b", "a"]"#, fields);
        let rejection = at("/v1/rerank", &format!("{body}}}")).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, code), "{fields}");
        assert_eq!(rejection.pointer.as_deref(), Some(pointer), "{fields}");
    }
    // This plugin's own shape has none: what else an object holds is passed over.
    let own = ask(br#"{"query": "q", "documents": [{"text": "t"}], "rank_fields": 3, "max_tokens_per_doc": "x"}"#);
    assert_eq!(own.unwrap().documents, ["t"]);
}

#[test]
fn each_service_says_no_in_its_own_way() {
    for (path, body, status, code, pointer) in [
        ("/rerank", r#"{"query": "q", "texts": []}"#, 400, "empty-texts", "/texts"),
        ("/rerank", r#"{"query": "", "texts": ["a"]}"#, 400, "empty-query", "/query"),
        ("/rerank", r#"{"query": "q", "texts": ["a","b","c","d"]}"#, 413, "too-many-documents", "/texts"),
        ("/rerank", r#"{"query": "q", "texts": ["12345678901"]}"#, 413, "text-too-long", "/texts/0"),
        ("/rerank", r#"{"query": "q", "texts": [1]}"#, 422, "invalid-document", "/texts/0"),
        ("/rerank", r#"{"query": "q", "texts": "a"}"#, 422, "invalid-texts", "/texts"),
        ("/rerank", r#"{"query": "q", "texts": ["a"], "raw_scores": 1}"#, 422, "invalid-raw-scores", "/raw_scores"),
        ("/rerank", r#"{"query": "q", "texts": ["a"], "truncate": "no"}"#, 422, "invalid-truncate", "/truncate"),
        (
            "/rerank",
            r#"{"query": "q", "texts": ["a"], "truncation_direction": "up"}"#,
            422,
            "invalid-truncation-direction",
            "/truncation_direction",
        ),
        ("/rerank", r#"{"query": "q"}"#, 400, "missing-documents", "/documents"),
        ("/v1/rerank", r#"{"query": "q", "documents": []}"#, 400, "empty-documents", "/documents"),
        ("/v2/rerank", r#"{"query": "q", "documents": ["a"], "top_n": 0}"#, 400, "invalid-top-n", "/top_n"),
        ("/v2/rerank", r#"{"query": "q", "documents": ["a"], "top_n": -3}"#, 400, "invalid-top-n", "/top_n"),
        (
            "/v2/rerank",
            r#"{"query": "q", "documents": ["a"], "max_tokens_per_doc": 0}"#,
            400,
            "invalid-max-tokens",
            "/max_tokens_per_doc",
        ),
        (
            "/cohere/v1/rerank",
            r#"{"query": "q", "documents": ["a"], "max_chunks_per_doc": -1}"#,
            400,
            "invalid-max-chunks",
            "/max_chunks_per_doc",
        ),
        ("/jina/v1/rerank", r#"{"query": "q", "documents": 5}"#, 422, "invalid-documents", "/documents"),
        ("/jina/v1/rerank", r#"{"documents": ["a"]}"#, 422, "missing-query", "/query"),
    ] {
        let rejection = at(path, body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{path} {body}");
        assert_eq!(rejection.pointer.as_deref(), Some(pointer), "{path} {body}");
    }
    assert_eq!(at("/rerank", "{").unwrap_err().status, 400);
    assert_eq!(at("/rank", "{}").unwrap_err().status, 404);
}

#[test]
fn a_great_top_n_is_all_there_are() {
    for top_n in ["2", "3", "18446744073709551615"] {
        assert_eq!(at("/v2/rerank", &format!(r#"{{{TWO}, "top_n": {top_n}}}"#)).unwrap().top_n, 2, "{top_n}");
    }
    for odd in ["1e30", "18446744073709551616", "1.0"] {
        assert!(at("/v2/rerank", &format!(r#"{{{TWO}, "top_n": {odd}}}"#)).is_err(), "{odd}");
    }
}
