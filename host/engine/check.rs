//! Rows against a model's signature. What a plugin sends is a claim: names, datatypes, shapes, lengths and the values of
//! integers are all checked before anything is queued, because an id out of range would throw for a whole batch (and on
//! a device take the device with it). Owns the words for each violation; refuses to know queues and models.

use super::batch::{Form, Plan};
use crate::tensor::{Datatype, Tensor};

/// How much of a name that a guest made up is repeated to it.
const MAX_NAME_CHARACTERS: usize = 64;

/// What is wrong with the inputs of an inference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ContractError {
    #[error("there is no input `{name}`; there are: {known}")]
    Unknown { name: String, known: String },
    #[error("input `{0}` is given twice")]
    Twice(String),
    #[error("input `{0}` is missing")]
    Missing(String),
    #[error("an inference needs at least one row")]
    NoRows,
    #[error("input `{name}` has {found} rows, the others have {expected}")]
    Rows { name: String, expected: usize, found: usize },
    #[error("input `{name}` is {found}, the model takes {expected}")]
    Datatype { name: String, expected: Datatype, found: Datatype },
    #[error("input `{name}`: a row has {found} dimensions, the model takes {expected}")]
    Dimensions { name: String, expected: usize, found: usize },
    #[error("input `{name}`, row {row}: dimension {axis} is {found}, the model takes {expected}")]
    Extent { name: String, row: usize, axis: usize, expected: u64, found: u64 },
    #[error("input `{name}`, row {row}: `{dimension}` is {found}, the model takes 1 to {max}")]
    Length { name: String, row: usize, dimension: String, max: u64, found: u64 },
    #[error("input `{name}`, row {row}: `{dimension}` is {found}, in another input of the same row it is {expected}")]
    Unequal { name: String, row: usize, dimension: String, expected: u64, found: u64 },
    #[error("input `{name}`, row {row}: {value} is outside the range {low} to {high}")]
    Range { name: String, row: usize, value: String, low: i64, high: i64 },
}

/// Inputs that keep to the contract.
#[derive(Debug)]
pub(super) struct Checked {
    /// In the signature's order.
    pub(super) inputs: Vec<Tensor>,
    /// At least one.
    pub(super) rows: usize,
    /// The extents of each row in the signature's dimensions, row after row.
    pub(super) lengths: Vec<u64>,
}

/// Brings inputs into the signature's order and checks them all.
pub(super) fn check(plan: &Plan, named: Vec<(String, Tensor)>) -> Result<Checked, ContractError> {
    let inputs = in_order(plan, named)?;
    let rows = inputs.first().map_or(0, |tensor| tensor.layout.rows());
    if rows == 0 {
        return Err(ContractError::NoRows);
    }
    // 0 stands for "not known yet": a length of 0 is refused below.
    let mut lengths = vec![0; rows * plan.maxima.len()];
    for (form, tensor) in plan.inputs.iter().zip(&inputs) {
        kind(form, tensor, rows)?;
        shape(plan, form, tensor, &mut lengths)?;
        values(form, tensor)?;
    }
    Ok(Checked { inputs, rows, lengths })
}

fn in_order(plan: &Plan, named: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, ContractError> {
    let mut places: Vec<Option<Tensor>> = vec![None; plan.inputs.len()];
    for (name, tensor) in named {
        let Some(position) = plan.inputs.iter().position(|form| form.spec.name == name) else {
            let known: Vec<_> = plan.inputs.iter().map(|form| &form.spec.name[..]).collect();
            let name = name.chars().take(MAX_NAME_CHARACTERS).collect();
            return Err(ContractError::Unknown { name, known: known.join(", ") });
        };
        if places[position].replace(tensor).is_some() {
            return Err(ContractError::Twice(name));
        }
    }
    let place =
        |(place, form): (Option<Tensor>, &Form)| place.ok_or_else(|| ContractError::Missing(form.spec.name.clone()));
    places.into_iter().zip(&plan.inputs).map(place).collect()
}

fn kind(form: &Form, tensor: &Tensor, rows: usize) -> Result<(), ContractError> {
    let name = || form.spec.name.clone();
    let (expected, found) = (form.spec.kind.datatype, tensor.datatype);
    if expected != found {
        return Err(ContractError::Datatype { name: name(), expected, found });
    }
    let (expected, found) = (form.spec.kind.row_shape().len(), tensor.layout.row_dimensions());
    if expected != found {
        return Err(ContractError::Dimensions { name: name(), expected, found });
    }
    match tensor.layout.rows() {
        found if found != rows => Err(ContractError::Rows { name: name(), expected: rows, found }),
        _ => Ok(()),
    }
}

fn shape(plan: &Plan, form: &Form, tensor: &Tensor, lengths: &mut [u64]) -> Result<(), ContractError> {
    // Rows of a fixed tensor have one shape: the first row speaks for all, except for the lengths to be noted.
    let distinct = if tensor.layout.lengths().is_some() { tensor.layout.rows() } else { 1 };
    for (axis, expected) in form.spec.kind.row_shape().iter().enumerate() {
        let crate::tensor::Extent::Fixed(expected) = *expected else { continue };
        for row in 0..distinct {
            let found = tensor.layout.extent(row, axis).unwrap_or(0);
            if found != expected {
                return Err(ContractError::Extent {
                    name: form.spec.name.clone(),
                    row,
                    axis: axis + 1,
                    expected,
                    found,
                });
            }
        }
    }
    let Some((axis, dimension)) = form.ragged else { return Ok(()) };
    let max = plan.maxima[dimension];
    let named = || form.spec.kind.ragged().map_or_else(String::new, |(_, name)| name.to_owned());
    for (row, known) in lengths.iter_mut().skip(dimension).step_by(plan.maxima.len()).enumerate() {
        let (found, name) = (tensor.layout.extent(row, axis).unwrap_or(0), || form.spec.name.clone());
        if found == 0 || found > max {
            return Err(ContractError::Length { name: name(), row, dimension: named(), max, found });
        }
        if *known != 0 && *known != found {
            return Err(ContractError::Unequal { name: name(), row, dimension: named(), expected: *known, found });
        }
        *known = found;
    }
    Ok(())
}

fn values(form: &Form, tensor: &Tensor) -> Result<(), ContractError> {
    // A byte other than 0 and 1 is no BOOL to a compiler, whatever a guest thinks.
    let (low, high) = match (form.spec.kind.datatype, form.spec.range) {
        (Datatype::Bool, _) => (0, 1),
        (_, Some(range)) => range,
        _ => return Ok(()),
    };
    let Some(value) = outside(tensor.datatype, &tensor.bytes, low, high) else { return Ok(()) };
    // Only now is it worth asking which row it was.
    let is_outside = |row: &usize| outside(tensor.datatype, tensor.row(*row), low, high).is_some();
    let row = (0..tensor.layout.rows()).find(is_outside).unwrap_or(0);
    Err(ContractError::Range { name: form.spec.name.clone(), row, value, low, high })
}

/// The first value outside of the range. The whole is scanned without a branch per element, so that it vectorises.
fn outside(datatype: Datatype, bytes: &[u8], low: i64, high: i64) -> Option<String> {
    macro_rules! scan {
        ($element:ty) => {{
            let (low, high) = (bound::<$element>(low), bound::<$element>(high));
            let (elements, _) = bytes.as_chunks::<{ size_of::<$element>() }>();
            let values = || elements.iter().map(|bytes| <$element>::from_le_bytes(*bytes));
            let any = values().fold(false, |any, value| any | (value < low) | (value > high));
            if any { values().find(|value| *value < low || *value > high).map(|value| value.to_string()) } else { None }
        }};
    }
    match datatype {
        Datatype::Bool | Datatype::Uint8 => scan!(u8),
        Datatype::Uint16 => scan!(u16),
        Datatype::Uint32 => scan!(u32),
        Datatype::Uint64 => scan!(u64),
        Datatype::Int8 => scan!(i8),
        Datatype::Int16 => scan!(i16),
        Datatype::Int32 => scan!(i32),
        Datatype::Int64 => scan!(i64),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => None,
    }
}

/// A range's end as an element; `model.toml` was refused if it does not fit.
fn bound<T: TryFrom<i64> + Default>(value: i64) -> T {
    T::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
