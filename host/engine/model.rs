//! A model version that serves: its files, its queue, its lanes. Owns how one is brought up and taken down and how an
//! inference enters; refuses to know which other models there are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Config, accuracy,
    backend::{Backend, BackendError, Device, Format, Loading},
    budget::{Budget, RowBytes, TooLittle},
    ceiling::Ceiling,
    check,
    error::{InferError, LoadError},
    explain::{Explanation, explain},
    lane::{Ground, Lane, Place},
    manifest::Manifest,
    pending::Pending,
    profile::Profile,
    queue::Limits,
    repository::Found,
    ticket::Ticket,
    waiting::Waiting,
    warm_up,
};
use crate::{
    account::Charge,
    arrivals::{Arrival, Arrivals},
    invocation::Invocation,
    telemetry::ModelMetrics,
    tenant::Standing,
    tensor::{Signature, Tensor},
};

/// A model version that serves.
#[derive(Debug)]
pub struct Model {
    name: String,
    version: u64,
    digests: Vec<String>,
    folder: PathBuf,
    platform: &'static str,
    manifest: Manifest,
    profile: Arc<Profile>,
    /// What its lanes work on; they hold no model.
    ground: Arc<Ground>,
    lanes: Mutex<Vec<Lane>>,
    instances: usize,
}

/// When a request that a device has no memory for should come again.
pub(super) const MEMORY_RETRY: Duration = Duration::from_secs(1);

impl Model {
    /// Loads a version, measures it or finds its profile, and starts its lanes. It comes in the place of models with these
    /// shares of memory, and takes from others only what they can spare.
    pub(super) fn start(
        found: &Found,
        version: u64,
        config: &Config,
        (backend, budgets): (&dyn Backend, Budgets<'_>),
        metrics: ModelMetrics,
    ) -> Result<Arc<Self>, LoadError> {
        // Of the files as they are now: what is changed while they are read differs from it, and is found by the next load.
        let digests = digests(found, version)?;
        let mut manifest = Manifest::read(&found.manifest())?;
        let devices = manifest.placement.devices(&backend.devices())?;
        if devices.iter().any(|device| backend.pads_to_buckets(*device)) {
            Arc::make_mut(&mut manifest.plan).buckets.clone_from(&manifest.buckets);
        }
        let file = found.model_file(version, manifest.format);
        let reference = accuracy::reference(backend, &file, (&manifest, devices[0]))?;
        let places = devices.iter().map(|device| bring(found, &file, &manifest, *device, (config, backend, budgets)));
        let places: Vec<_> = places.collect::<Result<_, _>>()?;
        let failed = |error: BackendError| failed(&file, error);
        // The first device speaks for all of them: a host's GPUs are alike.
        let key = warm_up::key(backend, &digests[0], (devices[0], manifest.precision));
        let mut instance = places[0].loaded.instance().map_err(failed)?;
        instance.limit_memory(places[0].share.lane_bytes());
        if let Some(reference) = reference {
            accuracy::is_exact(&reference, &mut *instance, (&file, &manifest))?;
        }
        let profile = warm_up::profile(key, (&manifest, devices[0]), config, &mut *instance).map_err(|error| {
            match error.short() {
                Some(_) => failed(error),
                None => LoadError::WarmUp(error.detail),
            }
        })?;
        drop(instance);
        for place in &places {
            let row = profile.row_bytes(manifest.plan.maxima.iter().product());
            place.share.settle(row).map_err(|error| too_little(&file, &error))?;
        }
        let profile = Arc::new(profile);
        let lanes_of = |(place, it): (usize, &Place)| std::iter::repeat_n(place, lanes(&manifest, it.device, config));
        let numbers: Vec<_> = places.iter().enumerate().flat_map(lanes_of).zip(0..).collect();
        let instances = numbers.len();
        let ground = Arc::new(ground(found, &manifest, places, (&profile, instances), metrics));
        let lanes: Result<Vec<_>, _> = numbers.into_iter().map(|number| Lane::start(&ground, number)).collect();
        // Lanes that did start must not wait for rows that never come.
        let lanes = Mutex::new(lanes.inspect_err(|_| ground.waiting.close())?);
        let (name, folder, platform) = (found.name.clone(), found.version(version), backend.platform(manifest.format));
        Ok(Arc::new(Self { name, version, digests, folder, platform, manifest, profile, ground, lanes, instances }))
    }

    /// The name of its folder in the repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// It is in the catalogue: memory is shared out with it.
    pub(super) fn serve(&self) {
        self.ground.places.iter().for_each(|place| place.share.serve());
    }

    /// It is in the catalogue no more: it ends what it has begun.
    pub(super) fn retire(&self) {
        self.ground.places.iter().for_each(|place| place.share.retire());
    }

    /// Names its shares of devices' memory.
    pub(super) fn shares(&self) -> impl Iterator<Item = DeviceShare> {
        self.ground.places.iter().map(|place| (place.device, place.share.number()))
    }

    /// Whether equal rows come to equal outputs, as `model.toml` says.
    pub fn is_deterministic(&self) -> bool {
        self.manifest.deterministic
    }

    /// What runs it, as the Open Inference Protocol's `platform` tells it.
    pub fn platform(&self) -> &'static str {
        self.platform
    }

    /// Names what its files were when it was loaded.
    pub fn digests(&self) -> &[String] {
        &self.digests
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.manifest.signature
    }

    /// A file beside the model file, such as `tokenizer.json`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// How many rows a batch may have.
    pub fn max_batch_size(&self) -> usize {
        self.manifest.max_batch_size
    }

    /// How many lanes it has.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// How many rows wait.
    pub fn queue_rows(&self) -> usize {
        self.ground.waiting.rows()
    }

    /// How many rows may wait.
    pub fn queue_limit_rows(&self) -> usize {
        self.manifest.max_queue_size
    }

    /// Where it computes.
    pub(super) fn device(&self) -> String {
        let devices = self.ground.places.iter().map(|place| place.device.to_string());
        devices.collect::<Vec<_>>().join(", ")
    }

    /// What its weights hold on the device; 0 where nobody counts.
    pub fn weight_bytes(&self) -> u64 {
        self.ground.places.iter().map(|place| place.loaded.weight_bytes()).sum()
    }

    /// How many of its largest rows may share a batch now.
    pub fn safe_batch_size(&self) -> usize {
        self.ground.ceiling.safe_rows(self.manifest.plan.maxima.iter().product(), self.manifest.max_batch_size)
    }

    /// Why it batches as it does: its last batches, what would run now, and what follows.
    pub fn explain(&self) -> Explanation {
        let named = (self.name.clone(), self.version, self.device());
        explain(named, (&self.manifest, self.instances), &self.profile, (&self.ground.history, &self.ground.waiting))
    }

    /// Admission: refuses while the queue has no room for the tenant or the device's memory is nearly used up, before a
    /// request's body is read.
    pub fn room(&self, tenant: &str, standing: Standing) -> Result<(), InferError> {
        // Which device its rows would meet is not known yet: one with room is enough.
        if self.ground.places.iter().all(|place| place.share.is_short()) {
            let detail = "the device's memory is nearly used up".into();
            return Err(InferError::DeviceMemory { model: self.name.clone(), detail, retry_after: Some(MEMORY_RETRY) });
        }
        self.ground.waiting.room(tenant, standing)
    }

    /// The same, and counts the rows of the request that is let in as on their way.
    pub fn expect(&self, tenant: &Arc<str>, standing: Standing) -> Result<Arrival, InferError> {
        self.room(tenant, standing)?;
        Ok(self.ground.waiting.expect(tenant))
    }

    /// Who is on the way to its queue.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        self.ground.waiting.arrivals()
    }

    /// Checks every row against the signature, charges the outputs to the invocation, then queues all rows or none.
    pub fn infer(
        self: &Arc<Self>,
        inputs: Vec<(String, Tensor)>,
        charges: Vec<Arc<Charge>>,
        invocation: &Arc<Invocation>,
    ) -> Result<Pending, InferError> {
        self.infer_at(Instant::now, inputs, charges, invocation)
    }

    /// The same, by another clock; asked when the rows are checked, so that what is told of the queue is the queue's.
    pub(super) fn infer_at(
        self: &Arc<Self>,
        clock: impl FnOnce() -> Instant,
        inputs: Vec<(String, Tensor)>,
        charges: Vec<Arc<Charge>>,
        invocation: &Arc<Invocation>,
    ) -> Result<Pending, InferError> {
        let (plan, limit) = (&*self.manifest.plan, self.manifest.max_request_rows);
        // What can never be answered is told first, then what cannot now: before values are looked at and memory is
        // made, because refusing must be cheap.
        let rows = inputs.iter().map(|(_, tensor)| tensor.layout.rows()).max().unwrap_or(0);
        if rows > limit {
            return Err(InferError::TooManyRows { model: self.name.clone(), rows, limit });
        }
        let is_expected = self.ground.waiting.arrives(invocation);
        if !is_expected {
            self.ground.waiting.room_now(&invocation.tenant, invocation.standing)?;
        }
        let contract = |violation| InferError::Contract { model: self.name.clone(), violation };
        let checked = check::check(plan, inputs).map_err(contract)?;
        let queued = clock();
        let give_up = queued + self.manifest.queue_timeout;
        let (ticket, answer) = Ticket::new(plan, checked, charges, invocation, queued)?;
        let ticket = Arc::new(ticket);
        self.ground.waiting.submit(&ticket, give_up, is_expected)?;
        Ok(Pending::new(self.clone(), ticket, answer, give_up))
    }

    /// What its lanes work on.
    pub(super) fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// Admits nothing more and answers what waits; `join` waits for the lanes.
    pub(super) fn close(&self) {
        self.ground.waiting.close();
    }

    /// Waits for the lanes' last batches, at most until then.
    pub(super) fn join(&self, until: Instant) {
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        lanes.into_iter().for_each(|lane| lane.join(until));
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // Lanes hold no model: when its last user lets go, they end after the batch that they are in.
        self.ground.waiting.close();
    }
}

/// The share of a device's memory, among all shares of that device.
pub(super) type DeviceShare = (Device, u64);
/// The memory of each device, and the shares that become free when a version serves.
pub(super) type Budgets<'a> = (&'a BTreeMap<Device, Arc<Budget>>, &'a [DeviceShare]);

/// Names everything that a version is made of, as it lies there now.
pub(super) fn digests(found: &Found, version: u64) -> Result<Vec<String>, LoadError> {
    let format = Manifest::read(&found.manifest())?.format;
    let is_there = |format: &Format| found.model_file(version, *format).exists();
    match Format::ALL.into_iter().find(is_there) {
        Some(other) if !is_there(&format) => {
            let (format, file, other) = (format.name(), other.file(), other.name());
            let message = format!("model.format: is `{format}`, but version {version} has {file}, which is `{other}`");
            Err(LoadError::Manifest { file: found.manifest(), message })
        }
        _ => found.digests(version, format),
    }
}

/// What is told of an error while a model comes up.
pub(super) fn failed(file: &Path, error: BackendError) -> LoadError {
    match error.short() {
        Some(_) => LoadError::Memory { file: file.into(), detail: error.detail },
        None => LoadError::Backend { file: file.into(), detail: error.detail },
    }
}

fn too_little(file: &Path, error: &TooLittle) -> LoadError {
    LoadError::Memory { file: file.into(), detail: error.to_string() }
}

/// How many lanes a model has on a device.
fn lanes(manifest: &Manifest, device: Device, config: &Config) -> usize {
    match device {
        Device::Cpu => manifest.instances.min(config.lanes()),
        // Streams are no cores.
        Device::Cuda(_) => manifest.instances,
    }
}

/// A model into a device's memory.
fn bring(
    found: &Found,
    file: &Path,
    manifest: &Manifest,
    device: Device,
    (config, backend, (budgets, instead_of)): (&Config, &dyn Backend, Budgets<'_>),
) -> Result<Place, LoadError> {
    let no_device = || LoadError::NoDevice { wanted: device.to_string(), there: "no memory for it".into() };
    let budget = budgets.get(&device).ok_or_else(no_device)?;
    let instead_of = instead_of.iter().filter(|share| share.0 == device).map(|share| share.1).collect();
    // Before it holds anything, so that nobody who serves has less for its weights either.
    let share = budget.join(&found.name, (lanes(manifest, device, config), manifest.lane_bytes), instead_of);
    let (format, precision, lanes) = (manifest.format, manifest.precision, lanes(manifest, device, config));
    let loaded = backend.load(file, &manifest.signature, Loading { format, device, precision, lanes });
    let loaded = loaded.map_err(|error| failed(file, error))?;
    share.weighs(loaded.weight_bytes());
    share.settle(RowBytes::default()).map_err(|error| too_little(file, &error))?;
    Ok(Place { device, loaded, share })
}

/// What the lanes of a model work on: its queue with the limits of a batch, and what it is remembered by.
fn ground(
    found: &Found,
    manifest: &Manifest,
    places: Vec<Place>,
    (profile, instances): (&Arc<Profile>, usize),
    metrics: ModelMetrics,
) -> Ground {
    let largest = (manifest.max_batch_size, manifest.plan.maxima.iter().product());
    let ceiling =
        Ceiling::new(Some(profile.clone()), places.iter().map(|place| place.share.clone()).collect(), largest);
    let limits = Limits {
        rows: manifest.max_batch_size,
        elements: manifest.max_batch_elements,
        time: manifest.max_batch,
        delay: manifest.max_queue_delay,
        profile: Some(profile.clone()),
        buckets: manifest.plan.buckets.clone(),
        ceiling: Some(ceiling.clone()),
    };
    Ground {
        model: found.name.clone(),
        plan: manifest.plan.clone(),
        places,
        first_row: warm_up::shapes(&manifest.buckets).swap_remove(0),
        ceiling,
        waiting: Waiting::new(&found.name, limits, manifest.max_queue_size, instances, metrics.clone()),
        history: Arc::default(),
        metrics,
    }
}
