//! Functions that leave the shaping to the host: `passthrough = "oip"` reads the body as a request of the Open Inference
//! Protocol for the one bound model, and where a plugin has no `postprocessing` the outputs of its one inference are told
//! as the protocol's JSON. Owns these two defaults; whose fault a misfit is depends on who made the tensors.

use std::{sync::Arc, time::Instant};

use super::{
    InferError, InvokeError,
    direct::{LONG_BYTES, tell, undecoded, worked},
    oip::{self, Form, HEADER_LENGTH, InferRequest},
    snapshot::Snapshot,
};
use crate::{
    invocation::{Inference, Invocation, Outputs, Request, Response, Stage, Step},
    sandbox::pause,
};

/// What an invocation has instead of a plugin's `preprocessing` and `postprocessing`.
#[derive(Default)]
pub(super) struct Defaults {
    /// What the caller asked for, where its body was passed through.
    passed: Option<InferRequest>,
    /// The plugin's name for the model that was asked last.
    alias: String,
}

impl Defaults {
    /// The first step of a function that passes bodies through.
    pub(super) async fn first(
        &mut self,
        snapshot: &Snapshot,
        invocation: &Arc<Invocation>,
        request: &Request,
    ) -> Result<Step, InvokeError> {
        if request.body.len() > LONG_BYTES {
            move_away(invocation).await;
        }
        let lengths = request.headers.iter().filter(|(name, _)| name == HEADER_LENGTH).map(|(_, value)| value);
        let header_bytes = oip::header_bytes(lengths).map_err(InvokeError::Malformed)?;
        let Some(charge) = &request.charge else {
            return Err(InvokeError::Internal("a body without a charge".into()));
        };
        let form = Form::Json { header_bytes };
        let start = Instant::now();
        let read = InferRequest::decode(form, &request.body, charge, &invocation.account);
        worked(invocation, Stage::Preprocess, start);
        let mut read = read.map_err(undecoded)?;
        let Some((alias, model)) = snapshot.models.by_alias.first_key_value() else {
            return Err(InvokeError::Contract("`passthrough` needs a model".into()));
        };
        super::direct::known_outputs(model, &read)?;
        let (inputs, charges) = (std::mem::take(&mut read.inputs), std::mem::take(&mut read.charges));
        self.passed = Some(read);
        Ok(Step::Infer(vec![Inference { model: alias.clone(), inputs, wanted: Vec::new(), charges }]))
    }

    /// Notes what is asked, for the answer names it.
    pub(super) fn asked(&mut self, inferences: &[Inference]) {
        self.alias = inferences.first().map_or_else(String::new, |inference| inference.model.clone());
    }

    /// What is wrong with tensors that came from the caller is the caller's affair; those of later rounds are the plugin's.
    pub(super) fn blame(&self, round: u32, error: InvokeError) -> InvokeError {
        match error {
            error if self.passed.is_none() || round > 0 => error,
            InvokeError::Contract(detail) => InvokeError::Malformed(detail),
            InvokeError::Infer(error @ InferError::Contract { .. }) => InvokeError::Malformed(error.to_string()),
            error => error,
        }
    }

    /// The answer of a plugin without `postprocessing`.
    pub(super) async fn answer(
        &mut self,
        snapshot: &Snapshot,
        invocation: &Invocation,
        outputs: Vec<Outputs>,
    ) -> Result<Response, InvokeError> {
        let ([outputs], Some(model)) = (&outputs[..], snapshot.models.by_alias.get(&self.alias)) else {
            return Err(InvokeError::Contract(format!(
                "the plugin asked for {} inferences at once and exports no `postprocessing` that would join them",
                outputs.len()
            )));
        };
        if outputs.tensors.iter().map(|(_, tensor)| tensor.bytes.len()).sum::<usize>() > LONG_BYTES {
            move_away(invocation).await;
        }
        let start = Instant::now();
        let request = self.passed.take();
        let by_caller = request.is_some();
        let told = tell(
            Form::Json { header_bytes: None },
            (&request.unwrap_or_default(), model),
            outputs,
            &invocation.account,
        );
        worked(invocation, Stage::Postprocess, start);
        told.map_err(|error| match error {
            InvokeError::Malformed(detail) if !by_caller => InvokeError::Contract(detail),
            InvokeError::TooLarge(detail) => InvokeError::Contract(detail),
            error => error,
        })
    }
}

/// From here on an invocation runs where it keeps nobody from their connections, in turns with others.
async fn move_away(invocation: &Invocation) {
    invocation.mark_long();
    pause().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_is_the_callers_only_where_its_tensors_are_asked_with() {
        let misfit = || InvokeError::Contract("`x` is missing".into());
        let passed = Defaults { passed: Some(InferRequest::default()), alias: String::new() };
        assert!(matches!(passed.blame(0, misfit()), InvokeError::Malformed(_)));
        assert!(matches!(passed.blame(1, misfit()), InvokeError::Contract(_)));
        assert!(matches!(Defaults::default().blame(0, misfit()), InvokeError::Contract(_)));
    }
}
