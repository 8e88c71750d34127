//! Tensors as typed slices: numbers in, numbers out.
//!
//! Refuses to convert: a tensor of `INT64` is not read as `f32`, because the bytes would
//! pass and the numbers be nonsense.

use crate::{Failure, Tensor};

/// A Rust type that is the element of a datatype.
pub trait Element: bytemuck::Pod {
    /// The datatype's name in the Open Inference Protocol.
    const DATATYPE: &'static str;
}

macro_rules! elements {
    ($($type:ty = $datatype:literal),+ $(,)?) => {
        $( impl Element for $type { const DATATYPE: &'static str = $datatype; } )+
    };
}
elements!(
    u8 = "UINT8",
    u16 = "UINT16",
    u32 = "UINT32",
    u64 = "UINT64",
    i8 = "INT8",
    i16 = "INT16",
    i32 = "INT32",
    i64 = "INT64",
    f32 = "FP32",
    f64 = "FP64",
);

fn failure(code: &str, detail: String) -> Failure {
    Failure { code: code.to_owned(), detail }
}

impl Tensor {
    /// A fixed tensor with these elements, the rows first, the last dimension next to one
    /// another: `Tensor::fixed(&[2, 3], &[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0])`.
    pub fn fixed<T: Element>(shape: &[u64], elements: &[T]) -> Result<Tensor, Failure> {
        let wanted = shape.iter().try_fold(1_u64, |size, extent| size.checked_mul(*extent));
        if wanted != Some(elements.len() as u64) {
            let detail = format!("a tensor of shape {shape:?} cannot hold {} elements", elements.len());
            return Err(failure("invalid-shape", detail));
        }
        let tensor = Tensor::create(T::DATATYPE, shape)?;
        tensor.write(0, bytemuck::cast_slice(elements))?;
        Ok(tensor)
    }

    /// A ragged tensor whose rows are these slices: `Tensor::ragged(&[[1_i64, 2].as_slice(), &[3]])`.
    pub fn ragged<T: Element, R: AsRef<[T]>>(rows: &[R]) -> Result<Tensor, Failure> {
        let lengths: Vec<u64> = rows.iter().map(|row| row.as_ref().len() as u64).collect();
        let tensor = Tensor::create_ragged(T::DATATYPE, &[0], 0, &lengths)?;
        let mut offset = 0;
        for row in rows {
            let bytes: &[u8] = bytemuck::cast_slice(row.as_ref());
            tensor.write(offset, bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(tensor)
    }

    /// Copies elements over those from `start` on, which counts elements from the tensor's
    /// first: rows of a tensor can be written one after another, without all of them in the
    /// plugin's memory.
    ///
    /// Fails with `wrong-datatype` if the tensor has elements of another type, and as
    /// `write`.
    pub fn put<T: Element>(&self, start: u64, elements: &[T]) -> Result<(), Failure> {
        self.check::<T>("written")?;
        let Some(offset) = start.checked_mul(size_of::<T>() as u64) else {
            return Err(failure("out-of-bounds", format!("no tensor has {start} elements")));
        };
        self.write(offset, bytemuck::cast_slice(elements))
    }

    /// All elements, rows back to back.
    ///
    /// Fails with `wrong-datatype` if the tensor has elements of another type.
    pub fn values<T: Element>(&self) -> Result<Vec<T>, Failure> {
        self.check::<T>("read")?;
        Ok(bytemuck::pod_collect_to_vec(&self.read(0, self.size())?))
    }

    fn check<T: Element>(&self, done: &str) -> Result<(), Failure> {
        let datatype = self.datatype();
        if datatype != T::DATATYPE {
            let detail = format!("the tensor is {datatype} and was {done} as {}", T::DATATYPE);
            return Err(failure("wrong-datatype", detail));
        }
        Ok(())
    }

    /// All elements, copied once and taken apart by row.
    ///
    /// Fails with `wrong-datatype` if the tensor has elements of another type, and with
    /// `invalid-shape` if it has no rows (a scalar).
    pub fn rows<T: Element>(&self) -> Result<Rows<T>, Failure> {
        let shape = self.shape();
        let Some((count, row)) = shape.split_first() else {
            return Err(failure("invalid-shape", "a scalar has no rows".to_owned()));
        };
        let inner = |extents: &[u64]| extents.iter().product::<u64>() as usize;
        let ends = match (self.axis(), self.lengths()) {
            (Some(axis), Some(lengths)) => {
                let axis = axis as usize;
                let others = inner(&row[..axis]) * inner(&row[axis + 1..]);
                ends(lengths.iter().map(|length| *length as usize * others))
            }
            _ => ends((0..*count).map(|_| inner(row))),
        };
        Ok(Rows { elements: self.values()?, ends })
    }
}

fn ends(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    lengths
        .scan(0, |end, length| {
            *end += length;
            Some(*end)
        })
        .collect()
}

/// The elements of a tensor, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<T> {
    elements: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Rows<T> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The elements of one row; none past the last.
    pub fn get(&self, row: usize) -> Option<&[T]> {
        let start = if row == 0 { 0 } else { *self.ends.get(row - 1)? };
        self.elements.get(start..*self.ends.get(row)?)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[T]> {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_rows_come_back_as_they_went_in() {
        let rows: [&[i64]; 4] = [&[1, 2, 3], &[], &[4], &[5, 6]];
        let tensor = Tensor::ragged(&rows).unwrap();
        assert_eq!(tensor.shape(), [4, 3]);
        assert_eq!(tensor.lengths(), Some(vec![3, 0, 1, 2]));
        let back = tensor.rows::<i64>().unwrap();
        assert_eq!(back.iter().collect::<Vec<_>>(), rows);
        assert_eq!(back.get(4), None);
    }

    #[test]
    fn rows_of_a_fixed_tensor_have_one_length() {
        let rows = Tensor::fixed(&[2, 3], &[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap().rows::<f32>().unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    }

    #[test]
    fn elements_are_put_where_they_are_told() {
        let tensor = Tensor::create("INT16", &[2, 3]).unwrap();
        tensor.put(4, &[7_i16, 8]).unwrap();
        tensor.put(0, &[1_i16]).unwrap();
        assert_eq!(tensor.values::<i16>().unwrap(), [1, 0, 0, 0, 7, 8]);
    }

    #[test]
    fn wrong_types_and_sizes_are_told() {
        let tensor = Tensor::fixed(&[1, 2], &[7_i64, 8]).unwrap();
        let wrong = tensor.values::<f32>().unwrap_err();
        assert_eq!(
            (wrong.code.as_str(), wrong.detail.as_str()),
            ("wrong-datatype", "the tensor is INT64 and was read as FP32")
        );
        let wrong = tensor.put(0, &[1.0_f32]).unwrap_err();
        assert_eq!(wrong.detail, "the tensor is INT64 and was written as FP32");
        assert_eq!(tensor.put(2, &[1_i64]).unwrap_err().code, "out-of-bounds");
        assert_eq!(tensor.put(u64::MAX, &[1_i64]).unwrap_err().code, "out-of-bounds");
        assert_eq!(Tensor::fixed(&[2, 2], &[1.0_f32]).unwrap_err().code, "invalid-shape");
        assert_eq!(Tensor::fixed(&[], &[1.0_f32]).unwrap().rows::<f32>().unwrap_err().code, "invalid-shape");
    }
}
