//! How rows become a batch and a batch becomes rows again: stacking with padding, splitting with trimming, all on bytes.
//!
//! Pure: owns the arithmetic between a row and its slice of a dense tensor; refuses to know where rows come from and
//! who computes. Sizes cannot overflow here: `model.toml` is judged at its largest and rows are checked against it.

use std::{ops::Range, sync::Arc};

use super::{
    backend::{BackendError, Dense},
    queue::bucket,
};
use crate::tensor::{Datatype, Extent, Layout, LayoutError, Signature, Tensor, TensorSpec};

/// The widest element in bytes.
const MAX_WIDTH: usize = 8;

/// One element that fills what a row is shorter than its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pad([u8; MAX_WIDTH]);

impl Pad {
    /// `value` as an element of `datatype`; `None` if it has no such element.
    pub(super) fn new(datatype: Datatype, value: f64) -> Option<Self> {
        let whole = value as i64;
        let is_whole = whole as f64 == value;
        let mut bytes = [0; MAX_WIDTH];
        let element = match datatype {
            Datatype::Fp32 => (value as f32).to_le_bytes().to_vec(),
            Datatype::Fp64 => value.to_le_bytes().to_vec(),
            Datatype::Bool if value == 0.0 || value == 1.0 => vec![whole as u8],
            // Halves have no literal in Rust; zero is all that anybody pads them with.
            Datatype::Fp16 | Datatype::Bf16 if value == 0.0 => vec![0, 0],
            _ if datatype.is_integer() && is_whole && Self::holds(datatype, whole) => {
                whole.to_le_bytes()[..datatype.width() as usize].to_vec()
            }
            _ => return None,
        };
        bytes[..element.len()].copy_from_slice(&element);
        Some(Self(bytes))
    }

    /// Whether an integer datatype has this value.
    pub(super) fn holds(datatype: Datatype, value: i64) -> bool {
        match datatype {
            Datatype::Uint8 => u8::try_from(value).is_ok(),
            Datatype::Uint16 => u16::try_from(value).is_ok(),
            Datatype::Uint32 => u32::try_from(value).is_ok(),
            Datatype::Uint64 => value >= 0,
            Datatype::Int8 => i8::try_from(value).is_ok(),
            Datatype::Int16 => i16::try_from(value).is_ok(),
            Datatype::Int32 => i32::try_from(value).is_ok(),
            _ => true,
        }
    }

    /// Writes it over `into`, element by element.
    pub(super) fn fill(&self, into: &mut [u8], width: usize) {
        let element = &self.0[..width];
        if element.iter().all(|byte| *byte == element[0]) {
            return into.fill(element[0]);
        }
        into.chunks_exact_mut(width).for_each(|place| place.copy_from_slice(element));
    }
}

/// One tensor of a signature, prepared: what is the same for every batch is worked out once.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// The tensor as declared.
    pub(super) spec: TensorSpec,
    /// The ragged axis within a row, and which of the signature's dimensions it is.
    pub(super) ragged: Option<(usize, usize)>,
    pad: Pad,
    /// Extents of a row; 0 at the ragged axis.
    extents: Vec<u64>,
    /// How many blocks a row consists of: the product of the extents before the ragged axis.
    blocks: usize,
}

/// A signature, prepared.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// In the signature's order.
    pub(super) inputs: Vec<Form>,
    /// In the signature's order.
    pub(super) outputs: Vec<Form>,
    /// The names of outputs, shared by every answer.
    pub(super) output_names: Vec<Arc<str>>,
    /// Largest extents, in the signature's order.
    pub(super) maxima: Vec<u64>,
    /// The extents to which batches are padded, by dimension; empty where a batch is as long as its longest row.
    pub(super) buckets: Vec<Vec<u64>>,
}

impl Plan {
    /// Prepares a signature; `pads` has one element for each input.
    pub(super) fn new(signature: &Signature, pads: &[Pad]) -> Self {
        let nothing = Pad([0; MAX_WIDTH]);
        let form = |spec: &TensorSpec, pad: Pad| {
            let dimension = |name: &str| signature.dimensions.iter().position(|(known, _)| known == name);
            let ragged = spec.kind.ragged().and_then(|(axis, name)| Some((axis, dimension(name)?)));
            let extent = |extent: &Extent| if let Extent::Fixed(extent) = extent { *extent } else { 0 };
            let extents: Vec<u64> = spec.kind.row_shape().iter().map(extent).collect();
            let before = ragged.map_or(0, |(axis, _)| axis);
            let blocks = extents[..before].iter().product::<u64>() as usize;
            Form { spec: spec.clone(), ragged, pad, extents, blocks }
        };
        let pads = pads.iter().copied().chain(std::iter::repeat(nothing));
        Self {
            inputs: signature.inputs.iter().zip(pads).map(|(spec, pad)| form(spec, pad)).collect(),
            outputs: signature.outputs.iter().map(|spec| form(spec, nothing)).collect(),
            output_names: signature.outputs.iter().map(|spec| spec.name.as_str().into()).collect(),
            maxima: signature.dimensions.iter().map(|(_, max)| *max).collect(),
            buckets: Vec::new(),
        }
    }

    /// How the outputs of these rows will lie in memory: known before anything runs, so that they can be charged first.
    /// `lengths` has the extents of each row one after another.
    pub(super) fn output_layouts(&self, rows: usize, lengths: &[u64]) -> Result<Vec<Layout>, LayoutError> {
        let layout = |form: &Form| match form.ragged {
            Some((axis, dimension)) => {
                let of_rows = lengths.chunks_exact(self.maxima.len()).map(|row| row[dimension]);
                Layout::ragged(&form.extents, axis, &of_rows.collect::<Vec<_>>())
            }
            None => {
                let shape: Vec<u64> = [rows as u64].into_iter().chain(form.extents.iter().copied()).collect();
                Layout::fixed(&shape)
            }
        };
        self.outputs.iter().map(layout).collect()
    }
}

impl Form {
    /// The dense shape of `rows` rows that are as long as `longest` says for each dimension.
    fn dense_shape(&self, rows: usize, longest: &[u64]) -> Vec<u64> {
        let mut shape = Vec::with_capacity(self.extents.len() + 1);
        shape.push(rows as u64);
        shape.extend_from_slice(&self.extents);
        if let Some((axis, dimension)) = self.ragged {
            shape[axis + 1] = longest[dimension];
        }
        shape
    }

    /// Copies a row of a dense tensor without its padding.
    pub(super) fn trim(&self, dense_row: &[u8], into: &mut [u8]) {
        let blocks = self.blocks.max(1);
        let (padded, real) = (dense_row.len() / blocks, into.len() / blocks);
        if padded == 0 || real == 0 {
            return;
        }
        for (from, to) in dense_row.chunks_exact(padded).zip(into.chunks_exact_mut(real)) {
            to.copy_from_slice(&from[..real]);
        }
    }
}

/// A row that goes into a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// The tensors that it is a row of, in the signature's order.
    pub(super) inputs: &'a [Tensor],
    /// Which row of them.
    pub(super) index: usize,
    /// Its extent in each of the signature's dimensions.
    pub(super) lengths: &'a [u64],
}

/// Rows that run together, as an instance sees them.
#[derive(Debug)]
pub struct Batch<'a> {
    rows: usize,
    longest: Vec<u64>,
    inputs: Vec<Input<'a>>,
}

/// One input of a batch: its rows, still apart, and the dense shape that they make.
#[derive(Debug)]
pub struct Input<'a> {
    form: &'a Form,
    shape: Vec<u64>,
    rows: Vec<&'a [u8]>,
}

/// Rows of a dense tensor that are copied together.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Which.
    pub rows: Range<usize>,
    /// One row as it is in the dense tensor; `None` of those that must be written there first.
    pub ready: Option<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Brings rows together.
    pub(super) fn new(plan: &'a Plan, rows: &[Row<'a>]) -> Self {
        let mut longest = vec![0; plan.maxima.len()];
        for row in rows {
            longest.iter_mut().zip(row.lengths).for_each(|(longest, length)| *longest = (*longest).max(*length));
        }
        for (longest, buckets) in longest.iter_mut().zip(&plan.buckets) {
            *longest = bucket(buckets, *longest);
        }
        let input = |(position, form): (usize, &'a Form)| Input {
            form,
            shape: form.dense_shape(rows.len(), &longest),
            rows: rows.iter().map(|row| row.inputs[position].row(row.index)).collect(),
        };
        Self { rows: rows.len(), inputs: plan.inputs.iter().enumerate().map(input).collect(), longest }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// In the signature's order.
    pub fn inputs(&self) -> &[Input<'a>] {
        &self.inputs
    }

    /// Whether a backend gave what the signature says; checked for every batch, because splitting relies on it.
    pub(super) fn check(&self, plan: &Plan, outputs: &[Dense<'_>]) -> Result<(), BackendError> {
        if outputs.len() != plan.outputs.len() {
            let (expected, found) = (plan.outputs.len(), outputs.len());
            return Err(BackendError::threw(format!(
                "the model gave {found} outputs, its model.toml states {expected}"
            )));
        }
        for (form, output) in plan.outputs.iter().zip(outputs) {
            let (datatype, shape) = (form.spec.kind.datatype, form.dense_shape(self.rows, &self.longest));
            let bytes = shape.iter().product::<u64>() * datatype.width();
            if output.datatype != Some(datatype) || output.shape != shape || output.bytes.len() as u64 != bytes {
                let found = output.datatype.map_or("an unknown datatype", Datatype::name);
                return Err(BackendError::threw(format!(
                    "output `{}` is {found}{:?}, its model.toml makes it {datatype}{shape:?}",
                    form.spec.name, output.shape
                )));
            }
        }
        Ok(())
    }
}

impl Input<'_> {
    /// The tensor as declared.
    pub fn spec(&self) -> &TensorSpec {
        &self.form.spec
    }

    /// The dense shape, rows first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The size of the dense tensor in bytes.
    pub fn byte_length(&self) -> usize {
        (self.shape.iter().product::<u64>() * self.form.spec.kind.datatype.width()) as usize
    }

    /// Writes all rows, padded, into a dense tensor of `byte_length` bytes.
    pub fn stack(&self, into: &mut [u8]) {
        self.stack_rows(0..self.rows.len(), into);
    }

    /// Writes these rows, padded, into their part of the dense tensor.
    pub fn stack_rows(&self, rows: Range<usize>, into: &mut [u8]) {
        let dense_row = into.len() / rows.len().max(1);
        if dense_row > 0 {
            self.rows[rows]
                .iter()
                .zip(into.chunks_exact_mut(dense_row))
                .for_each(|(row, slice)| self.write(row, slice));
        }
    }

    /// The dense tensor in as few parts as it takes: each row that needs no padding and lies ready where it is by itself, what
    /// lies between them together.
    pub fn parts(&self, lies_ready: impl Fn(&[u8]) -> bool) -> Vec<Part<'_>> {
        let dense_row = self.byte_length() / self.rows.len().max(1);
        let mut parts: Vec<Part<'_>> = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let ready = Some(*row).filter(|row| row.len() == dense_row && lies_ready(row));
            match parts.last_mut() {
                Some(Part { rows, ready: None }) if ready.is_none() => rows.end = at + 1,
                _ => parts.push(Part { rows: at..at + 1, ready }),
            }
        }
        parts
    }

    fn write(&self, row: &[u8], into: &mut [u8]) {
        if row.len() == into.len() {
            return into.copy_from_slice(row);
        }
        let width = self.form.spec.kind.datatype.width() as usize;
        let (real, padded) = (row.len() / self.form.blocks, into.len() / self.form.blocks);
        for (from, to) in row.chunks_exact(real).zip(into.chunks_exact_mut(padded)) {
            let (data, padding) = to.split_at_mut(real);
            data.copy_from_slice(from);
            self.form.pad.fill(padding, width);
        }
    }
}

#[cfg(test)]
mod tests;
