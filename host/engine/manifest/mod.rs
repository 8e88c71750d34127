//! `model.toml`: what an operator states about a model. Owns the file's form and every default value; `rules` says what
//! is allowed. Refuses to know model files and backends: a manifest can be judged without loading anything.

mod rules;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{
    backend::{Device, Format, Precision},
    batch::Plan,
    error::LoadError,
};
use crate::tensor::Signature;

/// The file's name in a model's folder.
pub(super) const FILE: &str = "model.toml";

const DEFAULT_MAX_BATCH_SIZE: usize = 32;
const DEFAULT_MAX_QUEUE_SIZE: usize = 256;
const DEFAULT_MAX_REQUEST_ROWS: usize = 1024;
const DEFAULT_QUEUE_TIMEOUT_MS: u64 = 2000;
const DEFAULT_MAX_BATCH_MS: u64 = 250;
const DEFAULT_INSTANCES: usize = 4;
/// Where `[batching] buckets` does not say otherwise, buckets double from here to the dimension's maximum.
const DEFAULT_FIRST_BUCKET: u64 = 16;

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    model: ModelSection,
    #[serde(default)]
    dimensions: BTreeMap<String, Dimension>,
    #[serde(default)]
    input: Vec<TensorSection>,
    #[serde(default)]
    output: Vec<TensorSection>,
    #[serde(default)]
    batching: Batching,
    #[serde(default)]
    instances: Instances,
    #[serde(default)]
    memory: Memory,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ModelSection {
    format: String,
    precision: String,
    tolerance: Option<f64>,
    deterministic: bool,
}

impl Default for ModelSection {
    fn default() -> Self {
        let (format, precision) = (Format::default().name().into(), Precision::default().name().into());
        Self { format, precision, tolerance: None, deterministic: true }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dimension {
    max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorSection {
    name: String,
    datatype: String,
    shape: Vec<Extent>,
    range: Option<(i64, i64)>,
}

/// `"rows"`, `"seq"` or `384`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Extent {
    Number(u64),
    Name(String),
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Batching {
    max_batch_size: usize,
    max_batch_elements: Option<u64>,
    max_batch_ms: u64,
    max_queue_delay_ms: u64,
    max_queue_size: usize,
    max_request_rows: usize,
    queue_timeout_ms: u64,
    pad: BTreeMap<String, f64>,
    buckets: BTreeMap<String, Vec<u64>>,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_batch_size: DEFAULT_MAX_BATCH_SIZE,
            max_batch_elements: None,
            max_batch_ms: DEFAULT_MAX_BATCH_MS,
            max_queue_delay_ms: 0,
            max_queue_size: DEFAULT_MAX_QUEUE_SIZE,
            max_request_rows: DEFAULT_MAX_REQUEST_ROWS,
            queue_timeout_ms: DEFAULT_QUEUE_TIMEOUT_MS,
            pad: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Instances {
    count: usize,
    device: String,
}

impl Default for Instances {
    fn default() -> Self {
        Self { count: DEFAULT_INSTANCES, device: "auto".into() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Memory {
    max_safe_batch_size: Option<usize>,
    lane_bytes: Option<u64>,
}

/// A manifest that has passed every rule.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// What the model takes and gives.
    pub(super) signature: Arc<Signature>,
    /// The same, prepared for stacking and splitting rows.
    pub(super) plan: Arc<Plan>,
    /// Rows in a batch.
    pub(super) max_batch_size: usize,
    /// Padded elements in a batch: rows x the longest of each ragged dimension.
    pub(super) max_batch_elements: u64,
    /// How long a batch may take on a CPU, as predicted.
    pub(super) max_batch: Duration,
    /// How long rows may wait for company while an instance is free.
    pub(super) max_queue_delay: Duration,
    /// Waiting rows from which on requests are shed.
    pub(super) max_queue_size: usize,
    /// Rows in one request.
    pub(super) max_request_rows: usize,
    /// How long a request waits for its first instance.
    pub(super) queue_timeout: Duration,
    /// Extents to warm up, ascending: one list for each dimension of the signature.
    pub(super) buckets: Vec<Vec<u64>>,
    /// What a lane may hold, where it is stated.
    pub(super) lane_bytes: Option<u64>,
    /// Instances asked for.
    pub(super) instances: usize,
    /// Where they compute.
    pub(super) placement: Placement,
    /// What its files are.
    pub(super) format: Format,
    /// How exactly it computes.
    pub(super) precision: Precision,
    /// How far outputs may be from those in 32 bits, as a part of the largest.
    pub(super) tolerance: f64,
    /// Whether equal rows come to equal outputs; if not, no row is remembered.
    pub(super) deterministic: bool,
}

/// Where a model's instances are to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// On every GPU; where there is none, on the processor.
    Auto,
    /// On the processor.
    Cpu,
    /// On every GPU, or on this one.
    Cuda(Option<u32>),
}

impl Placement {
    /// The devices that it means, of those that there are.
    pub(super) fn devices(self, there: &[Device]) -> Result<Vec<Device>, LoadError> {
        let is_meant = |device: &Device| match (self, device) {
            (Self::Cpu, Device::Cpu) | (Self::Auto | Self::Cuda(None), Device::Cuda(_)) => true,
            (Self::Cuda(Some(wanted)), Device::Cuda(index)) => wanted == *index,
            _ => false,
        };
        let devices: Vec<_> = there.iter().copied().filter(is_meant).collect();
        match self {
            Self::Auto if devices.is_empty() => Ok(vec![Device::Cpu]),
            Self::Cuda(wanted) if devices.is_empty() => {
                let wanted = wanted.map_or("cuda".into(), |index| format!("cuda:{index}"));
                let there: Vec<_> = there.iter().map(ToString::to_string).collect();
                Err(LoadError::NoDevice { wanted, there: there.join(", ") })
            }
            _ => Ok(devices),
        }
    }
}

/// What a `model.toml` says that a model takes and gives, or which rule it breaks.
pub fn signature(text: &str) -> Result<Arc<Signature>, String> {
    Manifest::parse(text).map(|manifest| manifest.signature)
}

impl Manifest {
    /// Reads and judges a file.
    pub(super) fn read(file: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(file).map_err(|source| LoadError::Read { file: file.into(), source })?;
        Self::parse(&text).map_err(|message| LoadError::Manifest { file: file.into(), message })
    }

    /// Reads and judges a text; the message names the key, and the line where the text is not TOML.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        rules::judge(file)
    }
}
