//! Tensors over memory, with the host's rules: zeroed, bounds checked, sealed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::Failure;

/// A handle of a tensor; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct Tensor(Rc<Held>);

#[derive(Debug)]
struct Held {
    datatype: String,
    shape: Vec<u64>,
    ragged: Option<(u32, Vec<u64>)>,
    bytes: RefCell<Vec<u8>>,
    sealed: Cell<bool>,
}

fn width(datatype: &str) -> Result<u64, Failure> {
    match datatype {
        "BOOL" | "UINT8" | "INT8" => Ok(1),
        "UINT16" | "INT16" | "FP16" | "BF16" => Ok(2),
        "UINT32" | "INT32" | "FP32" => Ok(4),
        "UINT64" | "INT64" | "FP64" => Ok(8),
        _ => Err(Failure::new("unknown-datatype", format!("`{datatype}` is no datatype"))),
    }
}

fn volume(extents: &[u64]) -> Result<u64, Failure> {
    let product = extents.iter().try_fold(1_u64, |size, extent| size.checked_mul(*extent));
    product.ok_or_else(|| Failure::new("too-large", format!("a shape of {extents:?} overflows")))
}

impl Tensor {
    /// A fixed tensor, all zeros.
    pub fn create(datatype: &str, shape: &[u64]) -> Result<Tensor, Failure> {
        Self::zeros(datatype, shape.to_vec(), None, volume(shape)?)
    }

    /// A ragged tensor, all zeros.
    pub fn create_ragged(datatype: &str, row_shape: &[u64], axis: u32, lengths: &[u64]) -> Result<Tensor, Failure> {
        let position = axis as usize;
        if position >= row_shape.len() {
            let detail = format!("axis {axis} is not a dimension of {row_shape:?}");
            return Err(Failure::new("invalid-shape", detail));
        }
        let mut shape = vec![lengths.len() as u64];
        shape.extend_from_slice(row_shape);
        shape[position + 1] = lengths.iter().copied().max().unwrap_or(0);
        let mut others = row_shape.to_vec();
        others[position] = lengths.iter().sum();
        Self::zeros(datatype, shape, Some((axis, lengths.to_vec())), volume(&others)?)
    }

    fn zeros(
        datatype: &str,
        shape: Vec<u64>,
        ragged: Option<(u32, Vec<u64>)>,
        elements: u64,
    ) -> Result<Tensor, Failure> {
        let bytes = elements.checked_mul(width(datatype)?).and_then(|size| usize::try_from(size).ok());
        let bytes = bytes.ok_or_else(|| Failure::new("too-large", format!("{elements} elements")))?;
        Ok(Tensor(Rc::new(Held {
            datatype: datatype.to_owned(),
            shape,
            ragged,
            bytes: RefCell::new(vec![0; bytes]),
            sealed: Cell::new(false),
        })))
    }

    /// The datatype of the elements.
    pub fn datatype(&self) -> String {
        self.0.datatype.clone()
    }

    /// The extent of each dimension, the rows first; the longest length at a ragged one.
    pub fn shape(&self) -> Vec<u64> {
        self.0.shape.clone()
    }

    /// The dimension in which rows differ, counted without the rows.
    pub fn axis(&self) -> Option<u32> {
        self.0.ragged.as_ref().map(|(axis, _)| *axis)
    }

    /// The length of each row there.
    pub fn lengths(&self) -> Option<Vec<u64>> {
        self.0.ragged.as_ref().map(|(_, lengths)| lengths.clone())
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.0.bytes.borrow().len() as u64
    }

    /// Copies `data` over the bytes from `offset` on.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        if self.0.sealed.get() {
            return Err(Failure::new("sealed", "the tensor was given to an inference or made by the host"));
        }
        let (start, end) = self.range(offset, data.len() as u64)?;
        self.0.bytes.borrow_mut()[start..end].copy_from_slice(data);
        Ok(())
    }

    /// Copies `length` bytes from `offset` on.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
        let (start, end) = self.range(offset, length)?;
        Ok(self.0.bytes.borrow()[start..end].to_vec())
    }

    pub(crate) fn seal(&self) {
        self.0.sealed.set(true);
    }

    fn range(&self, offset: u64, length: u64) -> Result<(usize, usize), Failure> {
        let size = self.size();
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok((offset as usize, end as usize)),
            _ => {
                let detail = format!("{length} bytes at {offset} lie past the end at {size}");
                Err(Failure::new("out-of-bounds", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_keep_to_the_bytes() {
        let tensor = Tensor::create("FP32", &[1, 2]).unwrap();
        tensor.write(4, &[1, 2, 3, 4]).unwrap();
        assert_eq!(tensor.read(0, 8).unwrap(), [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(tensor.write(5, &[0; 4]).unwrap_err().code, "out-of-bounds");
        assert_eq!(tensor.read(u64::MAX, 2).unwrap_err().code, "out-of-bounds");
        tensor.seal();
        assert_eq!(tensor.write(0, &[1]).unwrap_err().code, "sealed");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Tensor::create("BYTES", &[1]).unwrap_err().code, "unknown-datatype");
        assert_eq!(Tensor::create("FP32", &[u64::MAX, 2]).unwrap_err().code, "too-large");
        assert_eq!(Tensor::create_ragged("INT64", &[0], 1, &[1]).unwrap_err().code, "invalid-shape");
    }
}
