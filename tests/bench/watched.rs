//! libtorch, and a look at each batch: when it ended, how many rows it had, how much of it was padding. Lanes keep to a
//! core of their own where that is wanted. What it adds to a batch is some microseconds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tenon_host::engine::{Backend, BackendError, Batch, Instance, Read};

use crate::{
    around::{self, Around},
    cores,
};

/// The input whose ones are the real elements of a ragged batch.
const MASK: &str = "attention_mask";
/// Bytes of one of its elements.
const MASK_BYTES: usize = 8;

/// A batch that ended.
#[derive(Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) ended: Instant,
    pub(crate) rows: usize,
    /// Elements of the ragged dimension with padding and without; rows where nothing is ragged.
    pub(crate) padded: usize,
    pub(crate) real: usize,
}

/// What lanes did, and where they are to run.
#[derive(Default)]
pub(crate) struct Seen {
    ran: Mutex<Vec<Ran>>,
    core: Option<usize>,
}

impl Seen {
    /// Of lanes that keep to a core.
    pub(crate) fn on(core: usize) -> Arc<Self> {
        Arc::new(Self { core: Some(core), ..Self::default() })
    }

    /// The batches that ended in a window, the first of which is where counting begins.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Ran> {
        let ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        ran.iter().filter(|ran| (from..to).contains(&ran.ended)).copied().collect()
    }

    fn note(&self, ran: Ran) {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).push(ran);
    }
}

/// Elements that are not padding, per second: whole batches over whole batches' time.
pub(crate) fn pace(batches: &[Ran]) -> f64 {
    let [first, rest @ .., last] = batches else { return 0.0 };
    let real: usize = rest.iter().map(|ran| ran.real).sum::<usize>() + last.real;
    real as f64 / (last.ended - first.ended).max(Duration::from_nanos(1)).as_secs_f64()
}

/// For `boot::start_with`.
pub(crate) fn backend(seen: &Arc<Seen>) -> impl FnOnce() -> Arc<dyn Backend> + Send + 'static {
    let seen = seen.clone();
    move || around::torch(&seen)
}

impl Around for Seen {
    fn begin(&self) {
        self.core.into_iter().for_each(cores::keep_to);
    }

    fn run(&self, instance: &mut dyn Instance, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        instance.run(batch, read)?;
        let (padded, real) = elements(batch);
        self.note(Ran { ended: Instant::now(), rows: batch.rows(), padded, real });
        Ok(())
    }
}

fn elements(batch: &Batch<'_>) -> (usize, usize) {
    let mask = batch.inputs().iter().find(|input| input.spec().name == MASK);
    let Some(mask) = mask else { return (batch.rows(), batch.rows()) };
    let mut stacked = vec![0; mask.byte_length()];
    mask.stack(&mut stacked);
    let elements = stacked.chunks_exact(MASK_BYTES);
    (elements.len(), elements.filter(|element| element[0] != 0).count())
}
