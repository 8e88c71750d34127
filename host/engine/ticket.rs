//! One inference on its way: what its rows read, where their outputs go, and who waits for them.
//!
//! A row in the queue or in a batch is a shared ticket and an index, so whatever a running batch still needs (inputs,
//! output memory, the invocation with its permit) lives until the last batch lets go, whether or not the caller left.
//! Owns the gathering of rows into an answer; refuses to know when and with whom rows run.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    backend::Dense,
    batch::{Plan, Row},
    check::Checked,
    error::InferError,
};
use crate::{
    account::{Charge, Kind},
    invocation::{Invocation, Outputs},
    telemetry::{SpanLink, link},
    tensor::{Layout, Tensor},
};

/// What comes back to the caller.
#[derive(Debug)]
pub(super) struct Answer {
    /// The outputs of all rows, or the first error.
    pub(super) result: Result<Outputs, InferError>,
    /// Until the first row was in a batch.
    pub(super) queue: Duration,
    /// From there to the last row's outputs.
    pub(super) infer: Duration,
    /// The batches that had its rows, where it is sampled.
    pub(super) batches: Vec<SpanLink>,
}

/// An answer that is ready to be sent. Sent apart from its making, so that a batch can let go of everything it holds
/// before the caller sees the answer.
#[derive(Debug)]
pub(super) struct Completion {
    sender: oneshot::Sender<Answer>,
    answer: Answer,
}

impl Completion {
    /// Wakes the caller, if it is still there.
    pub(super) fn send(self) {
        // A caller that left wants no answer.
        let _ = self.sender.send(self.answer);
    }
}

/// One inference on its way.
#[derive(Debug)]
pub(super) struct Ticket {
    inputs: Vec<Tensor>,
    rows: usize,
    lengths: Arc<[u64]>,
    queued: Instant,
    /// Whose inference it is; holds the permit.
    pub(super) invocation: Arc<Invocation>,
    /// What keeps the inputs in their account.
    _charges: Vec<Arc<Charge>>,
    gathering: Mutex<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    outputs: Vec<(Layout, Vec<u8>)>,
    charge: Arc<Charge>,
    missing: usize,
    started: Option<Instant>,
    batches: Vec<SpanLink>,
    /// `None` once answered.
    sender: Option<oneshot::Sender<Answer>>,
}

impl Ticket {
    /// Charges and makes the memory for the outputs of checked inputs.
    pub(super) fn new(
        plan: &Plan,
        checked: Checked,
        charges: Vec<Arc<Charge>>,
        invocation: &Arc<Invocation>,
        queued: Instant,
    ) -> Result<(Self, oneshot::Receiver<Answer>), InferError> {
        let layouts = plan
            .output_layouts(checked.rows, &checked.lengths)
            .expect("model.toml was refused if its largest rows do not fit in 64 bits");
        let sizes = plan.outputs.iter().zip(&layouts).map(|(form, layout)| layout.byte_length(form.spec.kind.datatype));
        let sizes: Vec<u64> = sizes.collect::<Result<_, _>>().expect("checked when the layout was made");
        let charge = invocation.account.charge(Kind::Outputs, sizes.iter().sum())?;
        let (sender, receiver) = oneshot::channel();
        let outputs = layouts.into_iter().zip(&sizes).map(|(layout, bytes)| (layout, vec![0; *bytes as usize]));
        let gathering = Gathering {
            outputs: outputs.collect(),
            charge: Arc::new(charge),
            missing: checked.rows,
            started: None,
            batches: Vec::new(),
            sender: Some(sender),
        };
        let ticket = Self {
            inputs: checked.inputs,
            rows: checked.rows,
            lengths: checked.lengths.into(),
            queued,
            invocation: invocation.clone(),
            _charges: charges,
            gathering: Mutex::new(gathering),
        };
        Ok((ticket, receiver))
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The extents of all rows.
    pub(super) fn lengths(&self) -> &Arc<[u64]> {
        &self.lengths
    }

    /// Since when it waits.
    pub(super) fn queued(&self) -> Instant {
        self.queued
    }

    /// A row, for a batch.
    pub(super) fn row(&self, index: usize) -> Row<'_> {
        let dimensions = self.lengths.len() / self.rows;
        let lengths = &self.lengths[index * dimensions..(index + 1) * dimensions];
        Row { inputs: &self.inputs, index, lengths }
    }

    /// Notes that a batch with one of its rows begins.
    pub(super) fn start(&self, now: Instant) {
        self.gathering().started.get_or_insert(now);
    }

    /// Notes a batch with one of its rows, for those who look at traces.
    pub(super) fn was_in(&self, batch: SpanLink) {
        link(&mut self.gathering().batches, batch);
    }

    /// When its first row left the queue, and with which batches its rows went so far.
    pub(super) fn so_far(&self) -> (Option<Instant>, Vec<SpanLink>) {
        let mut gathering = self.gathering();
        (gathering.started, std::mem::take(&mut gathering.batches))
    }

    /// Whether anybody still waits for the rows: not once it failed or the caller left.
    pub(super) fn is_wanted(&self) -> bool {
        self.gathering().sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Copies the outputs of row `index`, which is row `position` of the batch; the answer, if it was the last one.
    pub(super) fn gather(&self, plan: &Plan, index: usize, dense: &[Dense<'_>], position: usize) -> Option<Completion> {
        let mut gathering = self.gathering();
        for ((form, output), (layout, bytes)) in plan.outputs.iter().zip(dense).zip(&mut gathering.outputs) {
            let rows = output.shape.first().copied().unwrap_or(1).max(1) as usize;
            let size = output.bytes.len() / rows;
            let range = layout.row_range(index, form.spec.kind.datatype);
            form.trim(&output.bytes[position * size..(position + 1) * size], &mut bytes[range]);
        }
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return None;
        }
        let sender = gathering.sender.take()?;
        let named = plan.output_names.iter().zip(&plan.outputs).zip(std::mem::take(&mut gathering.outputs));
        let tensors = named.map(|((name, form), (layout, bytes))| {
            let datatype = form.spec.kind.datatype;
            (name.clone(), Tensor { datatype, layout, bytes: Bytes::from(bytes) })
        });
        let outputs = Outputs { tensors: tensors.collect(), charge: gathering.charge.clone() };
        Some(self.completion(&mut gathering, sender, Ok(outputs)))
    }

    /// Ends it with an error, unless it has ended.
    pub(super) fn fail(&self, error: InferError) -> Option<Completion> {
        let mut gathering = self.gathering();
        let sender = gathering.sender.take()?;
        Some(self.completion(&mut gathering, sender, Err(error)))
    }

    fn completion(
        &self,
        gathering: &mut Gathering,
        sender: oneshot::Sender<Answer>,
        result: Result<Outputs, InferError>,
    ) -> Completion {
        let now = Instant::now();
        let started = gathering.started.unwrap_or(now);
        let queue = started.saturating_duration_since(self.queued);
        let (infer, batches) = (now.saturating_duration_since(started), std::mem::take(&mut gathering.batches));
        Completion { sender, answer: Answer { result, queue, infer, batches } }
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
