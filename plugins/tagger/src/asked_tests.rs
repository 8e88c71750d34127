//! Tables of right and wrong requests.

use super::*;

const LIMITS: Limits = Limits { documents: 3, document_bytes: 20 };

fn labels() -> Vec<String> {
    ["CELL", "MARKER"].map(str::to_owned).to_vec()
}

fn ask(content_type: &str, query: &[(&str, &str)], body: &[u8]) -> Result<Asked, Rejection> {
    let mut request = Request::post(body);
    request.headers = vec![("content-type".to_owned(), content_type.to_owned())];
    request.query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    read(&request, &LIMITS, &labels())
}

fn refuses(content_type: &str, query: &[(&str, &str)], body: &[u8], wanted: (u16, &str, Option<&str>)) {
    let rejection = ask(content_type, query, body).unwrap_err();
    let found = (rejection.status, rejection.code.as_str(), rejection.pointer.as_deref());
    assert_eq!(found, wanted, "{query:?} {}: {}", String::from_utf8_lossy(body), rejection.detail);
}

#[test]
fn a_body_can_be_the_document() {
    for (content_type, markup) in
        [("text/plain", Markup::Plain), ("text/html", Markup::Html), ("application/jats+xml", Markup::Jats)]
    {
        let asked = ask(content_type, &[], "é".as_bytes()).unwrap();
        assert!(asked.alone);
        assert_eq!(asked.documents, [Entry { id: None, content: Ok(("é".to_owned(), markup)) }]);
    }
    refuses("text/plain", &[], b" \n", (422, "empty-text", None));
    refuses("text/plain", &[], b"", (422, "empty-text", None));
    refuses("text/plain", &[], &[b'x'; 21], (413, "document-too-large", None));
    refuses("text/html", &[], b"a\xff", (400, "invalid-utf8", None));
    refuses("image/png", &[], b"x", (415, "unsupported-media-type", None));
}

#[test]
fn a_body_can_hold_several_each_with_its_own_fault() {
    let body = br#"{"documents": [{"id": 7, "text": "a"}, {"id": "x", "html": "<p>b"}, "c"]}"#;
    let asked = ask("application/json", &[], body).unwrap();
    let markups: Vec<_> = asked.documents.iter().map(|entry| entry.content.clone().unwrap().1).collect();
    assert_eq!(markups, [Markup::Plain, Markup::Html, Markup::Plain]);
    assert_eq!(asked.documents[1].id, Some("x".into()));
    assert!(!asked.alone);

    let cases = [
        ("1", 422, "invalid-document", "/documents/0"),
        ("{}", 422, "invalid-document", "/documents/0"),
        (r#"{"text": "a", "html": "b"}"#, 422, "invalid-document", "/documents/0"),
        (r#"{"text": 1}"#, 422, "invalid-document", "/documents/0/text"),
        (r#"{"text": "a", "txt": "b"}"#, 422, "unknown-field", "/documents/0"),
        (r#"{"text": "a", "id": []}"#, 422, "invalid-id", "/documents/0/id"),
        (r#"{"text": " "}"#, 422, "empty-text", "/documents/0/text"),
        (r#"" ""#, 422, "empty-text", "/documents/0"),
        (r#"{"jats": "123456789012345678901"}"#, 413, "document-too-large", "/documents/0/jats"),
    ];
    for (document, status, code, pointer) in cases {
        let body = format!(r#"{{"documents": [{document}, "fine"]}}"#);
        let asked = ask("application/json", &[], body.as_bytes()).unwrap();
        let fault = asked.documents[0].content.clone().unwrap_err();
        let found = (fault.status, fault.code, fault.pointer.as_deref());
        assert_eq!(found, (status, code, Some(pointer)), "{document}");
        assert!(asked.documents[1].content.is_ok());
    }
}

#[test]
fn what_is_wrong_with_all_of_it_is_a_rejection() {
    let cases = [
        ("", 400, "empty-body", None),
        ("{", 400, "invalid-json", None),
        ("[]", 422, "not-an-object", Some("")),
        ("{}", 422, "missing-documents", Some("/documents")),
        (r#"{"documents": 1}"#, 422, "invalid-documents", Some("/documents")),
        (r#"{"documents": []}"#, 422, "empty-documents", Some("/documents")),
        (r#"{"documents": ["a"], "text": "b"}"#, 422, "unknown-field", Some("/text")),
        (r#"{"documents": ["a","b","c","d"]}"#, 413, "too-many-documents", Some("/documents")),
    ];
    for (body, status, code, pointer) in cases {
        refuses("application/json", &[], body.as_bytes(), (status, code, pointer));
    }
}

#[test]
fn wishes_are_read_and_refused() {
    let query = [("unit", "utf16"), ("min_confidence", "0.5"), ("labels", "MARKER")];
    let wishes = ask("text/plain", &query, b"a").unwrap().wishes;
    assert_eq!(wishes, Wishes { unit: Unit::Utf16, min_confidence: 0.5, labels: vec![false, true] });
    for (name, value, code) in [
        ("unit", "codepoints", "invalid-unit"),
        ("min_confidence", "2", "invalid-min-confidence"),
        ("min_confidence", "NaN", "invalid-min-confidence"),
        ("min_confidence", "", "invalid-min-confidence"),
        ("labels", "CELL,X", "invalid-labels"),
        ("labels", "", "invalid-labels"),
        ("label", "CELL", "unknown-parameter"),
    ] {
        refuses("text/plain", &[(name, value)], b"a", (422, code, None));
    }
}

#[test]
fn only_posts_to_the_function_itself_are_answered() {
    let get = Request { method: "GET".to_owned(), ..Request::default() };
    assert_eq!(read(&get, &LIMITS, &labels()).unwrap_err().status, 405);
    let elsewhere = Request { path: "/x".to_owned(), ..Request::post("a") };
    assert_eq!(read(&elsewhere, &LIMITS, &labels()).unwrap_err().status, 404);
}
