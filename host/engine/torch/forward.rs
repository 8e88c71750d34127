//! From a batch's input tensors to its outputs, as declared and in the signature's order, whatever format the model file has.
//!
//! Owns what each format needs to be called and what it leaves behind when it throws. Refuses to know where the tensors came
//! from and where they go: that is the lane's.

use std::sync::Arc;

use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::{datatype, device, package::Package};
use crate::{engine::BackendError, tensor::Signature};

/// What `tch` says when `forward_ts` meets a tuple.
const NO_TENSOR: &str = "forward did not return a tensor";

/// One readable line of what libtorch said.
pub(super) fn said(error: TchError) -> BackendError {
    let text = match error {
        TchError::Torch(text) => text,
        other => other.to_string(),
    };
    device::error(&text)
}

/// What is called.
#[derive(Clone)]
enum Code {
    Script {
        module: Arc<CModule>,
        /// Whether `forward` was seen to give one plain tensor, or might.
        gives_tensor: bool,
    },
    Package(Arc<Package>),
}

/// A model as a lane runs it.
#[derive(Clone)]
pub(super) struct Forward {
    code: Code,
    pub(super) signature: Arc<Signature>,
    /// What floating inputs are converted to; outputs come back as they are declared.
    kind: Option<Kind>,
}

impl Forward {
    /// Of a TorchScript module; floating inputs are converted to `kind` where its weights are of one.
    pub(super) fn script(module: Arc<CModule>, kind: Option<Kind>, signature: Arc<Signature>) -> Self {
        let gives_tensor = signature.outputs.len() == 1;
        Self { code: Code::Script { module, gives_tensor }, signature, kind }
    }

    /// Of a package of AOTInductor.
    pub(super) fn package(package: Package, signature: Arc<Signature>) -> Self {
        Self { code: Code::Package(Arc::new(package)), signature, kind: None }
    }

    /// From inputs as declared to outputs as declared.
    pub(super) fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BackendError> {
        let Some(kind) = self.kind else { return self.forward(inputs) };
        let inputs = inputs.iter().map(|input| converted(input, Some(kind))).collect::<Result<_, _>>()?;
        let outputs = self.forward(inputs)?;
        // Of outputs that are not declared there is no kind; who reads them says that they are too many.
        let declared = self.signature.outputs.iter().map(|output| datatype::kind(output.kind.datatype));
        let declared = declared.chain(std::iter::repeat(None));
        outputs.iter().zip(declared).map(|(output, kind)| converted(output, kind)).collect()
    }

    fn forward(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BackendError> {
        match &mut self.code {
            Code::Package(package) => {
                let most = self.signature.outputs.len();
                or_emptied(inputs, |inputs| package.run(&inputs, most))
            }
            Code::Script { module, gives_tensor } => {
                // `tch` leaks the inputs' headers when `forward_is` throws, and does not when `forward_ts` does: so the
                // latter is used for every model that allows it.
                if *gives_tensor {
                    match module.forward_ts(&inputs) {
                        Ok(tensor) => return Ok(vec![tensor]),
                        Err(TchError::Torch(text)) if text.contains(NO_TENSOR) => *gives_tensor = false,
                        Err(error) => return Err(said(error)),
                    }
                }
                let output = or_emptied(inputs, |inputs| {
                    let inputs: Vec<IValue> = inputs.into_iter().map(IValue::Tensor).collect();
                    module.forward_is(&inputs).map_err(said)
                });
                in_order(output?, &self.signature)
            }
        }
    }
}

/// Calls what leaks the headers of its inputs when it throws. On a device those would keep their memory, so it is taken out of
/// them; on the processor it is the lane's own.
fn or_emptied<T>(
    inputs: Vec<Tensor>,
    call: impl FnOnce(Vec<Tensor>) -> Result<T, BackendError>,
) -> Result<T, BackendError> {
    let mut on_device: Vec<Tensor> =
        inputs.iter().filter(|input| input.device() != tch::Device::Cpu).map(Tensor::shallow_clone).collect();
    call(inputs).inspect_err(|_| on_device.iter_mut().for_each(|input| drop(input.f_set_())))
}

/// The same in another kind, if both are floating; everything else stays what it is.
fn converted(tensor: &Tensor, kind: Option<Kind>) -> Result<Tensor, BackendError> {
    let is_floating = |kind: Kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let now = tensor.f_kind().map_err(said)?;
    match kind.filter(|kind| *kind != now && is_floating(*kind) && is_floating(now)) {
        Some(kind) => tensor.f_to_kind(kind).map_err(said),
        None => Ok(tensor.shallow_clone()),
    }
}

/// The outputs in the signature's order: a tensor, a tuple or list of them, or a dictionary by name.
fn in_order(value: IValue, signature: &Signature) -> Result<Vec<Tensor>, BackendError> {
    let odd = || BackendError::threw("an output is neither a tensor nor a tuple, list or dictionary of tensors");
    let tensor = |value| if let IValue::Tensor(tensor) = value { Ok(tensor) } else { Err(odd()) };
    match value {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::TensorList(tensors) => Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => values.into_iter().map(tensor).collect(),
        IValue::GenericDict(mut entries) => {
            let mut named = |name: &str| {
                let is_named = |(key, _): &(IValue, IValue)| matches!(key, IValue::String(key) if key == name);
                let found = entries.iter().position(is_named);
                let missing = || BackendError::threw(format!("the model's dictionary has no output `{name}`"));
                tensor(entries.swap_remove(found.ok_or_else(missing)?).1)
            };
            signature.outputs.iter().map(|output| named(&output.name)).collect()
        }
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorSpec;

    #[test]
    fn outputs_may_come_as_tensor_tuple_list_or_dictionary() {
        let spec = |name: &str| TensorSpec { name: name.into(), kind: "FP32[rows]".parse().unwrap(), range: None };
        let outputs = vec![spec("one"), spec("two")];
        let signature = Signature { inputs: Vec::new(), outputs, dimensions: Vec::new() };
        let tensor = |value: f32| Tensor::from_slice(&[value]);
        let value = |value: f32| IValue::Tensor(tensor(value));
        let sums = |value| {
            let tensors = in_order(value, &signature).map_err(|error| error.detail)?;
            Ok::<_, String>(tensors.iter().map(|tensor| tensor.double_value(&[0])).collect::<Vec<_>>())
        };
        assert_eq!(sums(value(1.0)), Ok(vec![1.0]));
        assert_eq!(sums(IValue::Tuple(vec![value(1.0), value(2.0)])), Ok(vec![1.0, 2.0]));
        assert_eq!(sums(IValue::TensorList(vec![tensor(1.0), tensor(2.0)])), Ok(vec![1.0, 2.0]));
        let entry = |name: &str, of| (IValue::String(name.into()), value(of));
        let dictionary = vec![entry("x", 0.0), entry("two", 2.0), entry("one", 1.0)];
        assert_eq!(sums(IValue::GenericDict(dictionary)), Ok(vec![1.0, 2.0]));
        let said = sums(IValue::GenericDict(vec![entry("one", 1.0)])).unwrap_err();
        assert_eq!(said, "the model's dictionary has no output `two`");
        assert!(sums(IValue::Tuple(vec![IValue::Int(1)])).is_err());
    }
}
