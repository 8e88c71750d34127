//! The program's notation.

use serde::{Deserialize, Deserializer};

/// One call.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Call {
    Body(u64, u64),
    Bytes(u64, u64),
    Pixels(u32, u32, u32, u64, u64),
    Size(usize),
    Tensor(String, Vec<u64>),
    Row(Row),
    Read(usize),
    Box(Draw),
    Rings(Draw),
    Encode(usize, String),
    Drop(usize),
    Leave(usize),
    Left(usize),
}

/// An image written into a row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) image: usize,
    pub(crate) tensor: usize,
    #[serde(default)]
    pub(crate) row: u64,
    pub(crate) size: [u32; 2],
    pub(crate) mode: Option<String>,
    pub(crate) filter: Option<String>,
    pub(crate) layout: Option<String>,
    pub(crate) bars: Option<[u8; 3]>,
    /// Mean and deviation.
    pub(crate) normalise: Option<[[f32; 3]; 2]>,
    #[serde(default, deserialize_with = "numbers")]
    pub(crate) crop: Option<[f32; 4]>,
}

/// Something drawn.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draw {
    pub(crate) image: usize,
    #[serde(default, deserialize_with = "numbers")]
    pub(crate) area: Option<[f32; 4]>,
    #[serde(default)]
    pub(crate) rings: Vec<Vec<[f32; 2]>>,
    pub(crate) colour: Option<[u8; 3]>,
    pub(crate) width: Option<f32>,
    pub(crate) fill: Option<f32>,
    pub(crate) label: Option<String>,
}

/// Four numbers, of which `null` is none: JSON has no other word for it.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f32; 4]>, D::Error> {
    let numbers = <[Option<f32>; 4]>::deserialize(deserializer)?;
    Ok(Some(numbers.map(|number| number.unwrap_or(f32::NAN))))
}
