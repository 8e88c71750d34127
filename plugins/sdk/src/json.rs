//! JSON bodies, read with rejections that say what is wrong and where.
//!
//! Owns the three ways in which a body is not JSON at all, and [`Place`]: a value that
//! knows its JSON Pointer. Refuses to know what a service wants; a plugin asks places for
//! what it needs and names the code of what it did not find.

use serde_json::Value;

use crate::{Rejection, Request};

/// The request's body as JSON.
///
/// Rejections, all 400: `empty-body`, `invalid-utf8` (names the byte), `invalid-json` (names
/// line and column).
pub fn body(request: &Request) -> Result<Value, Rejection> {
    parse(&request.body())
}

/// As [`body`], of bytes from elsewhere.
pub fn parse(bytes: &[u8]) -> Result<Value, Rejection> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("the body is not UTF-8: first at byte {}", error.valid_up_to());
        Rejection::bad_request("invalid-utf8", detail)
    })?;
    if text.trim_ascii().is_empty() {
        return Err(Rejection::bad_request("empty-body", "the body is empty; send a JSON object"));
    }
    serde_json::from_str(text)
        .map_err(|error| Rejection::bad_request("invalid-json", format!("the body is not JSON: {error}")))
}

/// A JSON value and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    value: &'a Value,
    path: Path<'a>,
}

/// A chain up to the root, so that a pointer is only written out when something is wrong.
#[derive(Clone, Copy, Debug)]
enum Path<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// The whole document.
    pub fn root(value: &'a Value) -> Self {
        Place { value, path: Path::Root }
    }

    /// The member of an object; none if it is not there or `null`, as clients send for
    /// what is left out.
    pub fn member<'b>(&'b self, name: &'b str) -> Option<Place<'b>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Place { value, path: Path::Member(self, name) })
    }

    /// The items of an array; none if it is something else.
    pub fn items(&self) -> Option<impl ExactSizeIterator<Item = Place<'_>>> {
        let items = self.value.as_array()?.iter().enumerate();
        Some(items.map(|(index, value)| Place { value, path: Path::Item(self, index) }))
    }

    /// The value itself.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The text of a string; none if it is something else.
    pub fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// What kind of value it is, with its article: `a string`, `null`.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    /// The JSON Pointer (RFC 6901) to it.
    pub fn pointer(&self) -> String {
        match self.path {
            Path::Root => String::new(),
            Path::Member(above, name) => member_pointer(&above.pointer(), name),
            Path::Item(above, index) => format!("{}/{index}", above.pointer()),
        }
    }

    /// A 422 that points here.
    pub fn reject(&self, code: &str, detail: impl Into<String>) -> Rejection {
        Rejection::unprocessable(code, detail).at(self.pointer())
    }

    /// A 422 that says what was `wanted` here and what is there instead: `wanted` is such as
    /// `a string`.
    pub fn reject_kind(&self, code: &str, wanted: &str) -> Rejection {
        self.reject(code, format!("expected {wanted}, found {}", self.kind()))
    }

    /// A 422 that points to a member that is not there.
    pub fn reject_missing(&self, code: &str, name: &str) -> Rejection {
        let detail = format!("`{name}` is missing");
        Rejection::unprocessable(code, detail).at(member_pointer(&self.pointer(), name))
    }
}

fn member_pointer(above: &str, name: &str) -> String {
    format!("{above}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_json_is_told_apart() {
        let cases: [(&[u8], &str, &str); 4] = [
            (b"", "empty-body", "the body is empty"),
            (b" \r\n\t", "empty-body", "the body is empty"),
            (b"{\"a\": \"\xff\"}", "invalid-utf8", "first at byte 7"),
            (b"{\"a\":\n 1,}", "invalid-json", "line 2 column 4"),
        ];
        for (bytes, code, detail) in cases {
            let rejection = parse(bytes).unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (400, code));
            assert!(rejection.detail.contains(detail), "{}", rejection.detail);
        }
    }

    #[test]
    fn nesting_without_end_is_refused_not_followed() {
        let rejection = parse("[".repeat(100_000).as_bytes()).unwrap_err();
        assert!(rejection.detail.contains("recursion limit"), "{}", rejection.detail);
    }

    #[test]
    fn pointers_lead_to_the_place() {
        let value = json!({"documents": ["a", {"text": 3}], "a/b~c": 1, "empty": null});
        let root = Place::root(&value);
        let documents = root.member("documents").unwrap();
        let second = documents.items().unwrap().nth(1).unwrap();
        let rejection = second.member("text").unwrap().reject_kind("invalid-document", "a string");
        assert_eq!(rejection.pointer.as_deref(), Some("/documents/1/text"));
        assert_eq!(rejection.detail, "expected a string, found a number");
        assert_eq!(root.member("a/b~c").unwrap().pointer(), "/a~1b~0c");
        assert_eq!(root.reject_missing("missing-query", "query").pointer.as_deref(), Some("/query"));
        assert!(root.member("empty").is_none());
    }
}
