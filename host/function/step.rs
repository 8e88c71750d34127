//! The rounds of an invocation: preprocess, then as many inferences and postprocesses as the plugin asks for, within its
//! limits.

use std::{sync::Arc, time::Instant};

use futures_util::future::try_join_all;

use super::{
    InvokeError, binding,
    passthrough::Defaults,
    remembered::{Rows, Started},
    snapshot::Snapshot,
};
use crate::{
    caching::Policy,
    invocation::{Inference, Invocation, Outputs, Rejection, Request, Response, Stage, Step},
    sandbox::{Assignment, Running},
};

/// How the plugin says that the answer may be remembered.
pub(super) async fn policy(snapshot: &Snapshot, assignment: Assignment) -> Result<Policy, InvokeError> {
    let mut guest = snapshot.revision.start(assignment).await?;
    let policy = guest.policy().await?;
    snapshot.revision.ended_well(guest);
    Ok(policy.unwrap_or_default())
}

/// Runs a guest from validation to its response; one that comes to its end may serve again.
pub(super) async fn run(
    snapshot: &Snapshot,
    known: Option<&Arc<Rows>>,
    assignment: Assignment,
) -> Result<Response, InvokeError> {
    let (invocation, request) = (assignment.invocation.clone(), assignment.request.clone());
    let start = Instant::now();
    let mut guest = snapshot.revision.start(assignment).await?;
    let asks = Asks { snapshot, known, invocation: &invocation };
    let ended = rounds(asks, start, &request, &mut guest).await;
    if matches!(ended, Ok(_) | Err(InvokeError::Rejected(_))) {
        snapshot.revision.ended_well(guest);
    }
    ended
}

/// Whoever asks models for something.
#[derive(Clone, Copy)]
struct Asks<'a> {
    snapshot: &'a Snapshot,
    /// Rows that may be known, where rows are remembered.
    known: Option<&'a Arc<Rows>>,
    invocation: &'a Arc<Invocation>,
}

async fn rounds(
    asks: Asks<'_>,
    start: Instant,
    request: &Request,
    guest: &mut Running,
) -> Result<Response, InvokeError> {
    let Asks { snapshot, invocation, .. } = asks;
    let manifest = &snapshot.revision.manifest;
    let limits = &manifest.limits;
    let mut defaults = Defaults::default();
    let verdict = guest.validate().await;
    // Making the instance counts as validation: it is what comes first, whether or not the plugin validates.
    invocation.spent(Stage::Validate, start, start.elapsed());
    verdict?.map_err(rejected)?;
    let mut step = if manifest.passes_through() {
        defaults.first(snapshot, invocation, request).await?
    } else {
        let start = Instant::now();
        let first = guest.preprocess().await;
        invocation.spent(Stage::Preprocess, start, start.elapsed());
        first?.map_err(rejected)?
    };
    let mut rows = 0;
    for round in 0.. {
        let inferences = match step {
            Step::Respond(response) => return Ok(response),
            Step::Infer(_) if round == limits.max_steps => break,
            Step::Infer(inferences) => inferences,
        };
        defaults.asked(&inferences);
        let outputs = infer(asks, inferences, &mut rows).await;
        let outputs = outputs.map_err(|error| defaults.blame(round, error))?;
        if !guest.postprocesses() {
            return defaults.answer(snapshot, invocation, outputs).await;
        }
        let start = Instant::now();
        let next = guest.postprocess(outputs).await;
        invocation.spent(Stage::Postprocess, start, start.elapsed());
        step = next?.map_err(rejected)?;
    }
    Err(InvokeError::Contract(format!("more than {} rounds of inference (limits.max_steps)", limits.max_steps)))
}

fn rejected(rejection: Rejection) -> InvokeError {
    InvokeError::Rejected(Box::new(rejection))
}

/// Asks all models of a step at once. If one refuses or fails, the others' rows are withdrawn by dropping them.
async fn infer(asks: Asks<'_>, inferences: Vec<Inference>, rows: &mut u64) -> Result<Vec<Outputs>, InvokeError> {
    let Asks { snapshot, known, invocation } = asks;
    let manifest = &snapshot.revision.manifest;
    let mut pending = Vec::with_capacity(inferences.len());
    let before = *rows;
    for inference in &inferences {
        *rows = rows.saturating_add(inference.rows() as u64);
    }
    if *rows > manifest.limits.max_rows {
        return Err(InvokeError::TooManyRows { rows: *rows, limit: manifest.limits.max_rows });
    }
    let _in_flight = snapshot.revision.owner.rows(*rows - before)?;
    for inference in inferences {
        let alias = &inference.model;
        let (Some(model), Some(bound)) = (snapshot.models.by_alias.get(alias), manifest.models.get(alias)) else {
            return Err(InvokeError::Contract(format!("`function.toml` binds no model as `{alias}`")));
        };
        binding::sent_as_declared(bound, &inference).map_err(InvokeError::Contract)?;
        pending.push(match known {
            // In a box: most functions' rows are not remembered, and need not carry the room that it takes.
            Some(known) => Box::pin(known.start(model, inference)).await?,
            None => Started::Plain(model.infer(inference.inputs, inference.charges, invocation)?),
        });
    }
    invocation.first_step.end();
    try_join_all(pending.into_iter().map(Started::outputs)).await
}
