//! JSON of a bounded depth, read from whatever a manifest is written in.
//!
//! A reader of values calls itself for every level, and what a tenant uploads must not decide how deep the stack gets:
//! TOML's own bound is one of inline tables and one of dotted keys, and the two multiply.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Deeper answers are compared by nobody.
const MAX_DEPTH: usize = 32;

/// A value that is not too deep.
#[derive(Clone, Debug, PartialEq)]
pub struct Shallow(pub Value);

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(MAX_DEPTH).deserialize(deserializer).map(Self)
    }
}

/// How many levels may still follow.
struct Level(usize);

impl Level {
    fn below<E: Error>(&self) -> Result<Self, E> {
        let left = self.0.checked_sub(1);
        left.map(Self).ok_or_else(|| E::custom(format!("nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text, number, truth value, list or table")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self.below()?)? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            map.insert(name, members.next_value_seed(self.below()?)?);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        json: Shallow,
    }

    #[test]
    fn values_are_what_they_are() {
        let read: Holder = toml::from_str("json = { a = [1, 2.5, true, \"x\"], b.c = -3 }").unwrap();
        assert_eq!(read.json.0, serde_json::json!({ "a": [1, 2.5, true, "x"], "b": { "c": -3 } }));
        assert!(toml::from_str::<Holder>("json = { a = nan }").is_err());
    }

    #[test]
    fn depth_is_refused_and_costs_no_stack() {
        let keys = vec!["a"; 70].join(".");
        let deep = format!("json = {}1{}", format!("{{{keys} = ").repeat(70), "}".repeat(70));
        // A thread with little room, as a reactor's have.
        let read = std::thread::Builder::new().stack_size(1 << 20).spawn(move || toml::from_str::<Holder>(&deep));
        let error = read.unwrap().join().unwrap().unwrap_err();
        assert!(error.to_string().contains("deeper than 32") || error.to_string().contains("recursion"), "{error}");
        let list = format!("json = {}1{}", "[".repeat(33), "]".repeat(33));
        assert!(toml::from_str::<Holder>(&list).unwrap_err().to_string().contains("deeper than 32"));
    }
}
