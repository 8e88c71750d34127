//! The answer, as the caller's service gives it.
//!
//! Owns lengths of vectors, base64, and the members. Refuses to know where vectors come from.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tenon_sdk::{Failure, Response};

use crate::asked::{Question, Service};

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    /// Little-endian FP32.
    Packed(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// What is told beside the vectors.
pub(crate) struct Told<'a> {
    /// The model's name.
    pub(crate) model: &'a str,
    /// The tokens of all inputs, after cutting.
    pub(crate) tokens: u64,
}

/// Writes the answer. Vectors have been looked at by [`scaled`].
pub(crate) fn write(question: &Question, vectors: Vec<Vec<f32>>, told: &Told<'_>) -> Result<Response, Failure> {
    if question.service == Service::Tei {
        let response = Response::json(200, &vectors)?;
        response.header("x-compute-tokens", &told.tokens.to_string())?;
        return Ok(response);
    }
    let entry = |(index, vector)| Entry { object: "embedding", index, embedding: written(vector, question.packed) };
    let data = vectors.into_iter().enumerate().map(entry).collect();
    let usage = Usage { prompt_tokens: told.tokens, total_tokens: told.tokens };
    Response::json(200, &Answer { object: "list", data, model: told.model, usage })
}

fn written(vector: Vec<f32>, packed: bool) -> Vector {
    if !packed {
        return Vector::Numbers(vector);
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Vector::Packed(STANDARD.encode(bytes))
}

/// A vector as it is answered with: of length one, if it is to be; one without a direction stays.
///
/// Panics, which traps, if it has a number that is none: JSON knows no such number, and base64
/// would pass it on.
pub(crate) fn scaled(vector: &[f32], normalize: bool) -> Vec<f32> {
    assert!(vector.iter().all(|value| value.is_finite()), "the model gave a vector that is not finite");
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !normalize || length == 0.0 {
        return vector.to_vec();
    }
    vector.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_get_the_length_one_if_they_are_to() {
        assert_eq!(scaled(&[3.0, -4.0], true), [0.6, -0.8]);
        assert_eq!(scaled(&[3.0, -4.0], false), [3.0, -4.0]);
        assert_eq!(scaled(&[0.0, 0.0], true), [0.0, 0.0]);
        // Squares of these are no FP32 any more.
        assert_eq!(scaled(&[3e38, 0.0], true), [1.0, 0.0]);
        assert_eq!(scaled(&[1e-38, 0.0], true), [1.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn no_vector_is_made_up() {
        scaled(&[1.0, f32::NAN], false);
    }

    #[test]
    fn packed_vectors_are_little_endian() {
        let Vector::Packed(text) = written(vec![1.0, -2.5], true) else { panic!("not packed") };
        assert_eq!(text, "AACAPwAAIMA=");
    }
}
