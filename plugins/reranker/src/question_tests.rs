//! Tables of right and wrong questions.

use super::*;

const LIMITS: Limits = Limits { documents: 3, text_bytes: 10 };

fn ask(body: &[u8]) -> Result<Question, Rejection> {
    read(&Request::post(body), &LIMITS)
}

#[test]
fn right_questions() {
    let plain = ask(br#"{"query": "q", "documents": ["a", {"text": "b", "id": 7}]}"#).unwrap();
    let documents = vec!["a".to_owned(), "b".to_owned()];
    let wanted = Question { query: "q".to_owned(), documents, top_n: 2, return_documents: false };
    assert_eq!(plain, wanted);

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
