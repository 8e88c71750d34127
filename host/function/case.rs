//! The sample cases of a `function.toml`: requests with the answers that its author expects.
//!
//! Owns what a case says and the comparison; how it is run is `trial`'s business. Refuses to judge more than was asked for:
//! a case names a part of the answer, the rest may be as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::shallow::Shallow;

/// Cases that one function may have: they run one after another before it is ready.
pub(super) const MAX_CASES: usize = 64;
/// How far a number may be from the expected one, where a case says nothing else.
const TOLERANCE: f64 = 1e-3;
/// What of an answer is shown where it is not the expected one.
const MAX_SHOWN_CHARS: usize = 300;

/// A request and what is expected of its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// `POST` or `GET`.
    #[serde(default = "post")]
    pub method: String,
    /// Below the function's name: empty, or beginning with a slash.
    #[serde(default)]
    pub path: String,
    /// Names and values.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    #[serde(default)]
    pub body: String,
    /// The body in base64, where it is no text.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// What the answer must be.
    #[serde(default)]
    pub expect: Expect,
}

/// What is expected of an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Its status.
    pub status: u16,
    /// Its whole body.
    pub body: Option<String>,
    /// Some text in its body.
    pub contains: Option<String>,
    /// A part of its body as JSON: objects may have more members; lists have as many elements.
    pub json: Option<Shallow>,
    /// How far numbers may be from those in `json`.
    pub tolerance: f64,
    /// The code of a problem, for answers that refuse.
    pub code: Option<String>,
}

fn post() -> String {
    "POST".into()
}

impl Default for Expect {
    fn default() -> Self {
        Self { status: 200, body: None, contains: None, json: None, tolerance: TOLERANCE, code: None }
    }
}

impl Case {
    /// What makes no sense about it.
    pub(super) fn check(&self) -> Result<(), String> {
        if !["POST", "GET"].contains(&&*self.method) {
            return Err(format!("`{}`: method must be POST or GET", self.name));
        }
        if !self.path.is_empty() && !self.path.starts_with('/') {
            return Err(format!("`{}`: path must be empty or begin with `/`", self.name));
        }
        if self.body_base64.is_some() && !self.body.is_empty() {
            return Err(format!("`{}`: body and body_base64 exclude each other", self.name));
        }
        self.content().map(drop)
    }

    /// Its body.
    pub(super) fn content(&self) -> Result<Bytes, String> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        match &self.body_base64 {
            None => Ok(self.body.clone().into()),
            Some(text) => STANDARD
                .decode(text.as_bytes())
                .map(Bytes::from)
                .map_err(|error| format!("`{}`: body_base64: {error}", self.name)),
        }
    }
}

impl Expect {
    /// Whether an answer is the expected one; the text says where it is not.
    pub(super) fn meets(&self, (status, code, body): (u16, &str, &[u8])) -> Result<(), String> {
        let text = String::from_utf8_lossy(body);
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        if status != self.status {
            let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
            return Err(format!("expected the status {}, got {status}{code}: {shown}", self.status));
        }
        if let Some(wanted) = self.code.as_deref().filter(|wanted| *wanted != code) {
            return Err(format!("expected the code `{wanted}`, got `{code}`"));
        }
        if self.body.as_deref().is_some_and(|wanted| wanted != text) {
            return Err(format!("the body is not the expected one: {shown}"));
        }
        if let Some(wanted) = self.contains.as_deref().filter(|wanted| !text.contains(wanted)) {
            return Err(format!("the body does not contain `{wanted}`: {shown}"));
        }
        let Some(wanted) = &self.json else { return Ok(()) };
        let found = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON ({error}): {shown}"))?;
        matches(&wanted.0, &found, self.tolerance, "")
    }
}

/// Whether `found` has everything that `wanted` names; the text says where it has not.
fn matches(wanted: &Value, found: &Value, tolerance: f64, at: &str) -> Result<(), String> {
    let differs =
        || Err(format!("at `{}`: expected {wanted}, got {}", if at.is_empty() { "/" } else { at }, short(found)));
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(members)) => wanted.iter().try_for_each(|(name, wanted)| {
            let at = format!("{at}/{name}");
            let member = members.get(name).ok_or_else(|| format!("at `{at}`: it is missing"))?;
            matches(wanted, member, tolerance, &at)
        }),
        (Value::Array(list), Value::Array(elements)) if list.len() == elements.len() => {
            let mut pairs = list.iter().zip(elements).enumerate();
            pairs.try_for_each(|(index, (wanted, found))| matches(wanted, found, tolerance, &format!("{at}/{index}")))
        }
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) if (a - b).abs() <= tolerance => Ok(()),
            _ => differs(),
        },
        (wanted, found) if wanted == found => Ok(()),
        _ => differs(),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_of_an_answer_is_compared_and_what_differs_is_named() {
        let found =
            json!({ "results": [{ "index": 1, "score": 0.98761 }, { "index": 0, "score": 0.1 }], "more": true });
        let compare = |wanted: Value| matches(&wanted, &found, 1e-3, "");
        assert_eq!(compare(json!({ "results": [{ "index": 1, "score": 0.9880 }, {}] })), Ok(()));
        for (wanted, named) in [
            (json!({ "results": [{ "index": 1 }] }), "`/results`"),
            (json!({ "results": [{ "score": 0.9 }, {}] }), "`/results/0/score`: expected 0.9, got 0.98761"),
            (json!({ "less": 1 }), "`/less`: it is missing"),
            (json!({ "more": "true" }), "`/more`"),
            (json!([]), "`/`"),
        ] {
            let said = compare(wanted).unwrap_err();
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn a_case_that_makes_no_sense_is_named() {
        for (text, named) in [
            ("name = \"a\"\nmethod = \"PUT\"", "POST or GET"),
            ("name = \"a\"\npath = \"x\"", "begin with `/`"),
            ("name = \"a\"\nbody_base64 = \"%\"", "body_base64"),
            ("name = \"a\"\nbody_base64 = \"YQ==\"\nbody = \"a\"", "exclude"),
        ] {
            let said = toml::from_str::<Case>(text).unwrap().check().unwrap_err();
            assert!(said.contains(named) && said.contains("`a`"), "{said}");
        }
        let case: Case = toml::from_str("name = \"a\"\nbody_base64 = \"YQ==\"\n[expect.json]\nx = [1, 2.5]").unwrap();
        assert_eq!((case.check(), case.content().unwrap()), (Ok(()), Bytes::from_static(b"a")));
        assert_eq!(case.expect.json, Some(Shallow(json!({ "x": [1, 2.5] }))));
    }
}
