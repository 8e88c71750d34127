//! libtorch with something of a benchmark's around each batch: a clock, a look, a run more. What is not about batches goes
//! to libtorch as it is.

use std::{path::Path, sync::Arc};

use tenon_host::{
    engine::{Backend, BackendError, Batch, Device, Format, Instance, Loaded, Loading, Read, torch::Torch},
    tensor::{Signature, Staging},
};

/// What a benchmark does where a batch runs.
pub(crate) trait Around: Send + Sync + 'static {
    /// On the thread of a lane, before its instance is made there.
    fn begin(&self) {}

    /// Runs a batch on the lane's instance.
    fn run(&self, instance: &mut dyn Instance, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError>;
}

/// The backend, a model or an instance, and what is around it.
struct Inside<T, A>(T, Arc<A>);

/// libtorch, whose batches run inside `around`.
pub(crate) fn torch(around: &Arc<impl Around>) -> Arc<dyn Backend> {
    Arc::new(Inside(Torch::default(), around.clone()))
}

impl<A: Around> Backend for Inside<Torch, A> {
    fn platform(&self, format: Format) -> &'static str {
        self.0.platform(format)
    }

    fn fingerprint(&self, device: Device) -> String {
        self.0.fingerprint(device)
    }

    fn load(&self, file: &Path, signature: &Arc<Signature>, how: Loading) -> Result<Arc<dyn Loaded>, BackendError> {
        Ok(Arc::new(Inside(self.0.load(file, signature, how)?, self.1.clone())))
    }

    fn staging(&self, bytes: u64) -> Arc<dyn Staging> {
        self.0.staging(bytes)
    }
}

impl<A: Around> Loaded for Inside<Arc<dyn Loaded>, A> {
    fn instance(&self) -> Result<Box<dyn Instance>, BackendError> {
        self.1.begin();
        Ok(Box::new(Inside(self.0.instance()?, self.1.clone())))
    }
}

impl<A: Around> Instance for Inside<Box<dyn Instance>, A> {
    fn run(&mut self, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        self.1.run(&mut *self.0, batch, read)
    }
}
