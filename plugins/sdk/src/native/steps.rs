//! Questions that a test reads and outputs that it writes.

use std::cell::RefCell;

use super::{Failure, Tensor};

/// The question to one model.
#[derive(Debug)]
pub struct Inference {
    model: String,
    inputs: RefCell<Vec<(String, Tensor)>>,
}

impl Inference {
    /// A question without inputs yet.
    pub fn new(model: &str) -> Self {
        Inference { model: model.to_owned(), inputs: RefCell::default() }
    }

    /// Adds an input and seals the tensor.
    pub fn input(&self, name: &str, tensor: &Tensor) -> Result<(), Failure> {
        if self.tensor(name).is_some() {
            let detail = format!("the inference already has an input `{name}`");
            return Err(Failure::new("duplicate-input", detail));
        }
        tensor.seal();
        self.inputs.borrow_mut().push((name.to_owned(), tensor.clone()));
        Ok(())
    }

    /// No row is remembered natively.
    pub fn reuse(&self, keys: &[Vec<u8>]) -> Vec<bool> {
        vec![false; keys.len()]
    }

    /// The plugin's name for the model: for tests.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The input of this name: for tests.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let inputs = self.inputs.borrow();
        let found = inputs.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, tensor)| tensor.clone())
    }
}

/// What one inference came to.
#[derive(Debug)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    /// Outputs that a test makes up: `Outputs::of([("y", tensor)])`.
    pub fn of<'a>(outputs: impl IntoIterator<Item = (&'a str, Tensor)>) -> Self {
        let sealed = outputs.into_iter().map(|(name, tensor)| {
            tensor.seal();
            (name.to_owned(), tensor)
        });
        Outputs(sealed.collect())
    }

    /// The names of the outputs.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// An output, sealed.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Failure> {
        let found = self.0.iter().find(|(candidate, _)| candidate == name);
        found
            .map(|(_, tensor)| tensor.clone())
            .ok_or_else(|| Failure::new("unknown-output", format!("there is no output `{name}`")))
    }
}
