//! gRPC's messages of an inference: `ModelInferRequest` read, `ModelInferResponse` written with gRPC's five bytes before
//! it. Field numbers are the protocol's (package `inference`); a test of the suite holds them against its own client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    contents,
    request::{Declared, DecodeError, InferRequest, MAX_DIMENSIONS, MAX_TENSORS, MAX_TEXT_BYTES, Wanted, echo},
    wire::{Fields, Value},
};
use crate::account::Account;

/// Raw contents stand in a list of their own, in the order of the inputs.
struct Input {
    declared: Declared,
    contents: Option<Bytes>,
}

/// What a parameter's value may be, as far as it matters here.
enum Parameter {
    /// Neither zero nor empty nor false, and a number where it is one.
    Says(Option<u64>),
    Nothing,
}

/// Reads a `ModelInferRequest`.
pub(super) fn decode(message: &Bytes, account: &Arc<Account>) -> Result<InferRequest, DecodeError> {
    let mut request = InferRequest::default();
    let (mut inputs, mut raw) = (Vec::new(), Vec::new());
    let mut fields = Fields(message.clone());
    while let Some((number, value)) = fields.next().map_err(broken)? {
        match number {
            1 => request.model = text("model_name", value)?,
            2 => request.version = text("model_version", value)?,
            3 => request.id = text("id", value)?,
            4 => {
                let (name, parameter) = parameter(value)?;
                if let ("timeout", Parameter::Says(Some(timeout))) = (&name[..], &parameter) {
                    request.timeout = Some(Duration::from_micros(*timeout));
                }
                refuse("parameters", &name, &parameter)?;
            }
            5 => {
                let place = format!("inputs[{}]", bounded("inputs", inputs.len())?);
                inputs.push(input(&place, value.bytes().map_err(broken)?)?);
            }
            6 => {
                let place = format!("outputs[{}]", bounded("outputs", request.outputs.len())?);
                request.outputs.push(output(&place, value.bytes().map_err(broken)?)?);
            }
            7 => {
                bounded("raw_input_contents", raw.len())?;
                raw.push(value.bytes().map_err(broken)?);
            }
            _ => {}
        }
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (raw, inputs) = (raw.len(), inputs.len());
        return Err(DecodeError::Malformed(format!("there are {inputs} inputs and {raw} raw_input_contents")));
    }
    let mut raw = raw.into_iter();
    for (index, Input { declared, contents }) in inputs.into_iter().enumerate() {
        let place = format!("inputs[{index}]");
        let expected = declared.judge(&place)?;
        let tensor = match (contents, raw.next()) {
            (None, Some(bytes)) => expected.raw(&place, bytes)?,
            (Some(contents), None) => {
                let (tensor, charge) = contents::read(&place, contents, expected, account)?;
                request.charges.push(Arc::new(charge));
                tensor
            }
            (Some(_), Some(_)) => {
                return Err(DecodeError::at(&place, "has both `contents` and `raw_input_contents`"));
            }
            (None, None) => {
                let needed = format_args!("`{}` has neither `contents` nor raw contents", echo(&declared.name));
                return Err(DecodeError::at(&place, needed));
            }
        };
        request.inputs.push((declared.name, tensor));
    }
    Ok(request)
}

fn input(place: &str, message: Bytes) -> Result<Input, DecodeError> {
    let (mut declared, mut found) = (Declared::default(), None);
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().map_err(broken)? {
        match number {
            1 => declared.name = text(place, value)?,
            2 => declared.datatype = text(place, value)?,
            3 => shape(&mut declared.shape, value).map_err(|what| DecodeError::at(place, what))?,
            4 => {
                let (name, parameter) = parameter(value)?;
                refuse(place, &name, &parameter)?;
            }
            5 if found.is_some() => return Err(DecodeError::at(place, "has `contents` twice")),
            5 => found = Some(value.bytes().map_err(broken)?),
            _ => {}
        }
    }
    Ok(Input { declared, contents: found })
}

fn output(place: &str, message: Bytes) -> Result<Wanted, DecodeError> {
    let mut wanted = Wanted { name: String::new(), binary: true };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().map_err(broken)? {
        match number {
            1 => wanted.name = text(place, value)?,
            2 => {
                let (name, parameter) = parameter(value)?;
                refuse(place, &name, &parameter)?;
            }
            _ => {}
        }
    }
    Ok(wanted)
}

fn shape(shape: &mut Vec<i64>, value: Value) -> Result<(), &'static str> {
    let mut packed = match value {
        Value::Bytes(packed) => Fields(packed),
        single => {
            shape.push(single.number()? as i64);
            Fields(Bytes::new())
        }
    };
    while !packed.is_empty() && shape.len() < MAX_DIMENSIONS {
        shape.push(packed.varint()? as i64);
    }
    match shape.len() {
        MAX_DIMENSIONS => Err("has a shape of too many dimensions"),
        _ => Ok(()),
    }
}

/// An entry of a map of parameters.
fn parameter(value: Value) -> Result<(String, Parameter), DecodeError> {
    let mut fields = Fields(value.bytes().map_err(broken)?);
    let (mut name, mut says) = (String::new(), Parameter::Nothing);
    while let Some((number, value)) = fields.next().map_err(broken)? {
        match number {
            1 => name = text("parameters", value)?,
            2 => {
                let mut choice = Fields(value.bytes().map_err(broken)?);
                while let Some((_, value)) = choice.next().map_err(broken)? {
                    says = match value {
                        Value::Varint(0) => Parameter::Nothing,
                        Value::Bytes(text) if text.is_empty() => Parameter::Nothing,
                        Value::Varint(number) => Parameter::Says(Some(number)),
                        _ => Parameter::Says(None),
                    };
                }
            }
            _ => {}
        }
    }
    Ok((name, says))
}

/// Refuses parameters that would mean something elsewhere, by name.
fn refuse(place: &str, name: &str, parameter: &Parameter) -> Result<(), DecodeError> {
    let known = ["sequence_id", "classification", "shared_memory_region"];
    match known.contains(&name) && matches!(parameter, Parameter::Says(_)) {
        true => Err(DecodeError::at(place, format_args!("`{name}` is not offered by this host"))),
        false => Ok(()),
    }
}

fn bounded(what: &str, count: usize) -> Result<usize, DecodeError> {
    match count {
        MAX_TENSORS => Err(DecodeError::Malformed(format!("there are more than {MAX_TENSORS} {what}"))),
        _ => Ok(count),
    }
}

fn text(place: &str, value: Value) -> Result<String, DecodeError> {
    let bytes = value.bytes().map_err(broken)?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(DecodeError::at(place, format_args!("a text has at most {MAX_TEXT_BYTES} bytes")));
    }
    String::from_utf8(bytes.into()).map_err(|_| DecodeError::at(place, "a text is not UTF-8"))
}

fn broken(what: &'static str) -> DecodeError {
    DecodeError::Malformed(what.into())
}
