//! What a model takes and gives, and what a plugin says it will send and read: `INT64[rows, seq]`. Owns the notation and
//! the comparison of the two; refuses to know models and plugins themselves.

use std::{fmt, str::FromStr};

use super::{Datatype, datatype::UnknownDatatype};

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The batch dimension; always and only the first.
    Rows,
    /// The same for every row.
    Fixed(u64),
    /// Named in `[dimensions]`; differs from row to row.
    Ragged(String),
}

/// A datatype and a shape: `INT64[rows, seq]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The type of the elements.
    pub datatype: Datatype,
    /// Rows first; at most one ragged dimension.
    pub shape: Vec<Extent>,
}

/// A tensor of a model: its name and type, and for integers what values are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in `model.toml`.
    pub name: String,
    /// Datatype and shape.
    pub kind: TensorType,
    /// Smallest and largest value; stated for every integer input.
    pub range: Option<(i64, i64)>,
}

/// All that a model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// In the order in which the model takes them.
    pub inputs: Vec<TensorSpec>,
    /// In the order in which the model gives them.
    pub outputs: Vec<TensorSpec>,
    /// Name and largest extent of each ragged dimension.
    pub dimensions: Vec<(String, u64)>,
}

/// Why a declaration cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SpecError {
    #[error("`{0}` is not of the form `DATATYPE[rows, …]`")]
    Form(String),
    #[error(transparent)]
    Datatype(#[from] UnknownDatatype),
    #[error("the first dimension must be `rows`, and only the first")]
    Rows,
    #[error("`{0}` is neither a number from 1 nor the name of a dimension")]
    Extent(String),
    #[error("only one dimension of a tensor may be ragged, `{0}` and `{1}` both are")]
    TwoRagged(String, String),
}

impl TensorType {
    /// A type from a datatype's name and its dimensions as written.
    pub fn parse<'a>(datatype: &str, extents: impl IntoIterator<Item = &'a str>) -> Result<Self, SpecError> {
        let datatype = datatype.trim().parse()?;
        let mut shape = Vec::new();
        for extent in extents {
            shape.push(match extent.trim() {
                "rows" => Extent::Rows,
                number if number.starts_with(|first: char| first.is_ascii_digit()) => match number.parse() {
                    Ok(extent) if extent > 0 => Extent::Fixed(extent),
                    _ => return Err(SpecError::Extent(number.into())),
                },
                name if is_name(name) => Extent::Ragged(name.into()),
                other => return Err(SpecError::Extent(other.chars().take(32).collect())),
            });
        }
        let rest = shape.get(1..).unwrap_or_default();
        if shape.first() != Some(&Extent::Rows) || rest.contains(&Extent::Rows) {
            return Err(SpecError::Rows);
        }
        let mut ragged = rest.iter().filter_map(|extent| match extent {
            Extent::Ragged(name) => Some(name.clone()),
            _ => None,
        });
        if let (Some(first), Some(second)) = (ragged.next(), ragged.next()) {
            return Err(SpecError::TwoRagged(first, second));
        }
        Ok(Self { datatype, shape })
    }

    /// The ragged dimension: its axis within a row and its name.
    pub fn ragged(&self) -> Option<(usize, &str)> {
        let row = self.row_shape().iter().enumerate();
        row.filter_map(|(axis, extent)| if let Extent::Ragged(name) = extent { Some((axis, &name[..])) } else { None })
            .next()
    }

    /// The shape without the rows.
    pub fn row_shape(&self) -> &[Extent] {
        self.shape.get(1..).unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

impl FromStr for TensorType {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || SpecError::Form(text.chars().take(64).collect());
        let (datatype, shape) = text.strip_suffix(']').and_then(|text| text.split_once('[')).ok_or_else(form)?;
        Self::parse(datatype, shape.split(','))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => f.write_str("rows"),
            Self::Fixed(extent) => write!(f, "{extent}"),
            Self::Ragged(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.datatype)?;
        for (position, extent) in self.shape.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{extent}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_reads_and_writes_itself() {
        for text in ["INT64[rows, seq]", "FP32[rows, 384]", "UINT8[rows, 3, height, 4]", "BOOL[rows]"] {
            assert_eq!(text.parse::<TensorType>().unwrap().to_string(), text);
        }
        assert_eq!("INT64[rows, seq]".parse::<TensorType>().unwrap().ragged(), Some((0, "seq")));
        for wrong in [
            "",
            "INT64",
            "INT64[]",
            "INT64[seq]",
            "INT64[rows, rows]",
            "INT64[rows, 0]",
            "INT64[rows, a, b]",
            "INT65[rows]",
            "INT64[rows, -1]",
            "INT64[rows, 99999999999999999999]",
            "INT64[rows, ä]",
            "INT64[rows]x",
        ] {
            assert!(wrong.parse::<TensorType>().is_err(), "{wrong}");
        }
    }
}
