//! Every violation, with the words that a plugin's author reads.

use super::*;
use crate::{engine::manifest::Manifest, tensor::Layout};

const MODEL: &str = r#"
[dimensions]
seq = { max = 8 }
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, 99]
[[input]]
name = "mask"
datatype = "BOOL"
shape = ["rows", "seq"]
[[input]]
name = "image"
datatype = "FP32"
shape = ["rows", 2, 3]
[[output]]
name = "out"
datatype = "FP32"
shape = ["rows", 4]
"#;

fn ids(layout: Layout, values: &[i64]) -> (String, Tensor) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    ("ids".into(), Tensor::new(Datatype::Int64, layout, bytes.into()).unwrap())
}

fn zeros(name: &str, datatype: Datatype, layout: Layout) -> (String, Tensor) {
    let bytes = vec![0; layout.byte_length(datatype).unwrap() as usize];
    (name.into(), Tensor::new(datatype, layout, bytes.into()).unwrap())
}

fn ragged(lengths: &[u64]) -> Layout {
    Layout::ragged(&[0], 0, lengths).unwrap()
}

fn fixed(shape: &[u64]) -> Layout {
    Layout::fixed(shape).unwrap()
}

/// Two rows of 1 and 3 elements, with one of the inputs replaced.
fn with(replaced: (String, Tensor)) -> Vec<(String, Tensor)> {
    let mut inputs = vec![
        zeros("image", Datatype::Fp32, fixed(&[2, 2, 3])),
        ids(ragged(&[1, 3]), &[99, 0, 1, 2]),
        zeros("mask", Datatype::Bool, ragged(&[1, 3])),
    ];
    inputs.retain(|(name, _)| *name != replaced.0);
    inputs.push(replaced);
    inputs
}

fn said(inputs: Vec<(String, Tensor)>) -> String {
    let manifest = Manifest::parse(MODEL).unwrap();
    check(&manifest.plan, inputs).unwrap_err().to_string()
}

#[test]
fn inputs_in_any_order_come_out_in_the_models() {
    let manifest = Manifest::parse(MODEL).unwrap();
    let checked = check(&manifest.plan, with(ids(ragged(&[1, 3]), &[99, 0, 1, 2]))).unwrap();
    assert_eq!(checked.inputs[0].datatype, Datatype::Int64);
    assert_eq!((checked.rows, checked.lengths), (2, vec![1, 3]));
}

#[test]
fn a_fixed_tensor_is_accepted_for_a_ragged_input() {
    let manifest = Manifest::parse(MODEL).unwrap();
    let inputs = vec![
        zeros("image", Datatype::Fp32, fixed(&[2, 2, 3])),
        ids(fixed(&[2, 3]), &[0; 6]),
        zeros("mask", Datatype::Bool, ragged(&[3, 3])),
    ];
    assert_eq!(check(&manifest.plan, inputs).unwrap().lengths, [3, 3]);
}

#[test]
fn every_violation_says_what_and_where() {
    let mut twice = with(ids(ragged(&[1, 3]), &[0; 4]));
    twice.push(ids(ragged(&[1, 3]), &[0; 4]));
    let mut missing = with(ids(ragged(&[1, 3]), &[0; 4]));
    missing.retain(|(name, _)| name != "mask");
    let mut bool_of_2 = zeros("mask", Datatype::Bool, ragged(&[1, 3]));
    bool_of_2.1.bytes = vec![0, 0, 2, 0].into();
    let cases = [
        (with(zeros("idz", Datatype::Fp32, fixed(&[2]))), "there is no input `idz`; there are: ids, mask, image"),
        (twice, "input `ids` is given twice"),
        (missing, "input `mask` is missing"),
        (with(ids(ragged(&[]), &[])), "an inference needs at least one row"),
        (with(zeros("mask", Datatype::Bool, ragged(&[1]))), "input `mask` has 1 rows, the others have 2"),
        (with(zeros("ids", Datatype::Int32, ragged(&[1, 3]))), "input `ids` is INT32, the model takes INT64"),
        (
            with(zeros("image", Datatype::Fp32, fixed(&[2, 6]))),
            "input `image`: a row has 1 dimensions, the model takes 2",
        ),
        (
            with(zeros("image", Datatype::Fp32, fixed(&[2, 2, 4]))),
            "input `image`, row 0: dimension 2 is 4, the model takes 3",
        ),
        (
            with(zeros("image", Datatype::Fp32, Layout::ragged(&[0, 3], 0, &[2, 1]).unwrap())),
            "input `image`, row 1: dimension 1 is 1, the model takes 2",
        ),
        (with(ids(ragged(&[1, 9]), &[0; 10])), "input `ids`, row 1: `seq` is 9, the model takes 1 to 8"),
        (with(ids(ragged(&[0, 3]), &[0; 3])), "input `ids`, row 0: `seq` is 0, the model takes 1 to 8"),
        (
            with(zeros("mask", Datatype::Bool, ragged(&[1, 2]))),
            "input `mask`, row 1: `seq` is 2, in another input of the same row it is 3",
        ),
        (with(ids(ragged(&[1, 3]), &[0, 1, 100, 2])), "input `ids`, row 1: 100 is outside the range 0 to 99"),
        (with(ids(ragged(&[1, 3]), &[-1, 1, 100, 2])), "input `ids`, row 0: -1 is outside the range 0 to 99"),
        (with(bool_of_2), "input `mask`, row 1: 2 is outside the range 0 to 1"),
    ];
    for (inputs, expected) in cases {
        assert_eq!(said(inputs), expected);
    }
}

#[test]
fn ranges_are_kept_by_every_integer_type() {
    let outside = |datatype, bytes: &[u8]| outside(datatype, bytes, 1, 3);
    assert_eq!(outside(Datatype::Uint8, &[1, 3, 4]), Some("4".into()));
    assert_eq!(outside(Datatype::Int8, &[1, 255]), Some("-1".into()));
    assert_eq!(outside(Datatype::Uint16, &[1, 0, 0, 1]), Some("256".into()));
    assert_eq!(outside(Datatype::Int16, &[3, 0]), None);
    assert_eq!(outside(Datatype::Uint32, &[3, 0, 0, 128]), Some("2147483651".into()));
    assert_eq!(outside(Datatype::Int32, &[3, 0, 0, 128]), Some("-2147483645".into()));
    assert_eq!(outside(Datatype::Uint64, &[255; 8]), Some(u64::MAX.to_string()));
    assert_eq!(outside(Datatype::Fp32, &[255; 4]), None);
}
