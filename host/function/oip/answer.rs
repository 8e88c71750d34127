//! What a model gave, as an answer of the Open Inference Protocol. Owns the writing, charged as it grows; refuses to say in
//! JSON what JSON has no words for.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use super::InferRequest;
use crate::{
    account::{Account, Charge, ChargedBytes, Kind, OverLimit},
    invocation::Outputs,
    tensor::{Datatype, Tensor},
};

/// Numbers are written into a buffer of this size before the answer grows.
const PIECE_BYTES: usize = 8 << 10;
/// What gRPC puts before a message: whether it is packed, and its length.
const PREFIX_BYTES: usize = 5;
/// Protobuf's type of texts, bytes and messages.
const LENGTH_DELIMITED: u64 = 2;

/// An answer before it is written.
#[derive(Debug)]
pub struct Told<'a> {
    /// The caller's name for its request; left out where it gave none.
    pub id: &'a str,
    /// The model that answered, and its version.
    pub model: (&'a str, u64),
    /// The outputs in the order in which they are told, and whether as binary data.
    pub outputs: Vec<(&'a str, &'a Tensor, bool)>,
}

/// Why an answer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum UntoldError {
    /// There is no form for it; the text says what would help.
    #[error("{0}")]
    Form(String),
    /// It would not fit in the account.
    #[error(transparent)]
    Memory(#[from] OverLimit),
}

/// An answer as it is sent.
#[derive(Debug)]
pub(in crate::function) struct Written {
    pub(in crate::function) body: Bytes,
    pub(in crate::function) charge: Charge,
    /// Bytes of JSON before binary data, where there is any.
    pub(in crate::function) header_bytes: Option<usize>,
}

/// One output in JSON but for its data.
#[derive(Serialize)]
struct Head<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [u64],
}

impl<'a> Told<'a> {
    /// The outputs that a request wants, or the name of one that the model does not give.
    pub fn of(request: &'a InferRequest, model: (&'a str, u64), outputs: &'a Outputs) -> Result<Self, String> {
        let all = outputs.tensors.iter();
        let told: Result<Vec<_>, String> = if request.outputs.is_empty() {
            Ok(all.map(|(name, tensor)| (&**name, tensor, request.binary)).collect())
        } else {
            let find = |name: &str| outputs.tensors.iter().find(|(found, _)| **found == *name);
            let wanted = request.outputs.iter().map(|wanted| {
                let (name, tensor) = find(&wanted.name).ok_or_else(|| wanted.name.clone())?;
                Ok((&**name, tensor, wanted.binary))
            });
            wanted.collect()
        };
        Ok(Self { id: &request.id, model, outputs: told? })
    }

    /// As JSON, with binary data behind it where it is wanted.
    pub(in crate::function) fn json(&self, account: &Arc<Account>) -> Result<Written, UntoldError> {
        let mut text = Text { bytes: ChargedBytes::new(account.charge(Kind::Response, 0)?), piece: Vec::new() };
        text.piece.push(b'{');
        if !self.id.is_empty() {
            text.say("\"id\":", &self.id)?;
            text.piece.push(b',');
        }
        text.say("\"model_name\":", &self.model.0)?;
        text.say(",\"model_version\":", &self.model.1.to_string())?;
        text.piece.extend_from_slice(b",\"outputs\":[");
        for (index, (name, tensor, binary)) in self.outputs.iter().enumerate() {
            rectangular(name, tensor)?;
            if index > 0 {
                text.piece.push(b',');
            }
            let head = Head { name, datatype: tensor.datatype.name(), shape: &tensor.layout.shape() };
            text.say("", &head)?;
            // The object goes on.
            text.piece.pop();
            if *binary {
                text.say(",\"parameters\":{\"binary_data_size\":", &tensor.bytes.len())?;
                text.piece.extend_from_slice(b"}}");
            } else {
                text.piece.extend_from_slice(b",\"data\":[");
                text.elements(name, tensor)?;
                text.piece.extend_from_slice(b"]}");
            }
        }
        text.piece.extend_from_slice(b"]}");
        text.flush()?;
        let mut bytes = text.bytes;
        let binary = self.outputs.iter().any(|(_, _, binary)| *binary);
        let header_bytes = binary.then_some(bytes.len());
        let raw = self.outputs.iter().filter(|(_, _, binary)| *binary).map(|(_, tensor, _)| &tensor.bytes);
        let all = bytes.len() + raw.clone().map(Bytes::len).sum::<usize>();
        if binary {
            bytes.reserve(all)?;
        }
        for raw in raw {
            bytes.extend(raw, all)?;
        }
        let (body, charge) = bytes.finish();
        Ok(Written { body, charge, header_bytes })
    }

    /// As a `ModelInferResponse` with what gRPC puts before it, so that the answer is one piece. All outputs are raw.
    pub(in crate::function) fn protobuf(&self, account: &Arc<Account>) -> Result<Written, UntoldError> {
        let mut head = vec![0; PREFIX_BYTES];
        let version = self.model.1.to_string();
        for (number, text) in [(1, self.model.0), (2, &version), (3, self.id)] {
            field(&mut head, number, text.as_bytes());
        }
        for (name, tensor, _) in &self.outputs {
            rectangular(name, tensor)?;
            let (mut output, mut shape) = (Vec::new(), Vec::new());
            tensor.layout.shape().into_iter().for_each(|extent| varint(&mut shape, extent));
            for (number, bytes) in [(1, name.as_bytes()), (2, tensor.datatype.name().as_bytes()), (3, &shape)] {
                field(&mut output, number, bytes);
            }
            field(&mut head, 5, &output);
        }
        let raw_tag = |tensor: &Tensor| {
            let mut tag = Vec::new();
            varint(&mut tag, 6 << 3 | LENGTH_DELIMITED);
            varint(&mut tag, tensor.bytes.len() as u64);
            tag
        };
        let raw: usize = self.outputs.iter().map(|(_, tensor, _)| raw_tag(tensor).len() + tensor.bytes.len()).sum();
        let all = head.len() + raw;
        let length = u32::try_from(all - PREFIX_BYTES)
            .map_err(|_| UntoldError::Form("the outputs are larger than a message of gRPC".into()))?;
        head[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        let mut bytes = ChargedBytes::new(account.charge(Kind::Response, 0)?);
        // All room at once: the length is known.
        bytes.reserve(all)?;
        bytes.extend(&head, all)?;
        for (_, tensor, _) in &self.outputs {
            bytes.extend(&raw_tag(tensor), all)?;
            bytes.extend(&tensor.bytes, all)?;
        }
        let (body, charge) = bytes.finish();
        Ok(Written { body, charge, header_bytes: None })
    }
}

/// Refuses rows of different lengths: the protocol's tensors have one shape.
fn rectangular(name: &str, tensor: &Tensor) -> Result<(), UntoldError> {
    match tensor.layout.lengths() {
        Some((_, lengths)) if lengths.windows(2).any(|pair| pair[0] != pair[1]) => Err(UntoldError::Form(format!(
            "the rows of output `{name}` differ in length, which the Open Inference Protocol cannot tell"
        ))),
        _ => Ok(()),
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A field of bytes; an empty one is not written.
fn field(bytes: &mut Vec<u8>, number: u64, value: &[u8]) {
    if !value.is_empty() {
        varint(bytes, number << 3 | LENGTH_DELIMITED);
        varint(bytes, value.len() as u64);
        bytes.extend_from_slice(value);
    }
}

/// JSON in the making.
struct Text {
    bytes: ChargedBytes,
    /// What is not in `bytes` yet.
    piece: Vec<u8>,
}

impl Text {
    fn say(&mut self, before: &str, value: &impl Serialize) -> Result<(), UntoldError> {
        self.piece.extend_from_slice(before.as_bytes());
        // Texts and numbers always have a form.
        serde_json::to_writer(&mut self.piece, value).map_err(|error| UntoldError::Form(error.to_string()))
    }

    fn flush(&mut self) -> Result<(), OverLimit> {
        self.bytes.extend(&self.piece, usize::MAX)?;
        self.piece.clear();
        Ok(())
    }

    fn elements(&mut self, name: &str, tensor: &Tensor) -> Result<(), UntoldError> {
        let width = tensor.datatype.width() as usize;
        for (index, element) in tensor.bytes.chunks_exact(width).enumerate() {
            if index > 0 {
                self.piece.push(b',');
            }
            self.element(tensor.datatype, element).map_err(|value| {
                UntoldError::Form(format!(
                    "output `{name}`, element {index} is {value}, which JSON cannot tell: ask for binary data"
                ))
            })?;
            if self.piece.len() >= PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes one element; the error says what it is that cannot be written.
    fn element(&mut self, datatype: Datatype, bytes: &[u8]) -> Result<(), String> {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(wide);
        let spare = 64 - 8 * bytes.len() as u32;
        // Moved up and down again, so that the sign fills what was not there.
        let signed = (unsigned << spare) as i64 >> spare;
        let float = |float: f64| if float.is_finite() { Ok(()) } else { Err(float.to_string()) };
        let written = match datatype {
            Datatype::Bool => write!(self.piece, "{}", unsigned != 0),
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 => {
                write!(self.piece, "{unsigned}")
            }
            Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => write!(self.piece, "{signed}"),
            Datatype::Fp32 => {
                let value = f32::from_bits(unsigned as u32);
                float(value.into())?;
                serde_json::to_writer(&mut self.piece, &value).map_err(Into::into)
            }
            Datatype::Fp64 => {
                let value = f64::from_bits(unsigned);
                float(value)?;
                serde_json::to_writer(&mut self.piece, &value).map_err(Into::into)
            }
            Datatype::Fp16 | Datatype::Bf16 => return Err(format!("of {datatype}")),
        };
        // Writing to memory cannot fail.
        written.map_err(|error: std::io::Error| error.to_string())
    }
}
