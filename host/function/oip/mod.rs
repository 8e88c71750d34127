//! The Open Inference Protocol's inferences, as bytes: what a caller sends becomes tensors, and what a model gives becomes
//! an answer, in JSON, in JSON with binary tensors behind it, and in gRPC's protobuf.
//!
//! Owns both directions and every sentence about a malformed request. Refuses to know HTTP, gRPC's framing of requests and
//! statuses. Everything here is a caller's claim until it has been checked: sizes come from checked arithmetic, memory is
//! charged before it is taken, and nothing is made for a claim that the bytes at hand cannot keep.

mod answer;
mod contents;
mod elements;
mod filling;
mod json;
mod listing;
mod protobuf;
mod request;
mod wire;

use std::time::Duration;

pub use answer::{Told, UntoldError};
pub use listing::{IndexEntry, ModelMetadata, TensorMetadata};
pub(super) use request::echo;
pub use request::{DecodeError, InferRequest, Wanted};

/// The header that tells where binary tensors begin.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// How many bytes of JSON the values of [`HEADER_LENGTH`] in a head say: nothing but digits, and once.
pub fn header_bytes(values: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<Option<u64>, String> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = std::str::from_utf8(value.as_ref()).ok().filter(|_| values.next().is_none());
    let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or_else(|| format!("{HEADER_LENGTH} must be one whole number of bytes"))
}

/// What inferences without a function may use.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The longest body, after it was unpacked.
    pub body_bytes: u64,
    /// From the head of the request to its answer.
    pub timeout_ms: u64,
    /// Everything held for one inference: body, tensors, outputs, answer.
    pub memory_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { body_bytes: 64 << 20, timeout_ms: 60_000, memory_bytes: 512 << 20 }
    }
}

impl Config {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        /// A day: longer is no limit, and beyond some point no instant either.
        const MOST_TIMEOUT_MS: u64 = 86_400_000;
        if self.body_bytes == 0 || self.memory_bytes == 0 {
            return Err("oip.body_bytes and oip.memory_bytes must be at least 1".into());
        }
        if self.timeout_ms == 0 || self.timeout_ms > MOST_TIMEOUT_MS {
            return Err(format!("oip.timeout_ms must be 1 to {MOST_TIMEOUT_MS}, not {}", self.timeout_ms));
        }
        Ok(())
    }

    /// `timeout_ms` as a duration.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// How a request is written, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON document; where its length is told, binary tensors follow.
    Json {
        /// Bytes of JSON, as `inference-header-content-length` says.
        header_bytes: Option<u64>,
    },
    /// A `ModelInferRequest` of protobuf.
    Protobuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_there_once() {
        assert_eq!(header_bytes([""; 0]), Ok(None));
        assert_eq!(header_bytes(["017"]), Ok(Some(17)));
        for wrong in [&["+17"][..], &["-1"], &[""], &[" 1"], &["18446744073709551616"], &["1", "1"]] {
            assert!(header_bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
