//! Elements in JSON, written straight into the bytes of their tensors: nested as the shape says, or flat.
//!
//! Owns the forms that lists may have. Refuses to know the rest of the document, and what a number may be, which is
//! `filling`'s.

use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::filling::{Filling, Number, Slot};

/// Reads the elements of all inputs that have them in the document.
pub(super) fn read(document: &[u8], slots: &mut [(String, Slot)]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    Root(slots).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The document; of its members only `inputs` is looked at.
struct Root<'a>(&'a mut [(String, Slot)]);
/// The list of inputs.
struct Inputs<'a>(&'a mut [(String, Slot)]);
/// One input; of its members only `data`.
struct OneInput<'a>(&'a mut Slot);
/// Its elements, at a depth.
struct Data<'a> {
    filling: &'a mut Filling,
    depth: usize,
}

/// Members that are looked at.
enum Key {
    Inputs,
    Data,
    Other,
}

impl<'de> de::Deserialize<'de> for Key {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "inputs" => Key::Inputs,
                    "data" => Key::Data,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

macro_rules! seed {
    ($name:ident, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();
            fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.$method(self)
            }
        }
    };
}
seed!(Root, deserialize_map);
seed!(Inputs, deserialize_seq);
seed!(OneInput, deserialize_map);
seed!(Data, deserialize_any);

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<Key>()? {
            match key {
                Key::Inputs => members.next_value_seed(Inputs(self.0))?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of inputs")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for (index, (_, slot)) in self.0.iter_mut().enumerate() {
            if let Slot::Elements(filling) = slot {
                filling.input = index;
            }
            list.next_element_seed(OneInput(slot))?;
        }
        // The first reading counted them.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for OneInput<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<Key>()? {
            match (key, &mut *self.0) {
                (Key::Data, Slot::Elements(filling)) => members.next_value_seed(Data { filling, depth: 0 })?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl Data<'_> {
    fn wrong<E: de::Error>(&self, what: impl fmt::Display) -> E {
        E::custom(format_args!("{}: {what}", self.filling.pointer()))
    }

    fn number<E: de::Error>(self, number: Number) -> Result<(), E> {
        let (depth, deepest) = (self.depth, self.filling.shape.len());
        let fits = match self.filling.depth {
            Some(known) => depth == known,
            None => depth == 1 || depth == deepest,
        };
        if !fits {
            let shape = &self.filling.shape;
            return Err(
                self.wrong(format_args!("elements are nested as the shape {shape:?} says, or in one flat list"))
            );
        }
        self.filling.depth = Some(depth);
        self.filling.put(number).map_err(|what| self.wrong(what))
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbers in lists at {}", self.filling.pointer())
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.number(Number::Whole(value.into()))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.number(Number::Whole(value.into()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.number(Number::Float(value))
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.number(Number::Bool(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { filling, depth } = self;
        if depth == filling.shape.len() {
            let shape = filling.shape.clone();
            return Err(Data { filling, depth }.wrong(format_args!("lists lie deeper than the shape {shape:?} says")));
        }
        filling.place.push(0);
        let mut count = 0;
        while list.next_element_seed(Data { filling: &mut *filling, depth: depth + 1 })?.is_some() {
            count += 1;
            if let Some(last) = filling.place.last_mut() {
                *last = count;
            }
        }
        filling.place.pop();
        let flat = depth == 0 && filling.depth == Some(1);
        let extent = filling.shape[depth];
        if !flat && count != extent {
            let what = format!("this list has {count} entries, the shape says {extent}");
            return Err(Data { filling, depth }.wrong(what));
        }
        Ok(())
    }
}
