//! Elements in JSON, written straight into the bytes of their tensors: nested as the shape says, or flat.
//!
//! Owns what a number may be: nothing is rounded into an integer, nothing wraps, nothing becomes infinite. Refuses to
//! know the rest of the document. The memory is as large as the shape says, charged before it is taken, and not taken at
//! all where the document is too short to hold so many elements.

use std::{fmt, sync::Arc};

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::request::{DecodeError, Expected};
use crate::{
    account::{Account, Charge, Kind, OverLimit},
    tensor::{Datatype, Tensor},
};

/// Where the bytes of one input come from.
pub(super) enum Slot {
    /// They are there.
    Raw(Tensor),
    /// They are in the document.
    Elements(Filling),
}

/// A tensor in the making.
pub(super) struct Filling {
    pub(super) expected: Expected,
    shape: Vec<u64>,
    bytes: Vec<u8>,
    charge: Charge,
    /// How deep numbers lie, once one was met: 1, or as deep as the shape.
    depth: Option<usize>,
    /// Where the element is that is read.
    place: Vec<u64>,
    input: usize,
}

/// Why there is no memory for elements.
pub(super) enum NoSlot {
    TooShort { elements: u64 },
    Memory(OverLimit),
}

impl NoSlot {
    pub(super) fn placed(self, place: &str) -> DecodeError {
        match self {
            Self::TooShort { elements } => {
                DecodeError::at(place, format_args!("the shape has {elements} elements, the request is shorter"))
            }
            Self::Memory(over) => DecodeError::Memory(over),
        }
    }
}

impl Slot {
    /// The tensor, and what keeps it in its account where the body's charge does not.
    pub(super) fn finish(self, place: &str) -> Result<(Tensor, Option<Charge>), DecodeError> {
        match self {
            Self::Raw(tensor) => Ok((tensor, None)),
            Self::Elements(filling) => filling.finish(place).map(|(tensor, charge)| (tensor, Some(charge))),
        }
    }
}

impl Filling {
    /// Memory for the elements, of which there can be `most`: as many as are written somewhere.
    pub(super) fn new(expected: Expected, most: usize, account: &Arc<Account>) -> Result<Self, NoSlot> {
        let elements = expected.elements();
        if elements > most as u64 {
            return Err(NoSlot::TooShort { elements });
        }
        let charge = account.charge(Kind::Tensors, expected.bytes).map_err(NoSlot::Memory)?;
        let bytes = Vec::with_capacity(expected.bytes as usize);
        let (shape, depth, place) = (expected.layout.shape(), None, Vec::new());
        Ok(Self { expected, shape, bytes, charge, depth, place, input: 0 })
    }

    /// The tensor and its charge, if all elements were there.
    pub(super) fn finish(self, place: &str) -> Result<(Tensor, Charge), DecodeError> {
        let Self { expected, bytes, charge, shape, .. } = self;
        if bytes.len() as u64 != expected.bytes {
            let (elements, found) = (expected.elements(), bytes.len() as u64 / expected.datatype.width());
            return Err(DecodeError::at(
                place,
                format_args!("the shape {shape:?} has {elements} elements, the data {found}"),
            ));
        }
        Ok((Tensor { datatype: expected.datatype, layout: expected.layout, bytes: bytes.into() }, charge))
    }

    /// Adds an element that is a whole number.
    pub(super) fn push(&mut self, value: i128) -> Result<(), String> {
        self.put(Number::Whole(value))
    }

    /// The same for those that are no whole numbers.
    pub(super) fn push_float(&mut self, value: f64) -> Result<(), String> {
        self.put(Number::Float(value))
    }

    /// The same for truth values.
    pub(super) fn push_bool(&mut self, value: bool) -> Result<(), String> {
        self.put(Number::Bool(value))
    }

    fn put(&mut self, number: Number) -> Result<(), String> {
        let datatype = self.expected.datatype;
        if self.bytes.len() as u64 >= self.expected.bytes {
            let (shape, elements) = (&self.shape, self.expected.elements());
            return Err(format!("the data has more than the {elements} elements of the shape {shape:?}"));
        }
        let misfit = || format!("{number} is no {datatype}{}", range(datatype));
        match (datatype, number) {
            (Datatype::Bool, Number::Bool(value)) => self.bytes.push(value.into()),
            (Datatype::Fp32, Number::Whole(_) | Number::Float(_)) => {
                let (wide, narrow) = (number.float(), number.float() as f32);
                if wide.is_finite() && !narrow.is_finite() {
                    return Err(misfit());
                }
                self.bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            (Datatype::Fp64, Number::Whole(_) | Number::Float(_)) => {
                self.bytes.extend_from_slice(&number.float().to_le_bytes());
            }
            (_, Number::Whole(value)) if bounds(datatype).is_some_and(|(low, high)| low <= value && value <= high) => {
                self.bytes.extend_from_slice(&value.to_le_bytes()[..datatype.width() as usize]);
            }
            _ => return Err(misfit()),
        }
        Ok(())
    }

    fn pointer(&self) -> String {
        let mut pointer = format!("/inputs/{}/data", self.input);
        for index in &self.place {
            pointer.push_str(&format!("/{index}"));
        }
        pointer
    }
}

/// A number as it was written.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
    Bool(bool),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Float(value) => value,
            Self::Bool(value) => value.into(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Float(value) => fmt::Debug::fmt(value, f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// What an integer may be.
fn bounds(datatype: Datatype) -> Option<(i128, i128)> {
    let signed = matches!(datatype, Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64);
    let bits = 8 * datatype.width();
    datatype.is_integer().then_some(match signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        false => (0, (1_i128 << bits) - 1),
    })
}

fn range(datatype: Datatype) -> String {
    bounds(datatype).map_or_else(String::new, |(low, high)| format!(" ({low} to {high})"))
}

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
