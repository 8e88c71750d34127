//! Images in JSON: `{"image": "<base64>"}` or `{"images": ["<base64>", …]}`.
//!
//! Owns a reading of such a document that copies nothing: fifty megabytes of base64 become ranges of the text that
//! is there anyway. Refuses to build a tree of values, which would hold everything twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tenon_sdk::Rejection;

use crate::body::Encoded;

/// A value, as far as it matters here.
#[derive(Debug)]
enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    /// The first items, as many as may be, and how many there are.
    List(Vec<Value<'a>>, usize),
    /// Something else, with its article.
    Other(&'static str),
}

/// The images that a document names, in order, and whether it names them in a list.
pub(crate) fn images(text: &[u8], limit: usize) -> Result<(Vec<Encoded>, bool), Rejection> {
    if text.trim_ascii().is_empty() {
        return Err(Rejection::bad_request("empty-body", "the body is empty; send a JSON object"));
    }
    let (image, list) = document(text, limit)
        .map_err(|error| Rejection::bad_request("invalid-json", format!("the body is not JSON: {error}")))?
        .ok_or_else(|| wrong("not-an-object", "expected an object with `image` or `images`", ""))?;
    match (image, list) {
        (Value::Null, Value::Null) => Err(wrong("missing-image", "`image` or `images` is missing", "")),
        (image, Value::Null) => one(image, "/image", text).map(|image| (vec![image], false)),
        (Value::Null, Value::List(items, count)) => Ok((many(items, count, (limit, text))?, true)),
        (Value::Null, other) => Err(wrong("invalid-images", &expected("an array", &other), "/images")),
        _ => Err(wrong("invalid-images", "send `image` or `images`, not both", "/images")),
    }
}

fn many(items: Vec<Value<'_>>, count: usize, (limit, text): (usize, &[u8])) -> Result<Vec<Encoded>, Rejection> {
    if count == 0 {
        return Err(wrong("missing-image", "there are no images", "/images"));
    }
    if count > limit {
        let detail = format!("{count} images, {limit} at most");
        return Err(Rejection::new(413, "too-many-images", detail).at("/images"));
    }
    let images = items.into_iter().enumerate().map(|(index, item)| {
        // In a list, one that is no text is the affair of its own place.
        one(item, &format!("/images/{index}"), text).unwrap_or_else(|wrong| Encoded::Wrong(Box::new(wrong)))
    });
    Ok(images.collect())
}

fn one(value: Value<'_>, pointer: &str, text: &[u8]) -> Result<Encoded, Rejection> {
    let pointer = pointer.to_owned();
    match value {
        Value::Text(Cow::Borrowed(found)) => {
            let start = found.as_ptr() as usize - text.as_ptr() as usize;
            Ok(Encoded::Base64 { text: start..start + found.len(), pointer })
        }
        Value::Text(Cow::Owned(text)) => Ok(Encoded::Escaped { text, pointer }),
        other => Err(wrong("invalid-image", &expected("a string of base64", &other), &pointer)),
    }
}

fn wrong(code: &str, detail: &str, pointer: &str) -> Rejection {
    Rejection::unprocessable(code, detail).at(pointer)
}

fn expected(wanted: &str, value: &Value<'_>) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Text(_) => "a string",
        Value::List(..) => "an array",
        Value::Other(kind) => kind,
    };
    format!("expected {wanted}, found {found}")
}

/// The members `image` and `images`; none where the document is no object.
type Members<'a> = Option<(Value<'a>, Value<'a>)>;

fn document(text: &[u8], limit: usize) -> Result<Members<'_>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let members = Document { limit }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(members)
}

struct Document {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Document {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

/// What is no object is no error of JSON: the answer says what was expected.
macro_rules! not_an_object {
    ($($visit:ident: $type:ty),+) => { $(
        fn $visit<E>(self, _: $type) -> Result<Self::Value, E> { Ok(None) }
    )+ };
}

impl<'de> Visitor<'de> for Document {
    type Value = Members<'de>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut image, mut images) = (Value::Null, Value::Null);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let seed = Any { limit: self.limit, inner: false };
            match name.as_ref() {
                "image" => image = map.next_value_seed(seed)?,
                "images" => images = map.next_value_seed(seed)?,
                // Clients of other services send their own.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some((image, images)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    not_an_object!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
}

/// A member, or an item of one.
struct Any {
    limit: usize,
    inner: bool,
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

macro_rules! other {
    ($($visit:ident: $type:ty = $kind:literal),+) => { $(
        fn $visit<E>(self, _: $type) -> Result<Self::Value, E> { Ok(Value::Other($kind)) }
    )+ };
}

impl<'de> Visitor<'de> for Any {
    type Value = Value<'de>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (mut kept, mut count) = (Vec::new(), 0);
        while !self.inner && count < self.limit {
            let Some(item) = items.next_element_seed(Any { limit: 0, inner: true })? else { break };
            kept.push(item);
            count += 1;
        }
        // Counted, so that the refusal can say how many; not kept.
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(if self.inner { Value::Other("an array") } else { Value::List(kept, count) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }

    other!(visit_bool: bool = "a boolean", visit_i64: i64 = "a number", visit_u64: u64 = "a number");
    other!(visit_f64: f64 = "a number");
}
