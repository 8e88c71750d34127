//! How the rows of a tensor lie in memory. All arithmetic is checked: extents and lengths are a guest's claim.

use std::{ops::Range, sync::Arc};

use super::Datatype;

/// More dimensions than any model has; a bound on what a guest may make the host walk.
const MAX_DIMENSIONS: usize = 8;

/// More rows than any request brings, and few enough for sums of them not to overflow: rows of no bytes cost nothing.
const MAX_ROWS: u64 = u32::MAX as u64;

/// What is wrong with a shape.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LayoutError {
    #[error("a shape has at most {MAX_DIMENSIONS} dimensions, this one has {0}")]
    TooManyDimensions(usize),
    #[error("the first dimension is the rows: a scalar has none")]
    Scalar,
    #[error("axis {axis} is outside the {dimensions} dimensions of a row")]
    Axis { axis: usize, dimensions: usize },
    #[error("the size in bytes does not fit in 64 bits")]
    Overflow,
    #[error("the layout takes {expected} bytes, there are {found}")]
    ByteLength { expected: u64, found: u64 },
}

/// How rows lie back to back. The first dimension is always the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The shape of a row; meaningless at the ragged axis.
    row_shape: Arc<[u64]>,
    rows: u64,
    ragged: Option<Ragged>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ragged {
    axis: usize,
    lengths: Arc<[u64]>,
    /// `starts[i]` is the sum of the lengths before row `i`; one more entry than rows.
    starts: Arc<[u64]>,
}

impl Layout {
    /// Rows of one shape; `shape[0]` is the number of rows.
    pub fn fixed(shape: &[u64]) -> Result<Self, LayoutError> {
        let (rows, row_shape) = shape.split_first().ok_or(LayoutError::Scalar)?;
        Self::check(row_shape)?;
        if *rows > MAX_ROWS {
            return Err(LayoutError::Overflow);
        }
        let layout = Self { row_shape: row_shape.into(), rows: *rows, ragged: None };
        layout.byte_length(Datatype::Fp64)?;
        Ok(layout)
    }

    /// Rows that differ in one dimension: row `i` has `row_shape` with `lengths[i]` at `axis`.
    pub fn ragged(row_shape: &[u64], axis: usize, lengths: &[u64]) -> Result<Self, LayoutError> {
        Self::check(row_shape)?;
        if axis >= row_shape.len() {
            return Err(LayoutError::Axis { axis, dimensions: row_shape.len() });
        }
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        starts.push(0);
        for length in lengths {
            let end = starts[starts.len() - 1];
            starts.push(length.checked_add(end).ok_or(LayoutError::Overflow)?);
        }
        let ragged = Ragged { axis, lengths: lengths.into(), starts: starts.into() };
        let layout = Self { row_shape: row_shape.into(), rows: lengths.len() as u64, ragged: Some(ragged) };
        layout.byte_length(Datatype::Fp64)?;
        Ok(layout)
    }

    fn check(row_shape: &[u64]) -> Result<(), LayoutError> {
        match row_shape.len() + 1 {
            dimensions if dimensions > MAX_DIMENSIONS => Err(LayoutError::TooManyDimensions(dimensions)),
            _ => Ok(()),
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// The ragged axis within a row and each row's length there; `None` for a fixed tensor.
    pub fn lengths(&self) -> Option<(usize, &[u64])> {
        self.ragged.as_ref().map(|ragged| (ragged.axis, &ragged.lengths[..]))
    }

    /// The shape of a row; at the ragged axis the longest row's length.
    pub fn row_shape(&self) -> Vec<u64> {
        let mut shape = self.row_shape.to_vec();
        if let Some(ragged) = &self.ragged {
            shape[ragged.axis] = ragged.lengths.iter().copied().max().unwrap_or(0);
        }
        shape
    }

    /// The whole shape, rows first; at the ragged axis the longest row's length.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape = self.row_shape();
        shape.insert(0, self.rows);
        shape
    }

    /// The extent of row `row` at `axis` of the row's shape.
    pub fn extent(&self, row: usize, axis: usize) -> Option<u64> {
        match &self.ragged {
            Some(ragged) if ragged.axis == axis => ragged.lengths.get(row).copied(),
            _ => self.row_shape.get(axis).copied(),
        }
    }

    /// The number of dimensions of a row.
    pub fn row_dimensions(&self) -> usize {
        self.row_shape.len()
    }

    /// The size of the whole tensor in bytes.
    pub fn byte_length(&self, datatype: Datatype) -> Result<u64, LayoutError> {
        let along = match &self.ragged {
            Some(ragged) => ragged.starts.last().copied().unwrap_or(0),
            None => self.rows,
        };
        let unit = self.unit(datatype).ok_or(LayoutError::Overflow)?;
        let total = unit.checked_mul(along).ok_or(LayoutError::Overflow)?;
        // More than isize::MAX can neither be allocated nor sliced.
        if total > isize::MAX as u64 { Err(LayoutError::Overflow) } else { Ok(total) }
    }

    /// Where row `row` lies. Cannot overflow: the whole was checked when the layout was made, for the widest datatype.
    pub fn row_range(&self, row: usize, datatype: Datatype) -> Range<usize> {
        let unit = self.unit(datatype).unwrap_or(0) as usize;
        match &self.ragged {
            Some(ragged) => match (ragged.starts.get(row), ragged.starts.get(row + 1)) {
                (Some(start), Some(end)) => *start as usize * unit..*end as usize * unit,
                _ => 0..0,
            },
            None if (row as u64) < self.rows => row * unit..(row + 1) * unit,
            None => 0..0,
        }
    }

    /// Bytes for each row (fixed), or for each step along the ragged axis.
    fn unit(&self, datatype: Datatype) -> Option<u64> {
        let skip = self.ragged.as_ref().map(|ragged| ragged.axis);
        let extents = self.row_shape.iter().enumerate().filter(|(axis, _)| Some(*axis) != skip);
        extents.map(|(_, extent)| *extent).try_fold(datatype.width(), u64::checked_mul)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_ragged_tensor_lie_back_to_back() {
        let layout = Layout::ragged(&[0, 2], 0, &[3, 0, 1]).unwrap();
        assert_eq!(layout.shape(), [3, 3, 2]);
        assert_eq!(layout.byte_length(Datatype::Uint32), Ok(32));
        assert_eq!(layout.row_range(0, Datatype::Uint32), 0..24);
        assert_eq!(layout.row_range(1, Datatype::Uint32), 24..24);
        assert_eq!(layout.row_range(2, Datatype::Uint32), 24..32);
        assert_eq!(layout.row_range(3, Datatype::Uint32), 0..0);
        assert_eq!(layout.extent(2, 0), Some(1));
        assert_eq!(layout.extent(2, 1), Some(2));
    }

    #[test]
    fn absurd_shapes_are_refused() {
        assert_eq!(Layout::fixed(&[]), Err(LayoutError::Scalar));
        assert_eq!(Layout::fixed(&[1 << 40, 1 << 40]), Err(LayoutError::Overflow));
        assert_eq!(Layout::fixed(&[u64::MAX]), Err(LayoutError::Overflow));
        assert_eq!(Layout::fixed(&[1; 9]), Err(LayoutError::TooManyDimensions(9)));
        assert_eq!(Layout::ragged(&[1], 1, &[1]), Err(LayoutError::Axis { axis: 1, dimensions: 1 }));
        assert_eq!(Layout::ragged(&[0], 0, &[u64::MAX, 2]), Err(LayoutError::Overflow));
    }
}
