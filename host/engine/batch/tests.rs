//! Stacking and splitting against a reference that goes element by element.

use proptest::prelude::*;

use super::*;

const PAD: u8 = 9;

/// A plan with one ragged input and one output of the same type, of bytes, so that an element is a byte.
fn plan(kind: &str) -> Plan {
    let spec = |name: &str| TensorSpec { name: name.into(), kind: kind.parse().unwrap(), range: None };
    let signature =
        Signature { inputs: vec![spec("in")], outputs: vec![spec("out")], dimensions: vec![("n".into(), 16)] };
    Plan::new(&signature, &[Pad::new(Datatype::Uint8, f64::from(PAD)).unwrap()])
}

/// Where element (`outer`, `along`, `inner`) of a row with `length` steps along its ragged axis lies.
fn at(length: usize, inner_size: usize, (outer, along, inner): (usize, usize, usize)) -> usize {
    (outer * length + along) * inner_size + inner
}

proptest! {
    #[test]
    fn stacking_pads_and_splitting_trims(
        lengths in proptest::collection::vec(1..7_usize, 1..6),
        outer in 1..4_usize,
        inner in 1..4_usize,
    ) {
        let plan = plan(&format!("UINT8[rows, {outer}, n, {inner}]"));
        let wide: Vec<u64> = lengths.iter().map(|length| *length as u64).collect();
        let layout = Layout::ragged(&[outer as u64, 0, inner as u64], 1, &wide).unwrap();
        let total = layout.byte_length(Datatype::Uint8).unwrap() as usize;
        let bytes: Vec<u8> = (0..total).map(|index| 10 + (index % 240) as u8).collect();
        let inputs = [Tensor::new(Datatype::Uint8, layout, bytes.clone().into()).unwrap()];
        let rows: Vec<_> =
            wide.iter().enumerate().map(|(index, length)| Row { inputs: &inputs, index, lengths: std::slice::from_ref(length) }).collect();
        let batch = Batch::new(&plan, &rows);
        let longest = *lengths.iter().max().unwrap();
        prop_assert_eq!(batch.inputs()[0].shape(), [lengths.len() as u64, outer as u64, longest as u64, inner as u64]);

        let mut dense = vec![0; batch.inputs()[0].byte_length()];
        batch.inputs()[0].stack(&mut dense);
        let row_size = outer * longest * inner;
        for (row, length) in lengths.iter().enumerate() {
            for place in places(outer, longest, inner) {
                let found = dense[row * row_size + at(longest, inner, place)];
                let expected = if place.1 < *length { inputs[0].row(row)[at(*length, inner, place)] } else { PAD };
                prop_assert_eq!(found, expected);
            }
        }

        let shape = batch.inputs()[0].shape().to_vec();
        let output = Dense { datatype: Some(Datatype::Uint8), shape, bytes: &dense };
        prop_assert!(batch.check(&plan, std::slice::from_ref(&output)).is_ok());
        let layout = plan.output_layouts(lengths.len(), &wide).unwrap().remove(0);
        let mut split = vec![0; total];
        for row in 0..lengths.len() {
            let dense_row = &dense[row * row_size..(row + 1) * row_size];
            plan.outputs[0].trim(dense_row, &mut split[layout.row_range(row, Datatype::Uint8)]);
        }
        prop_assert_eq!(split, bytes);
    }
}

fn places(outer: usize, along: usize, inner: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..outer).flat_map(move |o| (0..along).flat_map(move |a| (0..inner).map(move |i| (o, a, i))))
}

#[test]
fn what_a_model_gives_must_be_what_it_states() {
    let plan = plan("UINT8[rows, n]");
    let inputs = [Tensor::new(Datatype::Uint8, Layout::fixed(&[2, 3]).unwrap(), vec![0; 6].into()).unwrap()];
    let batch = Batch::new(&plan, &[0, 1].map(|index| Row { inputs: &inputs, index, lengths: &[3] }));
    let check = |datatype, shape: &[u64], bytes: usize| {
        let bytes = vec![0; bytes];
        batch.check(&plan, &[Dense { datatype, shape: shape.to_vec(), bytes: &bytes }]).map_err(|error| error.detail)
    };
    assert_eq!(check(Some(Datatype::Uint8), &[2, 3], 6), Ok(()));
    let said = check(Some(Datatype::Fp32), &[2, 3], 24).unwrap_err();
    assert_eq!(said, "output `out` is FP32[2, 3], its model.toml makes it UINT8[2, 3]");
    assert!(check(Some(Datatype::Uint8), &[2, 4], 8).is_err());
    assert!(check(Some(Datatype::Uint8), &[2, 3], 5).is_err());
    assert!(check(None, &[2, 3], 6).unwrap_err().contains("an unknown datatype"));
    assert_eq!(batch.check(&plan, &[]).unwrap_err().detail, "the model gave 0 outputs, its model.toml states 1");
}

#[test]
fn a_pad_is_an_element_or_nothing() {
    let bytes = |datatype, value| Pad::new(datatype, value).map(|pad| pad.0);
    assert_eq!(bytes(Datatype::Int16, -2.0), Some([254, 255, 0, 0, 0, 0, 0, 0]));
    assert_eq!(bytes(Datatype::Fp32, 1.0), Some([0, 0, 128, 63, 0, 0, 0, 0]));
    assert_eq!(bytes(Datatype::Bool, 1.0), Some([1, 0, 0, 0, 0, 0, 0, 0]));
    for (datatype, value) in [
        (Datatype::Uint8, 256.0),
        (Datatype::Uint8, -1.0),
        (Datatype::Int64, 0.5),
        (Datatype::Bool, 2.0),
        (Datatype::Fp16, 1.0),
    ] {
        assert_eq!(bytes(datatype, value), None, "{datatype} {value}");
    }
}
