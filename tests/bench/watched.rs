//! libtorch, and a look at each batch: when it ended, how many rows it had, how much of it was padding. Lanes keep to a
//! core of their own where that is wanted. What it adds to a batch is some microseconds.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tenon_host::{
    engine::{Backend, BackendError, Batch, Device, Instance, Loaded, Precision, Read, torch::Torch},
    tensor::{Signature, Staging},
};

use crate::cores;

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

/// The backend, a model or an instance.
pub(crate) struct Watched<T>(T, Arc<Seen>);

/// For `boot::start_with`.
pub(crate) fn backend(seen: &Arc<Seen>) -> impl FnOnce() -> Arc<dyn Backend> + Send + 'static {
    let seen = seen.clone();
    move || Arc::new(Watched(Torch::default(), seen))
}

impl Backend for Watched<Torch> {
    fn platform(&self) -> &'static str {
        self.0.platform()
    }

    fn fingerprint(&self, device: Device) -> String {
        self.0.fingerprint(device)
    }

    fn load(
        &self,
        file: &Path,
        signature: &Arc<Signature>,
        place: (Device, Precision),
    ) -> Result<Arc<dyn Loaded>, BackendError> {
        Ok(Arc::new(Watched(self.0.load(file, signature, place)?, self.1.clone())))
    }

    fn staging(&self) -> Arc<dyn Staging> {
        self.0.staging()
    }
}

impl Loaded for Watched<Arc<dyn Loaded>> {
    /// Called on the thread that the instance then stays on.
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        self.1.core.into_iter().for_each(cores::keep_to);
        Ok(Box::new(Watched(self.0.instance()?, self.1.clone())))
    }
}

impl Instance for Watched<Box<dyn Instance>> {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        self.0.run(batch, read)?;
        let (padded, real) = elements(batch);
        self.1.note(Ran { ended: Instant::now(), rows: batch.rows(), padded, real });
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
