//! gRPC's typed contents: which field holds which datatype, and its numbers as a tensor's bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    filling::Filling,
    request::{DecodeError, Expected},
    wire::{Fields, Value},
};
use crate::{
    account::{Account, Charge},
    tensor::{Datatype, Tensor},
};

/// The fields of `InferTensorContents`, by number from 1.
const FIELDS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

/// The number of the field that holds a datatype's elements; none for those that are only ever raw.
fn field(datatype: Datatype) -> Option<u64> {
    use Datatype::{Bf16, Bool, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    match datatype {
        Bool => Some(1),
        Int8 | Int16 | Int32 => Some(2),
        Int64 => Some(3),
        Uint8 | Uint16 | Uint32 => Some(4),
        Uint64 => Some(5),
        Fp32 => Some(6),
        Fp64 => Some(7),
        Fp16 | Bf16 => None,
    }
}

/// Reads the contents of one input.
pub(super) fn read(
    place: &str,
    contents: Bytes,
    expected: Expected,
    account: &Arc<Account>,
) -> Result<(Tensor, Charge), DecodeError> {
    expected.sayable(place)?;
    let datatype = expected.datatype;
    // Each element takes a byte at least.
    let mut filling = Filling::new(expected, contents.len(), account).map_err(|error| error.placed(place))?;
    let at = |what: String| DecodeError::at(place, what);
    let broken = |what: &'static str| DecodeError::at(place, what);
    let mut fields = Fields(contents);
    while let Some((number, value)) = fields.next().map_err(broken)? {
        let Some(name) = usize::try_from(number).ok().and_then(|number| FIELDS.get(number.wrapping_sub(1))) else {
            continue;
        };
        if field(datatype) != Some(number) {
            let right = field(datatype).map_or("raw_input_contents", |number| FIELDS[number as usize - 1]);
            return Err(at(format!("elements of {datatype} go into `{right}`, not `{name}`")));
        }
        match value {
            Value::Bytes(packed) => {
                let mut packed = Fields(packed);
                while !packed.is_empty() {
                    let element = match datatype {
                        Datatype::Fp32 => packed.array().map(Value::Fixed32),
                        Datatype::Fp64 => packed.array().map(Value::Fixed64),
                        _ => packed.varint().map(Value::Varint),
                    };
                    push(&mut filling, datatype, element.map_err(broken)?).map_err(at)?;
                }
            }
            single => push(&mut filling, datatype, single).map_err(at)?,
        }
    }
    filling.finish(place)
}

fn push(filling: &mut Filling, datatype: Datatype, element: Value) -> Result<(), String> {
    use Datatype::{Bool, Fp32, Fp64, Uint8, Uint16, Uint32, Uint64};
    match (datatype, element) {
        (Bool, Value::Varint(value)) => filling.push_bool(value != 0),
        (Uint8 | Uint16 | Uint32 | Uint64, Value::Varint(value)) => filling.push(value.into()),
        (Fp32, Value::Fixed32(bytes)) => filling.push_float(f32::from_le_bytes(bytes).into()),
        (Fp64, Value::Fixed64(bytes)) => filling.push_float(f64::from_le_bytes(bytes)),
        // Negative numbers come as their two's complement in 64 bits.
        (datatype, Value::Varint(value)) if datatype.is_integer() => filling.push((value as i64).into()),
        _ => Err("an element has another type than the protocol gives it".into()),
    }
}
