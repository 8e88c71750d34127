//! A request in JSON, with or without binary tensors behind it.
//!
//! The document is read twice: once for everything but elements, because a tensor's shape may stand behind its data, and
//! once for the elements, straight into the bytes of their tensors. So no tree of values is ever made, whatever the
//! order. Owns the document's form; what an element may be is in `elements`.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};

use super::{
    elements,
    filling::{Filling, Slot},
    request::{Declared, DecodeError, InferRequest, MAX_DIMENSIONS, MAX_TENSORS, MAX_TEXT_BYTES, Wanted, echo},
};
use crate::account::{Account, Kind};

/// Everything of a request but its elements.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    id: Option<Text>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Many<Input, MAX_TENSORS>,
    #[serde(default)]
    outputs: Many<Output, MAX_TENSORS>,
}

#[derive(Deserialize)]
struct Input {
    name: Text,
    datatype: Text,
    shape: Many<i64, MAX_DIMENSIONS>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output {
    name: Text,
    #[serde(default)]
    parameters: Parameters,
}

/// The parameters that mean something here, of requests, inputs and outputs alike; others are passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    binary_data_size: Option<u64>,
    /// In microseconds; 0 stands for none.
    timeout: Option<u64>,
    sequence_id: Option<Sequence>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

impl Parameters {
    fn check(&self, place: &str) -> Result<(), DecodeError> {
        let refused = [
            ("sequence_id", self.sequence_id.as_ref().is_some_and(|sequence| sequence.0)),
            ("classification", self.classification.is_some()),
            ("shared_memory_region", self.shared_memory_region.is_some()),
        ];
        match refused.iter().find(|(_, there)| *there) {
            Some((name, _)) => Err(DecodeError::at(place, format_args!("`{name}` is not offered by this host"))),
            None => Ok(()),
        }
    }
}

/// Reads a body whose first `header_bytes` are JSON, or all of it.
pub(super) fn decode(
    body: &Bytes,
    header_bytes: Option<u64>,
    account: &Arc<Account>,
) -> Result<InferRequest, DecodeError> {
    let length = header_bytes.unwrap_or(body.len() as u64);
    let document = usize::try_from(length).ok().and_then(|length| body.get(..length)).ok_or_else(|| {
        DecodeError::Malformed(format!(
            "{} says {length} bytes of JSON, the body has {} in all",
            super::HEADER_LENGTH,
            body.len()
        ))
    })?;
    // Only texts with escapes are copied while they are read, into a buffer that doubles.
    let _scratch = match document.contains(&b'\\') {
        true => Some(account.charge(Kind::Request, 2 * length)?),
        false => None,
    };
    let read: Document = serde_json::from_slice(document).map_err(syntax)?;
    read.parameters.check("/parameters")?;
    let mut request = InferRequest {
        id: read.id.map(|id| id.0).unwrap_or_default(),
        binary: read.parameters.binary_data_output.unwrap_or(false),
        timeout: read.parameters.timeout.filter(|timeout| *timeout > 0).map(Duration::from_micros),
        ..InferRequest::default()
    };
    for (index, output) in read.outputs.0.into_iter().enumerate() {
        output.parameters.check(&format!("/outputs/{index}/parameters"))?;
        let binary = output.parameters.binary_data.unwrap_or(request.binary);
        request.outputs.push(Wanted { name: output.name.0, binary });
    }
    let rest = header_bytes.map(|_| body.slice(document.len()..));
    inputs(&mut request, read.inputs.0, (document, rest), account)?;
    Ok(request)
}

/// Gives every input its bytes: from behind the document, or from its `data`.
fn inputs(
    request: &mut InferRequest,
    inputs: Vec<Input>,
    (document, mut rest): (&[u8], Option<Bytes>),
    account: &Arc<Account>,
) -> Result<(), DecodeError> {
    let mut slots = Vec::with_capacity(inputs.len());
    let mut in_json = false;
    for (index, input) in inputs.into_iter().enumerate() {
        let place = format!("/inputs/{index}");
        input.parameters.check(&format!("{place}/parameters"))?;
        let declared = Declared { name: input.name.0, datatype: input.datatype.0, shape: input.shape.0 };
        let expected = declared.judge(&place)?;
        let slot = match (input.data.is_some(), input.parameters.binary_data_size) {
            (true, None) => {
                expected.sayable(&place)?;
                in_json = true;
                // Each element takes a digit, and all but one a comma.
                let filling = Filling::new(expected, document.len().div_ceil(2), account);
                Slot::Elements(filling.map_err(|error| error.placed(&place))?)
            }
            (false, Some(size)) => {
                let rest = rest.as_mut().ok_or_else(|| {
                    DecodeError::at(&place, format_args!("binary data needs the header {}", super::HEADER_LENGTH))
                })?;
                let size = usize::try_from(size).ok().filter(|size| *size <= rest.len()).ok_or_else(|| {
                    DecodeError::at(
                        &place,
                        format_args!("binary_data_size is {size}, the body has only {} bytes left", rest.len()),
                    )
                })?;
                Slot::Raw(expected.raw(&place, rest.split_to(size))?)
            }
            (true, Some(_)) => return Err(DecodeError::at(&place, "has both `data` and `binary_data_size`")),
            (false, None) => {
                let needed = format_args!("`{}` has neither `data` nor `binary_data_size`", echo(&declared.name));
                return Err(DecodeError::at(&place, needed));
            }
        };
        slots.push((declared.name, slot));
    }
    if let Some(left) = rest.filter(|rest| !rest.is_empty()) {
        return Err(DecodeError::Malformed(format!("{} bytes of the body belong to no input", left.len())));
    }
    if in_json {
        elements::read(document, &mut slots).map_err(syntax)?;
    }
    for (index, (name, slot)) in slots.into_iter().enumerate() {
        let (tensor, charge) = slot.finish(&format!("/inputs/{index}/data"))?;
        request.inputs.push((name, tensor));
        request.charges.extend(charge.map(Arc::new));
    }
    Ok(())
}

fn syntax(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

/// A text that is short.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Short;
        impl Visitor<'_> for Short {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {MAX_TEXT_BYTES} bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                match text.len() {
                    length if length > MAX_TEXT_BYTES => Err(E::invalid_length(length, &self)),
                    _ => Ok(Text(text.into())),
                }
            }
        }
        deserializer.deserialize_str(Short)
    }
}

/// A list of at most `MOST`.
struct Many<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Many<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Many<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
            type Value = Many<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(next) = list.next_element()? {
                    if found.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    found.push(next);
                }
                Ok(Many(found))
            }
        }
        deserializer.deserialize_seq(Bounded(PhantomData))
    }
}

/// Whether a request belongs to a sequence: its id is neither 0 nor empty.
struct Sequence(bool);

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = Sequence;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Sequence, E> {
                Ok(Sequence(id != 0))
            }
            fn visit_str<E: de::Error>(self, id: &str) -> Result<Sequence, E> {
                Ok(Sequence(!id.is_empty()))
            }
        }
        deserializer.deserialize_any(Id)
    }
}
