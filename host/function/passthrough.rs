//! Functions that leave the shaping to the host: `passthrough = "oip"` reads the body as a request of the Open Inference
//! Protocol for the one bound model, and where a plugin has no `postprocessing` the outputs of its one inference are told
//! as the protocol's JSON. Owns these two defaults; whose fault a misfit is depends on who made the tensors.

use std::{sync::Arc, time::Instant};

use super::{
    InferError, InvokeError,
    direct::{LONG_BYTES, tell, undecoded},
    oip::{Form, HEADER_LENGTH, InferRequest},
    snapshot::Snapshot,
};
use crate::{
    invocation::{Inference, Invocation, Outputs, Request, Response, Stage, Step},
    sandbox::Running,
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
            // From here on it runs where it keeps nobody from their connections.
            invocation.mark_long();
            tokio::task::yield_now().await;
        }
        let header = request.headers.iter().find(|(name, _)| name == HEADER_LENGTH);
        let header_bytes = header.map(|(_, value)| value.parse().map_err(|_| not_a_length())).transpose()?;
        let Some(charge) = &request.charge else {
            return Err(InvokeError::Internal("a body without a charge".into()));
        };
        let form = Form::Json { header_bytes };
        let mut read = InferRequest::decode(form, &request.body, charge, &invocation.account).map_err(undecoded)?;
        let Some((alias, model)) = snapshot.models.by_alias.first_key_value() else {
            return Err(InvokeError::Contract("`passthrough` needs a model".into()));
        };
        super::direct::known_outputs(model, &read)?;
        let (inputs, charges) = (std::mem::take(&mut read.inputs), std::mem::take(&mut read.charges));
        self.passed = Some(read);
        Ok(Step::Infer(vec![Inference { model: alias.clone(), inputs, charges }]))
    }

    /// Notes what is asked, for the answer names it.
    pub(super) fn asked(&mut self, inferences: &[Inference]) {
        self.alias = inferences.first().map_or_else(String::new, |inference| inference.model.clone());
    }

    /// What is wrong with tensors that came from the caller is the caller's affair.
    pub(super) fn blame(&self, error: InvokeError) -> InvokeError {
        match error {
            error if self.passed.is_none() => error,
            InvokeError::Contract(detail) => InvokeError::Malformed(detail),
            InvokeError::Infer(error @ InferError::Contract { .. }) => InvokeError::Malformed(error.to_string()),
            error => error,
        }
    }

    /// The answer of a plugin without `postprocessing`; none where it has one.
    pub(super) fn answer(
        &mut self,
        guest: &Running,
        snapshot: &Snapshot,
        (invocation, outputs): (&Invocation, &[Outputs]),
    ) -> Option<Result<Response, InvokeError>> {
        if guest.postprocesses() {
            return None;
        }
        let ([outputs], Some(model)) = (outputs, snapshot.models.by_alias.get(&self.alias)) else {
            return Some(Err(InvokeError::Contract(format!(
                "the plugin asked for {} inferences at once and exports no `postprocessing` that would join them",
                outputs.len()
            ))));
        };
        let start = Instant::now();
        let request = self.passed.take();
        let by_caller = request.is_some();
        let told = tell(
            Form::Json { header_bytes: None },
            (&request.unwrap_or_default(), model),
            outputs,
            &invocation.account,
        );
        invocation.spent(Stage::Postprocess, start, start.elapsed());
        Some(told.map_err(|error| match error {
            InvokeError::Malformed(detail) if !by_caller => InvokeError::Contract(detail),
            InvokeError::TooLarge(detail) => InvokeError::Contract(detail),
            error => error,
        }))
    }
}

fn not_a_length() -> InvokeError {
    InvokeError::Malformed(format!("{HEADER_LENGTH} must be one whole number of bytes"))
}
