//! Tensors as every room speaks of them: a datatype, a layout (fixed or ragged) and bytes in host memory.
//!
//! Owns the arithmetic of shapes and rows, all of it checked, because shapes come from guests. Refuses to know who made
//! a tensor (a guest, a host call, a model) and what the bytes are copied into.

mod datatype;
mod layout;
mod spec;
mod staging;

pub use datatype::Datatype;
pub use layout::{Layout, LayoutError};
pub use spec::{Extent, Signature, SpecError, TensorSpec, TensorType};
pub use staging::{Buffer, HeapStaging, Staging};

use bytes::Bytes;

/// A tensor in host memory. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The type of the elements.
    pub datatype: Datatype,
    /// How rows lie in `bytes`.
    pub layout: Layout,
    /// Elements, little-endian, row-major, rows back to back, without padding.
    pub bytes: Bytes,
}

impl Tensor {
    /// A tensor whose bytes are as many as its layout says, or an error that tells both numbers.
    pub fn new(datatype: Datatype, layout: Layout, bytes: Bytes) -> Result<Self, LayoutError> {
        let expected = layout.byte_length(datatype)?;
        if bytes.len() as u64 != expected {
            return Err(LayoutError::ByteLength { expected, found: bytes.len() as u64 });
        }
        Ok(Self { datatype, layout, bytes })
    }

    /// The bytes of row `row`; empty past the last row.
    pub fn row(&self, row: usize) -> &[u8] {
        let range = self.layout.row_range(row, self.datatype);
        self.bytes.get(range).unwrap_or_default()
    }
}
