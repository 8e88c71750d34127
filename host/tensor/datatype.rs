//! The datatypes of the Open Inference Protocol that have a fixed element size. Owns names and widths, nothing else.

use std::{fmt, str::FromStr};

/// The type of a tensor's elements, named as in the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
}

/// Every datatype with its protocol name and the size of an element in bytes.
const TABLE: [(Datatype, &str, u64); 13] = [
    (Datatype::Bool, "BOOL", 1),
    (Datatype::Uint8, "UINT8", 1),
    (Datatype::Uint16, "UINT16", 2),
    (Datatype::Uint32, "UINT32", 4),
    (Datatype::Uint64, "UINT64", 8),
    (Datatype::Int8, "INT8", 1),
    (Datatype::Int16, "INT16", 2),
    (Datatype::Int32, "INT32", 4),
    (Datatype::Int64, "INT64", 8),
    (Datatype::Fp16, "FP16", 2),
    (Datatype::Bf16, "BF16", 2),
    (Datatype::Fp32, "FP32", 4),
    (Datatype::Fp64, "FP64", 8),
];

impl Datatype {
    /// The protocol's name: `FP32`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The size of one element in bytes.
    pub fn width(self) -> u64 {
        TABLE[self as usize].2
    }

    /// Whether elements are whole numbers (for which a model must state its range).
    pub fn is_integer(self) -> bool {
        use Datatype::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        matches!(self, Uint8 | Uint16 | Uint32 | Uint64 | Int8 | Int16 | Int32 | Int64)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no datatype.
#[derive(Debug, thiserror::Error)]
#[error("unknown datatype `{0}`; known: BOOL, UINT8…UINT64, INT8…INT64, FP16, BF16, FP32, FP64")]
pub struct UnknownDatatype(pub String);

impl FromStr for Datatype {
    type Err = UnknownDatatype;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = TABLE.iter().find(|(_, known, _)| *known == name);
        found.map(|(datatype, ..)| *datatype).ok_or_else(|| UnknownDatatype(name.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (datatype, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(*datatype as usize, index);
            assert_eq!(name.parse::<Datatype>().unwrap(), *datatype);
        }
        assert!("fp32".parse::<Datatype>().is_err());
    }
}
