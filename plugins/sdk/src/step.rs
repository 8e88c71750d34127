//! What a plugin asks for next, in a shape that reads as a sentence:
//! `Inference::new("encoder").input("input_ids", &ids)?.input("attention_mask", &mask)?`.

use crate::{Failure, Response, Tensor, host};

/// The question to one model: named inputs with the same number of rows.
#[derive(Debug)]
pub struct Inference {
    question: host::Inference,
}

impl Inference {
    /// A question without inputs yet. `model` is the key under `[models]` in `function.toml`.
    pub fn new(model: &str) -> Self {
        Inference { question: host::Inference::new(model) }
    }

    /// Adds an input under the name that `model.toml` gives it. The tensor is shared and sealed:
    /// it may be read and given to further inferences, not written any more.
    pub fn input(self, name: &str, tensor: &Tensor) -> Result<Self, Failure> {
        self.question.input(name, tensor)?;
        Ok(self)
    }

    /// Asks for rows that the host may remember, a key for each: true means that it holds the
    /// row. The inputs then carry only the rows answered false, in order; the outputs come back
    /// for all keys.
    pub fn reuse(&self, keys: &[Vec<u8>]) -> Vec<bool> {
        self.question.reuse(keys)
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_host(self) -> host::Inference {
        self.question
    }

    /// What was asked so far: for native tests.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn question(&self) -> &host::Inference {
        &self.question
    }
}

/// The next step of an invocation. Made with `.into()` from an [`Inference`], several, or a
/// [`Response`].
#[derive(Debug)]
pub enum Step {
    /// Ask models: all of these at once.
    Infer(Vec<Inference>),
    /// Answer the caller.
    Respond(Response),
}

impl From<Inference> for Step {
    fn from(inference: Inference) -> Self {
        Step::Infer(vec![inference])
    }
}

impl From<Vec<Inference>> for Step {
    fn from(inferences: Vec<Inference>) -> Self {
        Step::Infer(inferences)
    }
}

impl From<Response> for Step {
    fn from(response: Response) -> Self {
        Step::Respond(response)
    }
}
