//! What a `model.toml` may say. One rule per function, each message names the key and what would be right, because an
//! operator fixes the file from the message alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Batching, DEFAULT_FIRST_BUCKET, Dimension, Extent, File, Instances, Manifest, ModelSection, Placement,
    TensorSection,
};
use crate::{
    engine::{
        backend::{Format, Precision},
        batch::{Pad, Plan},
    },
    tensor::{Extent as Declared, Layout, Signature, TensorSpec, TensorType},
};

/// More instances of one model than any machine has use for.
const MAX_INSTANCES: usize = 64;
/// Less than any batch needs.
const LEAST_LANE_BYTES: u64 = 4 << 10;
/// Limits in rows and times beyond these are taken for slips of the pen.
const MAX_ROWS: usize = 65_536;
const MAX_MS: u64 = 3_600_000;
/// Outputs that differ by more than the largest of them are other outputs.
const MAX_TOLERANCE: f64 = 1.0;

/// Judges a whole file.
pub(super) fn judge(file: File) -> Result<Manifest, String> {
    let format = format_of(&file.model)?;
    let signature = signature(&file)?;
    let batching = &file.batching;
    numbers(batching, &file.instances, file.memory.max_safe_batch_size)?;
    let pads = pads(&signature, batching)?;
    let buckets = buckets(&signature, batching)?;
    let largest_row = largest_row(&signature)?;
    let max_batch_elements = match batching.max_batch_elements {
        Some(elements) if elements < largest_row => {
            let message =
                format!("batching.max_batch_elements: {elements} is less than the {largest_row} of one largest row");
            return Err(message);
        }
        Some(elements) => elements,
        None => u64::MAX,
    };
    let safe = file.memory.max_safe_batch_size.unwrap_or(usize::MAX);
    let signature = Arc::new(signature);
    Ok(Manifest {
        plan: Arc::new(Plan::new(&signature, &pads)),
        max_batch_size: batching.max_batch_size.min(safe),
        max_batch_elements,
        max_batch: Duration::from_millis(batching.max_batch_ms),
        max_queue_delay: Duration::from_millis(batching.max_queue_delay_ms),
        max_queue_size: batching.max_queue_size,
        max_request_rows: batching.max_request_rows,
        queue_timeout: Duration::from_millis(batching.queue_timeout_ms),
        buckets,
        lane_bytes: lane_bytes(&file)?,
        instances: file.instances.count,
        placement: placement(&file.instances.device)?,
        format,
        precision: precision(&file.model.precision)?,
        tolerance: tolerance(&file.model)?,
        deterministic: file.model.deterministic,
        signature,
    })
}

fn lane_bytes(file: &File) -> Result<Option<u64>, String> {
    match file.memory.lane_bytes {
        Some(bytes) if bytes < LEAST_LANE_BYTES => {
            Err(format!("memory.lane_bytes: must be at least {LEAST_LANE_BYTES}, is {bytes}"))
        }
        stated => Ok(stated),
    }
}

fn signature(file: &File) -> Result<Signature, String> {
    let inputs = tensors("input", &file.input, &file.dimensions)?;
    let outputs = tensors("output", &file.output, &file.dimensions)?;
    for spec in &inputs {
        range(spec)?;
    }
    let used = |name: &str| inputs.iter().any(|input| input.kind.ragged().is_some_and(|(_, ragged)| ragged == name));
    for output in &outputs {
        if let Some(range) = output.range {
            return Err(format!("output `{}`: range {range:?} is for inputs only", output.name));
        }
        if let Some((_, name)) = output.kind.ragged().filter(|(_, name)| !used(name)) {
            let message = "is in no input, so an output's length would be unknown";
            return Err(format!("output `{}`: dimension `{name}` {message}", output.name));
        }
    }
    for (name, dimension) in &file.dimensions {
        if dimension.max == 0 {
            return Err(format!("dimensions.{name}.max: must be at least 1"));
        }
        if !used(name) {
            return Err(format!("dimensions.{name}: no input has this dimension"));
        }
    }
    let dimensions = file.dimensions.iter().map(|(name, dimension)| (name.clone(), dimension.max)).collect();
    Ok(Signature { inputs, outputs, dimensions })
}

fn tensors(
    section: &str,
    declared: &[TensorSection],
    dimensions: &BTreeMap<String, Dimension>,
) -> Result<Vec<TensorSpec>, String> {
    if declared.is_empty() {
        return Err(format!("there is no [[{section}]]: state at least one"));
    }
    let mut specs: Vec<TensorSpec> = Vec::new();
    for tensor in declared {
        let name = &tensor.name;
        if name.is_empty() || specs.iter().any(|known| known.name == *name) {
            return Err(format!("{section} `{name}`: every {section} needs a name of its own"));
        }
        let extents: Vec<String> = tensor.shape.iter().map(Extent::text).collect();
        let kind = TensorType::parse(&tensor.datatype, extents.iter().map(String::as_str))
            .map_err(|error| format!("{section} `{name}`: {error}"))?;
        if let Some((_, dimension)) = kind.ragged().filter(|(_, dimension)| !dimensions.contains_key(*dimension)) {
            return Err(format!("{section} `{name}`: dimension `{dimension}` is not in [dimensions]"));
        }
        specs.push(TensorSpec { name: name.clone(), kind, range: tensor.range });
    }
    Ok(specs)
}

fn range(spec: &TensorSpec) -> Result<(), String> {
    let (name, datatype) = (&spec.name, spec.kind.datatype);
    match spec.range {
        None if datatype.is_integer() => Err(format!(
            "input `{name}`: {datatype} needs `range = [smallest, largest]`: a value outside would make the model throw"
        )),
        Some(_) if !datatype.is_integer() => {
            Err(format!("input `{name}`: a range is for integers, this is {datatype}"))
        }
        Some((low, high)) if low > high => Err(format!("input `{name}`: range [{low}, {high}] is empty")),
        Some(range) if !Pad::holds(datatype, range.0) || !Pad::holds(datatype, range.1) => {
            Err(format!("input `{name}`: range [{}, {}] does not fit in {datatype}", range.0, range.1))
        }
        _ => Ok(()),
    }
}

fn numbers(batching: &Batching, instances: &Instances, safe: Option<usize>) -> Result<(), String> {
    let rows = [
        ("batching.max_batch_size", batching.max_batch_size, MAX_ROWS),
        ("batching.max_queue_size", batching.max_queue_size, MAX_ROWS),
        ("batching.max_request_rows", batching.max_request_rows, MAX_ROWS),
        ("instances.count", instances.count, MAX_INSTANCES),
        ("memory.max_safe_batch_size", safe.unwrap_or(1), MAX_ROWS),
    ];
    for (key, value, most) in rows {
        if value == 0 || value > most {
            return Err(format!("{key}: must be from 1 to {most}, is {value}"));
        }
    }
    let times = [
        ("batching.max_batch_ms", batching.max_batch_ms, 1),
        ("batching.queue_timeout_ms", batching.queue_timeout_ms, 1),
        ("batching.max_queue_delay_ms", batching.max_queue_delay_ms, 0),
    ];
    for (key, value, least) in times {
        if value < least || value > MAX_MS {
            return Err(format!("{key}: must be from {least} to {MAX_MS}, is {value}"));
        }
    }
    Ok(())
}

fn pads(signature: &Signature, batching: &Batching) -> Result<Vec<Pad>, String> {
    let ragged = |name: &str| signature.inputs.iter().any(|input| input.name == name && input.kind.ragged().is_some());
    if let Some(name) = batching.pad.keys().find(|name| !ragged(name)) {
        return Err(format!("batching.pad.{name}: no input of this name has a dimension to pad"));
    }
    let pad = |input: &TensorSpec| {
        let value = batching.pad.get(&input.name).copied().unwrap_or(0.0);
        let outside = input.range.filter(|range| value < range.0 as f64 || value > range.1 as f64);
        if let Some((low, high)) = outside.filter(|_| input.kind.ragged().is_some()) {
            return Err(format!("batching.pad.{}: {value} is outside the input's range [{low}, {high}]", input.name));
        }
        Pad::new(input.kind.datatype, value)
            .ok_or_else(|| format!("batching.pad.{}: {value} is no {}", input.name, input.kind.datatype))
    };
    signature.inputs.iter().map(pad).collect()
}

fn buckets(signature: &Signature, batching: &Batching) -> Result<Vec<Vec<u64>>, String> {
    if let Some(name) =
        batching.buckets.keys().find(|name| !signature.dimensions.iter().any(|(known, _)| known == *name))
    {
        return Err(format!("batching.buckets.{name}: there is no such dimension"));
    }
    let of_dimension = |(name, max): &(String, u64)| match batching.buckets.get(name) {
        None => Ok(default_buckets(*max)),
        Some(buckets) => {
            let ascending = buckets.is_sorted_by(|a, b| a < b) && buckets.first().is_some_and(|first| *first > 0);
            let complete = buckets.last() == Some(max);
            let wrong =
                || format!("batching.buckets.{name}: must ascend from at least 1 and end at the maximum, {max}");
            if ascending && complete { Ok(buckets.clone()) } else { Err(wrong()) }
        }
    };
    signature.dimensions.iter().map(of_dimension).collect()
}

fn default_buckets(max: u64) -> Vec<u64> {
    let doubling = std::iter::successors(Some(DEFAULT_FIRST_BUCKET), |last| last.checked_mul(2));
    doubling.take_while(|bucket| *bucket < max).chain([max]).collect()
}

/// The padded elements of one row with every dimension at its maximum; also proves that sizes fit in 64 bits.
fn largest_row(signature: &Signature) -> Result<u64, String> {
    let max = |extent: &Declared| match extent {
        Declared::Rows => MAX_ROWS as u64,
        Declared::Fixed(extent) => *extent,
        Declared::Ragged(name) => {
            signature.dimensions.iter().find(|(known, _)| known == name).map_or(u64::MAX, |(_, max)| *max)
        }
    };
    for tensor in signature.inputs.iter().chain(&signature.outputs) {
        let shape: Vec<u64> = tensor.kind.shape.iter().map(max).collect();
        Layout::fixed(&shape).map_err(|error| format!("tensor `{}` at its largest: {error}", tensor.name))?;
    }
    let product = signature.dimensions.iter().try_fold(1_u64, |product, (_, max)| product.checked_mul(*max));
    product.ok_or_else(|| "dimensions: their maxima multiply to more than 64 bits hold".into())
}

fn placement(name: &str) -> Result<Placement, String> {
    match (name, name.strip_prefix("cuda:").map(str::parse)) {
        ("auto", _) => Ok(Placement::Auto),
        ("cpu", _) => Ok(Placement::Cpu),
        ("cuda", _) => Ok(Placement::Cuda(None)),
        (_, Some(Ok(index))) => Ok(Placement::Cuda(Some(index))),
        (other, _) => {
            Err(format!("instances.device: `{other}` is unknown; known: \"auto\", \"cpu\", \"cuda\", \"cuda:0\""))
        }
    }
}

fn format_of(model: &ModelSection) -> Result<Format, String> {
    let known = || Format::ALL.map(|format| format!("\"{}\"", format.name())).join(", ");
    let found = Format::ALL.into_iter().find(|format| format.name() == model.format);
    let format = found.ok_or_else(|| format!("model.format: `{}` is unknown; known: {}", model.format, known()))?;
    if format == Format::Aoti && matches!(precision(&model.precision)?, Precision::Bf16 | Precision::Fp16) {
        return Err(
            "model.precision: a package has the weights that it was compiled with; compile it in 16 bits".into()
        );
    }
    Ok(format)
}

fn precision(name: &str) -> Result<Precision, String> {
    let known = || Precision::ALL.map(|precision| format!("\"{}\"", precision.name())).join(", ");
    let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
    found.ok_or_else(|| format!("model.precision: `{name}` is unknown; known: {}", known()))
}

fn tolerance(model: &ModelSection) -> Result<f64, String> {
    match model.tolerance {
        Some(stated) if stated > 0.0 && stated <= MAX_TOLERANCE => Ok(stated),
        Some(stated) => Err(format!("model.tolerance: must be above 0 and at most {MAX_TOLERANCE}, is {stated}")),
        None => precision(&model.precision).map(Precision::tolerance),
    }
}

impl Extent {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
        }
    }
}
