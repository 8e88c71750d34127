//! Bodies of every shape, and what is said about wrong ones.

use tenon_sdk::images::{Area, Mapping};
use tenon_sdk::{Response, Tensor};

use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

/// The bytes themselves are the picture.
#[derive(Clone, Debug, PartialEq)]
struct Raw(Vec<u8>);

impl Picture for Raw {
    fn from_body(request: &Request, offset: u64, length: u64) -> Result<Self, Failure> {
        Self::from_bytes(&request.read_body(offset, length))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        let bad = || Failure { code: "not-an-image".to_owned(), detail: "no picture".to_owned() };
        if is_picture(bytes) { Ok(Raw(bytes.to_vec())) } else { Err(bad()) }
    }

    fn size(&self) -> (u32, u32) {
        (1, 1)
    }

    fn letterbox(&self, _: &Tensor, _: u64, _: u32) -> Result<Mapping, Failure> {
        unreachable!("only opened here")
    }

    fn draw(&mut self, _: Area, _: (u8, u8, u8), _: &str) {}

    fn encode(&self, _: &str, _: &Response) -> Result<(), Failure> {
        Ok(())
    }
}

fn post(kind: &str, body: impl Into<Vec<u8>>) -> Request {
    Request { headers: vec![("content-type".to_owned(), kind.to_owned())], ..Request::post(body) }
}

fn opened(request: &Request) -> Result<Vec<Result<Raw, Rejection>>, Rejection> {
    let sent = read(request, Limits { images: 3 })?;
    Ok((0..sent.len()).map(|index| sent.open(request, index)).collect())
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn an_image_in_every_shape() {
    let text = base64(PNG);
    let escaped = format!(r#"{{"image": "\u00{:02x}{}"}}"#, text.as_bytes()[0], &text[1..]);
    let form = "multipart/form-data; boundary=b";
    let part = [b"--b\r\nContent-Type: image/png\r\n\r\n".as_slice(), PNG, b"\r\n--b--"].concat();
    let requests = [
        post("image/png", PNG),
        post("application/x-www-form-urlencoded", PNG), // what curl says when nobody tells it
        post("", PNG),
        post("application/json", format!(r#"{{"image": "{text}"}}"#)),
        post("application/json; charset=utf-8", format!(r#"{{"images": ["{text}"], "image": null, "x": [{{}}]}}"#)),
        post("text/plain", format!("  {{\"image\": \"data:image/png;base64,{text}\"}}")),
        post("application/json", format!(r#"{{"image": "{}\n{}"}}"#, &text[..8], text[8..].trim_end_matches('='))),
        post("application/json", escaped),
        post(form, part),
    ];
    for request in requests {
        let opened = opened(&request).unwrap();
        assert_eq!(opened, [Ok(Raw(PNG.to_vec()))], "{request:?}");
    }
}

fn refused(kind: &str, body: &str) -> (u16, String, Option<String>) {
    let outcome = opened(&post(kind, body)).and_then(|mut all| all.remove(0));
    let rejection = outcome.unwrap_err();
    (rejection.status, rejection.code, rejection.pointer)
}

#[test]
fn wrong_bodies_are_told_with_their_place() {
    let json = "application/json";
    let cases = [
        ("", "", 400, "empty-body", None),
        (json, " ", 400, "empty-body", None),
        ("", "hello", 415, "not-an-image", None),
        ("image/png", "GIF89a", 415, "not-an-image", None),
        (json, "{", 400, "invalid-json", None),
        (json, r#"{"image": "a"} x"#, 400, "invalid-json", None),
        (json, "[1, {}]", 422, "not-an-object", Some("")),
        (json, "3", 422, "not-an-object", Some("")),
        (json, "null", 422, "not-an-object", Some("")),
        (json, "{}", 422, "missing-image", Some("")),
        (json, r#"{"images": []}"#, 422, "missing-image", Some("/images")),
        (json, r#"{"image": 1}"#, 422, "invalid-image", Some("/image")),
        (json, r#"{"images": {"a": [1]}}"#, 422, "invalid-images", Some("/images")),
        (json, r#"{"images": [[]]}"#, 422, "invalid-image", Some("/images/0")),
        (json, r#"{"image": "a", "images": ["a"]}"#, 422, "invalid-images", Some("/images")),
        (json, r#"{"images": [1,2,3,4,5]}"#, 413, "too-many-images", Some("/images")),
        (json, r#"{"image": "?"}"#, 422, "invalid-base64", Some("/image")),
        (json, r#"{"image": "data:image/png,AA"}"#, 422, "invalid-base64", Some("/image")),
        (json, r#"{"image": "AAAA"}"#, 415, "not-an-image", Some("/image")),
        ("multipart/form-data", "x", 400, "invalid-form", None),
    ];
    for (kind, body, status, code, pointer) in cases {
        assert_eq!(refused(kind, body), (status, code.to_owned(), pointer.map(str::to_owned)), "{kind} {body}");
    }
    assert_eq!(opened(&Request { method: "GET".to_owned(), ..Request::default() }).unwrap_err().status, 405);
    let deep = format!(r#"{{"x": {}"#, "[".repeat(200_000));
    assert_eq!(refused(json, &deep).0, 400);
}

#[test]
fn a_bad_image_among_others_is_its_own_affair() {
    let body = format!(r#"{{"images": [7, "{}", "?"]}}"#, base64(PNG));
    let opened = opened(&post("application/json", body)).unwrap();
    let codes: Vec<_> = opened.iter().map(|one| one.as_ref().map_err(|rejection| rejection.code.as_str())).collect();
    assert_eq!(codes, [Err("invalid-image"), Ok(&Raw(PNG.to_vec())), Err("invalid-base64")]);
    let place = serde_json::to_value(Refused::from(opened[0].clone().unwrap_err())).unwrap();
    let wanted = serde_json::json!({"error": {"status": 422, "code": "invalid-image", "pointer": "/images/0",
                                              "detail": "expected a string of base64, found a number"}});
    assert_eq!(place, wanted);
}

#[test]
fn a_picture_is_about_one_image() {
    let list = read(&post("", r#"{"images": ["a"]}"#), Limits { images: 1 }).unwrap();
    assert!(list.listed() && list.len() == 1, "who sends a list gets one");
    let one = read(&post("", PNG), Limits { images: 1 }).unwrap();
    assert_eq!((one.only(None), one.only(Some(0))), (Ok(0), Ok(0)));
    assert_eq!(one.only(Some(1)).unwrap_err().code, "invalid-parameter");
    let text = r#"{"images": ["a", "b"]}"#;
    assert!(!one.listed());
    let two = read(&post("application/json", text), Limits { images: 2 }).unwrap();
    assert_eq!((two.only(None).unwrap_err().code.as_str(), two.only(Some(1))), ("several-images", Ok(1)));
}
