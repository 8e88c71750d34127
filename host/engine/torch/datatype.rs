//! The protocol's datatypes and libtorch's. Owns nothing but the correspondence.

use tch::Kind;

use crate::tensor::Datatype;

/// Unsigned integers wider than a byte are missing: `tch` has no names for them and libtorch few operations.
const TABLE: [(Datatype, Kind); 10] = [
    (Datatype::Bool, Kind::Bool),
    (Datatype::Uint8, Kind::Uint8),
    (Datatype::Int8, Kind::Int8),
    (Datatype::Int16, Kind::Int16),
    (Datatype::Int32, Kind::Int),
    (Datatype::Int64, Kind::Int64),
    (Datatype::Fp16, Kind::Half),
    (Datatype::Bf16, Kind::BFloat16),
    (Datatype::Fp32, Kind::Float),
    (Datatype::Fp64, Kind::Double),
];

/// libtorch's name for a datatype.
pub(super) fn kind(datatype: Datatype) -> Option<Kind> {
    TABLE.iter().find(|(known, _)| *known == datatype).map(|(_, kind)| *kind)
}

/// The protocol's name for a kind.
pub(super) fn datatype(kind: Kind) -> Option<Datatype> {
    TABLE.iter().find(|(_, known)| *known == kind).map(|(datatype, _)| *datatype)
}
