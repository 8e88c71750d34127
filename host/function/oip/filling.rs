//! A tensor in the making, element by element.
//!
//! Owns what a number may be: nothing is rounded into an integer, nothing wraps, nothing becomes infinite. Refuses to
//! know where numbers come from. The memory is as large as the shape says, charged before it is taken, and not taken at
//! all where what was sent is too short to hold so many elements.

use std::{fmt, sync::Arc};

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
    expected: Expected,
    pub(super) shape: Vec<u64>,
    bytes: Vec<u8>,
    charge: Charge,
    /// How deep numbers lie, once one was met: 1, or as deep as the shape.
    pub(super) depth: Option<usize>,
    /// Where the element is that is read.
    pub(super) place: Vec<u64>,
    pub(super) input: usize,
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

    /// Adds an element, or says why it is none.
    pub(super) fn put(&mut self, number: Number) -> Result<(), String> {
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

    /// The place of the element that is read, as a JSON pointer.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = format!("/inputs/{}/data", self.input);
        for index in &self.place {
            pointer.push_str(&format!("/{index}"));
        }
        pointer
    }
}

/// A number as it was written.
#[derive(Clone, Copy)]
pub(super) enum Number {
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
