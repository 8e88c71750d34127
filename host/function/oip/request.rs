//! An inference as a caller of the Open Inference Protocol asks for it, whichever way it was written. Owns the rules that
//! all ways share: what an input must say, and what its bytes must be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Form, json, protobuf};
use crate::{
    account::{Account, Charge, OverLimit},
    tensor::{Datatype, Layout, Tensor},
};

/// Inputs or outputs of one request: more than any model has.
pub(super) const MAX_TENSORS: usize = 64;
/// Names, versions and ids.
pub(super) const MAX_TEXT_BYTES: usize = 256;
/// Dimensions that are read before a shape is judged; one more than any tensor may have.
pub(super) const MAX_DIMENSIONS: usize = 9;
/// How much of a text that a caller made up is repeated to it.
const MAX_ECHO_CHARS: usize = 64;

/// What a caller asks for.
#[derive(Debug, Default)]
pub struct InferRequest {
    /// The model, where the request itself names one, as gRPC's does.
    pub model: String,
    /// Its version, likewise; empty for the one that serves.
    pub version: String,
    /// The caller's own name for the request; told back.
    pub id: String,
    /// Names and tensors.
    pub inputs: Vec<(String, Tensor)>,
    /// What keeps the tensors in their account.
    pub charges: Vec<Arc<Charge>>,
    /// The outputs asked for, in order; all if there are none.
    pub outputs: Vec<Wanted>,
    /// Whether outputs that are not asked for by name are told as binary data.
    pub binary: bool,
    /// How long the caller would wait.
    pub timeout: Option<Duration>,
}

/// An output asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Whether as binary data behind the JSON.
    pub binary: bool,
}

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// What is wrong with it, and where.
    #[error("{0}")]
    Malformed(String),
    /// Its tensors would not fit in the account.
    #[error(transparent)]
    Memory(#[from] OverLimit),
}

impl DecodeError {
    pub(super) fn at(place: &str, what: impl std::fmt::Display) -> Self {
        Self::Malformed(format!("{place}: {what}"))
    }
}

impl InferRequest {
    /// Reads a request that is all there. Whatever is made for it is charged to `account`; `charge` is the body's, which
    /// lives as long as tensors that lie in it.
    pub fn decode(form: Form, body: &Bytes, charge: &Arc<Charge>, account: &Arc<Account>) -> Result<Self, DecodeError> {
        let mut request = match form {
            Form::Json { header_bytes } => json::decode(body, header_bytes, account)?,
            Form::Protobuf => protobuf::decode(body, account)?,
        };
        request.charges.push(charge.clone());
        Ok(request)
    }
}

/// What an input says of itself, before its bytes are looked at.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
}

/// The same, judged.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) datatype: Datatype,
    pub(super) layout: Layout,
    /// How many bytes its elements take.
    pub(super) bytes: u64,
}

impl Declared {
    /// Judges name, datatype and shape; `place` is where the input stands.
    pub(super) fn judge(&self, place: &str) -> Result<Expected, DecodeError> {
        if self.name.is_empty() {
            return Err(DecodeError::at(place, "an input needs a name"));
        }
        if self.datatype == "BYTES" {
            return Err(DecodeError::at(
                place,
                format_args!("`{}` has the datatype BYTES, which no model of this host takes", echo(&self.name)),
            ));
        }
        let datatype = self.datatype.parse::<Datatype>().map_err(|error| DecodeError::at(place, error))?;
        let negative = self.shape.iter().find(|extent| **extent < 0);
        if let Some(extent) = negative {
            return Err(DecodeError::at(place, format_args!("the shape of a tensor has no extent {extent}")));
        }
        let shape: Vec<u64> = self.shape.iter().map(|extent| extent.unsigned_abs()).collect();
        let layout = Layout::fixed(&shape).map_err(|error| DecodeError::at(place, error))?;
        let bytes = layout.byte_length(datatype).map_err(|error| DecodeError::at(place, error))?;
        Ok(Expected { datatype, layout, bytes })
    }
}

impl Expected {
    /// How many elements there are.
    pub(super) fn elements(&self) -> u64 {
        self.bytes / self.datatype.width()
    }

    /// The tensor whose bytes came as they are.
    pub(super) fn raw(self, place: &str, bytes: Bytes) -> Result<Tensor, DecodeError> {
        if bytes.len() as u64 != self.bytes {
            let (shape, datatype, expected) = (self.layout.shape(), self.datatype, self.bytes);
            let found = bytes.len();
            return Err(DecodeError::at(
                place,
                format_args!("{datatype} {shape:?} takes {expected} bytes, the binary data has {found}"),
            ));
        }
        Ok(Tensor { datatype: self.datatype, layout: self.layout, bytes })
    }

    /// Refuses a tensor that must come as binary data.
    pub(super) fn sayable(&self, place: &str) -> Result<(), DecodeError> {
        match self.datatype {
            Datatype::Fp16 | Datatype::Bf16 => {
                Err(DecodeError::at(place, format_args!("{} comes only as binary data", self.datatype)))
            }
            _ => Ok(()),
        }
    }
}

/// A caller's text as it is repeated to it.
pub(in crate::function) fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO_CHARS).collect()
}
