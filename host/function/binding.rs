//! The joint of a plugin and a model: what `function.toml` says the plugin sends and reads, against what the model takes
//! and gives. Declared against the model at deploy, actual against declared at run time.

use std::collections::BTreeMap;

use super::manifest::BoundModel;
use crate::{
    invocation::Inference,
    tensor::{Extent, Signature, Tensor, TensorSpec, TensorType},
};

/// Compares a binding with a model's signature; the text names the first thing that does not fit.
pub(super) fn fits(binding: &BoundModel, signature: &Signature) -> Result<(), String> {
    side("input", &binding.inputs, &signature.inputs, &signature.dimensions)?;
    side("output", &binding.outputs, &signature.outputs, &[])?;
    match signature.inputs.iter().find(|input| !binding.inputs.contains_key(&input.name)) {
        Some(missing) => {
            Err(format!("the model needs the input `{}` ({}), which is not declared", missing.name, missing.kind))
        }
        None => Ok(()),
    }
}

/// `ragged` lists the dimensions where a fixed extent is as good as the model's ragged one.
fn side(
    side: &str,
    declared: &BTreeMap<String, TensorType>,
    specs: &[TensorSpec],
    ragged: &[(String, u64)],
) -> Result<(), String> {
    for (name, kind) in declared {
        let Some(spec) = specs.iter().find(|spec| spec.name == *name) else {
            let known: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            return Err(format!("the model has no {side} `{name}`; it has {}", known.join(", ")));
        };
        if !same(kind, &spec.kind, ragged) {
            return Err(format!("the {side} `{name}` is declared as {kind}, the model has {}", spec.kind));
        }
    }
    Ok(())
}

fn same(declared: &TensorType, model: &TensorType, ragged: &[(String, u64)]) -> bool {
    let fits = |(declared, model): (&Extent, &Extent)| match (declared, model) {
        (Extent::Fixed(extent), Extent::Ragged(name)) => {
            ragged.iter().any(|(dimension, max)| dimension == name && extent <= max)
        }
        (declared, model) => declared == model,
    };
    declared.datatype == model.datatype
        && declared.shape.len() == model.shape.len()
        && declared.shape.iter().zip(&model.shape).all(fits)
}

/// Checks what a plugin sends against what it declared. Names and ragged lengths are the engine's to check.
pub(super) fn sent_as_declared(binding: &BoundModel, inference: &Inference) -> Result<(), String> {
    for (name, tensor) in &inference.inputs {
        match binding.inputs.get(name) {
            None => {
                return Err(format!("the input `{name}` of `{}` is not declared in function.toml", inference.model));
            }
            Some(declared) if !is(tensor, declared) => {
                let (datatype, shape) = (tensor.datatype, tensor.layout.shape());
                return Err(format!(
                    "the input `{name}` is declared as {declared} and was sent as {datatype} {shape:?}"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn is(tensor: &Tensor, declared: &TensorType) -> bool {
    let row = declared.row_shape();
    let ragged_axis = tensor.layout.lengths().map(|(axis, _)| axis);
    let shape = tensor.layout.row_shape();
    let fits = |(axis, (declared, found)): (usize, (&Extent, &u64))| match declared {
        Extent::Fixed(extent) => ragged_axis != Some(axis) && extent == found,
        Extent::Ragged(_) => true,
        Extent::Rows => false,
    };
    tensor.datatype == declared.datatype && shape.len() == row.len() && row.iter().zip(&shape).enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor::{Datatype, Layout};

    fn spec(name: &str, kind: &str) -> TensorSpec {
        TensorSpec { name: name.into(), kind: kind.parse().unwrap(), range: None }
    }

    fn binding(inputs: &[(&str, &str)], outputs: &[(&str, &str)]) -> BoundModel {
        let types = |side: &[(&str, &str)]| side.iter().map(|(n, t)| ((*n).into(), t.parse().unwrap())).collect();
        BoundModel { model: "m".into(), inputs: types(inputs), outputs: types(outputs) }
    }

    #[test]
    fn a_binding_fits_or_says_where_not() {
        let signature = Signature {
            inputs: vec![spec("ids", "INT64[rows, seq]"), spec("mask", "INT64[rows, seq]")],
            outputs: vec![spec("out", "FP32[rows, 4]")],
            dimensions: vec![("seq".into(), 16)],
        };
        let both = [("ids", "INT64[rows, seq]"), ("mask", "INT64[rows, seq]")];
        assert_eq!(fits(&binding(&both, &[("out", "FP32[rows, 4]")]), &signature), Ok(()));
        assert_eq!(fits(&binding(&[("ids", "INT64[rows, 16]"), both[1]], &[]), &signature), Ok(()));
        for (inputs, outputs, named) in [
            (vec![both[0]], vec![], "`mask`"),
            (vec![both[0], ("mask", "INT32[rows, seq]")], vec![], "INT32"),
            (vec![both[0], ("mask", "INT64[rows, 17]")], vec![], "17"),
            (vec![both[0], both[1], ("x", "INT64[rows, seq]")], vec![], "no input `x`"),
            (both.to_vec(), vec![("out", "FP32[rows, 5]")], "FP32[rows, 4]"),
            (both.to_vec(), vec![("other", "FP32[rows, 4]")], "no output `other`"),
        ] {
            let said = fits(&binding(&inputs, &outputs), &signature).unwrap_err();
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn what_is_sent_must_be_what_was_declared() {
        let binding = binding(&[("x", "FP32[rows, 2]")], &[]);
        let sent = |datatype, shape: &[u64]| {
            let layout = Layout::fixed(shape).unwrap();
            let bytes = Bytes::from(vec![0; layout.byte_length(datatype).unwrap() as usize]);
            let tensor = Tensor::new(datatype, layout, bytes).unwrap();
            let inference =
                Inference { model: "m".into(), inputs: vec![("x".into(), tensor)], wanted: vec![], charges: vec![] };
            sent_as_declared(&binding, &inference)
        };
        assert!(sent(Datatype::Fp32, &[3, 2]).is_ok());
        assert!(sent(Datatype::Fp32, &[3, 3]).is_err());
        assert!(sent(Datatype::Fp32, &[3, 2, 1]).is_err());
        assert!(sent(Datatype::Fp64, &[3, 2]).is_err());
    }
}
