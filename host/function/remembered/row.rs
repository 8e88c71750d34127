//! A row's outputs as they are remembered, and how the outputs of an inference are put together of them. Owns the form,
//! and that what the model cannot have given is not taken for a row.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{
    account::{Account, Kind, OverLimit},
    invocation::Outputs,
    tensor::{Extent, Layout, LayoutError, Signature, Tensor, TensorSpec},
};

/// The bytes of all outputs of one row; of ragged ones, of the longest.
pub(super) fn most_bytes(signature: &Signature) -> u64 {
    let largest = |extent: &Extent| most_extent(signature, extent);
    let bytes = signature.outputs.iter().map(|output| {
        let extents = output.kind.row_shape().iter().map(largest);
        extents.fold(output.kind.datatype.width(), u64::saturating_mul)
    });
    bytes.fold(0, u64::saturating_add)
}

fn most_extent(signature: &Signature, extent: &Extent) -> u64 {
    match extent {
        Extent::Rows => 1,
        Extent::Fixed(extent) => *extent,
        Extent::Ragged(name) => {
            let known = signature.dimensions.iter().find(|(dimension, _)| dimension == name);
            known.map_or(0, |(_, most)| *most)
        }
    }
}

/// Row `row` of the outputs as it is remembered: for each, its extents and its bytes.
pub(super) fn encode(outputs: &Outputs, row: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    for (_, tensor) in &outputs.tensors {
        for axis in 0..tensor.layout.row_dimensions() {
            bytes.put_u64_le(tensor.layout.extent(row, axis).unwrap_or_default());
        }
        bytes.put_slice(tensor.row(row));
    }
    bytes.freeze()
}

/// One output of a row.
struct Part {
    shape: Vec<u64>,
    data: Bytes,
}

/// Reads a row; none if no row of this model looks like that.
fn decode(signature: &Signature, mut bytes: Bytes) -> Option<Vec<Part>> {
    let mut parts = Vec::with_capacity(signature.outputs.len());
    for output in &signature.outputs {
        let mut shape = Vec::new();
        for extent in output.kind.row_shape() {
            let (found, most) = (bytes.try_get_u64_le().ok()?, most_extent(signature, extent));
            let is_ragged = matches!(extent, Extent::Ragged(_));
            if found > most || (found < most && !is_ragged) {
                return None;
            }
            shape.push(found);
        }
        let layout = Layout::fixed(&[&[1], &shape[..]].concat()).ok()?;
        let length = usize::try_from(layout.byte_length(output.kind.datatype).ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        parts.push(Part { shape, data: bytes.split_to(length) });
    }
    bytes.is_empty().then_some(parts)
}

/// Whether these bytes are a row that this model can have given.
pub(super) fn is_row(signature: &Signature, bytes: &Bytes) -> bool {
    decode(signature, bytes.clone()).is_some()
}

/// The outputs of all rows, in order, charged to the account. None where one of them is no row.
pub(super) fn assemble(
    signature: &Signature,
    rows: &[Bytes],
    account: &Arc<Account>,
) -> Result<Option<Outputs>, OverLimit> {
    let charge = Arc::new(account.charge(Kind::Outputs, rows.iter().map(|row| row.len() as u64).sum())?);
    let decoded = rows.iter().map(|row| decode(signature, row.clone())).collect::<Option<Vec<_>>>();
    let Some(decoded) = decoded else { return Ok(None) };
    let tensors = signature.outputs.iter().enumerate().map(|(at, output)| {
        let parts: Vec<_> = decoded.iter().map(|row| &row[at]).collect();
        Some((Arc::from(&*output.name), together(output, &parts)?))
    });
    Ok(tensors.collect::<Option<Vec<_>>>().map(|tensors| Outputs { tensors, charge }))
}

fn together(output: &TensorSpec, parts: &[&Part]) -> Option<Tensor> {
    let layout = match output.kind.ragged() {
        Some((axis, _)) => {
            let lengths: Vec<_> = parts.iter().map(|part| part.shape[axis]).collect();
            Layout::ragged(&parts.first()?.shape, axis, &lengths)
        }
        None => Layout::fixed(&[&[parts.len() as u64], &parts.first()?.shape[..]].concat()),
    };
    let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.data.len()).sum());
    parts.iter().for_each(|part| bytes.put_slice(&part.data));
    Tensor::new(output.kind.datatype, layout.ok()?, bytes.freeze()).ok()
}

/// A tensor of these rows alone.
pub(super) fn some_of(tensor: &Tensor, rows: &[usize]) -> Result<Tensor, LayoutError> {
    let shape = tensor.layout.row_shape();
    let layout = match tensor.layout.lengths() {
        Some((axis, lengths)) => {
            let lengths: Vec<u64> = rows.iter().map(|row| lengths[*row]).collect();
            Layout::ragged(&shape, axis, &lengths)
        }
        None => Layout::fixed(&[&[rows.len() as u64], &shape[..]].concat()),
    };
    let mut bytes = Vec::with_capacity(rows.iter().map(|row| tensor.row(*row).len()).sum());
    rows.iter().for_each(|row| bytes.extend_from_slice(tensor.row(*row)));
    Tensor::new(tensor.datatype, layout?, bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, kind: &str| TensorSpec { name: name.into(), kind: kind.parse().unwrap(), range: None };
        let outputs = vec![spec("a", "FP32[rows, 2]"), spec("b", "FP32[rows, seq, 1]")];
        Signature { inputs: vec![], outputs, dimensions: vec![("seq".into(), 5)] }
    }

    fn outputs(account: &Arc<Account>) -> Outputs {
        let fixed = Layout::fixed(&[3, 2]).unwrap();
        let ragged = Layout::ragged(&[0, 1], 0, &[2, 0, 1]).unwrap();
        let tensor = |layout: Layout, count: u8| {
            let datatype = "FP32".parse().unwrap();
            Tensor::new(datatype, layout, (0..count * 4).collect::<Vec<_>>().into()).unwrap()
        };
        let tensors = vec![("a".into(), tensor(fixed, 6)), ("b".into(), tensor(ragged, 3))];
        Outputs { tensors, charge: account.nothing(Kind::Outputs).into() }
    }

    #[test]
    fn rows_apart_are_the_outputs_together() {
        let (signature, account) = (signature(), Account::host(1 << 20));
        assert_eq!(most_bytes(&signature), 8 + 20);
        let outputs = outputs(&account);
        let rows: Vec<_> = (0..3).map(|row| encode(&outputs, row)).collect();
        let again = assemble(&signature, &rows, &account).unwrap().unwrap();
        for ((_, before), (_, after)) in outputs.tensors.iter().zip(&again.tensors) {
            // At the ragged axis a layout's own extent means nothing.
            assert_eq!((before.layout.shape(), &before.bytes), (after.layout.shape(), &after.bytes));
            assert_eq!(before.layout.lengths(), after.layout.lengths());
        }
        let turned = assemble(&signature, &[rows[2].clone(), rows[0].clone()], &account).unwrap().unwrap();
        assert_eq!(turned.tensors[1].1.layout.lengths(), Some((0, &[1, 2][..])));
        assert_eq!(turned.tensors[1].1.row(1), outputs.tensors[1].1.row(0));
        drop((again, turned));
        assert_eq!(account.held_bytes(), 0);
        assert!(assemble(&signature, &rows, &Account::host(9)).is_err());
    }

    #[test]
    fn what_is_no_row_is_none() {
        let (signature, account) = (signature(), Account::host(1 << 20));
        let row = encode(&outputs(&account), 0);
        assert!(is_row(&signature, &row));
        for end in 0..row.len() {
            assert!(!is_row(&signature, &row.slice(..end)), "{end}");
        }
        let mut longer = row.to_vec();
        longer.push(0);
        assert!(!is_row(&signature, &longer.into()));
        let mut wider = row.to_vec();
        wider[0] = 3;
        assert!(!is_row(&signature, &wider.into()));
        assert!(!is_row(&signature, &vec![0xff; 64].into()));
        assert!(assemble(&signature, &[Bytes::new()], &account).unwrap().is_none());
    }
}
