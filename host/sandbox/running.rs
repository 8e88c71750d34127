//! One instance at work for one invocation. Owns the calling of stages: each is metered, its errors are read, and what it
//! gives is taken out of the guest's handles and checked before anybody else sees it.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{
    Store,
    component::{Instance, Resource},
};

use super::{
    Assignment, Plugin, SandboxError,
    bindings::{steps as wit, types},
    host_calls::{headers, request::Handle, steps::Results},
    meter::{CpuSpent, metered},
    plugin::{Stepped, TICKS_PER_STAGE, call_bytes},
    store::Guest,
    ticker::Ticking,
};
use crate::{
    account::{Account, Kind},
    caching::Policy,
    invocation::{Invocation, Outputs, Rejection, Step},
};

/// The longest code of a rejection.
const MAX_CODE_BYTES: usize = 64;
/// The longest body of a rejection; refusals are short.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The longest detail or pointer of a rejection.
const MAX_TEXT_BYTES: usize = 4096;

/// An instance between its start and the end of its invocation. Dropping it frees the slot at once, wherever the guest
/// is.
pub struct Running {
    plugin: Arc<Plugin>,
    store: Store<Guest>,
    instance: Instance,
    request: Resource<Handle>,
    /// None while it rests.
    ticking: Option<Ticking>,
    born: Instant,
    /// Invocations that it has served, with the present one.
    served: u32,
}

impl Running {
    pub(super) fn new(
        plugin: Arc<Plugin>,
        mut store: Store<Guest>,
        instance: Instance,
        ticking: Ticking,
    ) -> Result<Self, SandboxError> {
        let request = store.data_mut().table.push(Handle).map_err(|error| SandboxError::Internal(error.to_string()))?;
        let (ticking, born) = (Some(ticking), Instant::now());
        Ok(Self { plugin, store, instance, request, ticking, born, served: 1 })
    }

    /// Stage 1: accepts or refuses the request. A plugin without it accepts.
    pub async fn validate(&mut self) -> Result<Result<(), Rejection>, SandboxError> {
        let plugin = self.plugin.clone();
        let Some(stage) = &plugin.exports().validation else { return Ok(Ok(())) };
        let request = self.request();
        let verdict = self.metered(async |store, instance| stage.call(store, instance, (request,)).await).await?;
        verdict.map_or_else(|rejection| Ok(Err(self.checked(rejection)?)), |()| Ok(Ok(())))
    }

    /// Stage 2: how the answer may be remembered. None: the plugin has no say in it.
    pub async fn policy(&mut self) -> Result<Option<Policy>, SandboxError> {
        let plugin = self.plugin.clone();
        let Some(stage) = &plugin.exports().caching else { return Ok(None) };
        let request = self.request();
        let policy = self.metered(async |store, instance| stage.call(store, instance, (request,)).await).await?;
        let draft = self.store.data_mut().table.delete(policy).map_err(gone)?;
        draft.finish().map(Some).map_err(SandboxError::Contract)
    }

    /// Stage 3: the first step.
    pub async fn preprocess(&mut self) -> Result<Result<Step, Rejection>, SandboxError> {
        let plugin = self.plugin.clone();
        let Some(stage) = &plugin.exports().preprocessing else {
            return Err(SandboxError::Contract("the plugin exports no `preprocessing`".into()));
        };
        let request = self.request();
        let step = self.metered(async |store, instance| stage.call(store, instance, (request,)).await).await?;
        self.step(step)
    }

    /// Whether the plugin has a stage 4 at all.
    pub fn postprocesses(&self) -> bool {
        self.plugin.exports().postprocessing.is_some()
    }

    /// Stage 4: the next step, given what the models said; one `Outputs` for each inference, in order.
    pub async fn postprocess(&mut self, outputs: Vec<Outputs>) -> Result<Result<Step, Rejection>, SandboxError> {
        let plugin = self.plugin.clone();
        let Some(stage) = &plugin.exports().postprocessing else {
            return Err(SandboxError::Contract("the plugin exports no `postprocessing`".into()));
        };
        let mut handles = Vec::with_capacity(outputs.len());
        for outputs in outputs {
            let guest = self.store.data_mut();
            let handle =
                guest.limits.handle().map_err(|error| SandboxError::from_call(error, guest.limits.take_refusal()))?;
            let pushed = guest.table.push(Results::new(outputs, handle));
            handles.push(pushed.map_err(|_| SandboxError::Contract("too many handles at once".into()))?);
        }
        let request = self.request();
        let step = self.metered(async |store, instance| stage.call(store, instance, (request, handles)).await).await?;
        self.step(step)
    }

    /// The request, lent to a stage; the instance keeps it.
    fn request(&self) -> Resource<Handle> {
        Resource::new_borrow(self.request.rep())
    }

    /// Runs a stage under the invocation's processor limit and reads its errors.
    async fn metered<T>(
        &mut self,
        stage: impl AsyncFnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, SandboxError> {
        let assignment = &self.store.data().assignment;
        let (invocation, limit) = (assignment.invocation.clone(), assignment.cpu_limit);
        // What was refused in an earlier stage, and lived with, explains nothing that happens in this one.
        self.store.data_mut().limits.take_refusal();
        // Epochs went by while a batch was waited for; they are not this stage's.
        self.store.set_epoch_deadline(TICKS_PER_STAGE);
        let called = {
            let call = pin!(stage(&mut self.store, &self.instance));
            metered(call, &invocation.account, limit).await
        };
        match called {
            Ok(Ok(given)) => Ok(given),
            Ok(Err(error)) => {
                let refused = self.store.data_mut().limits.take_refusal();
                Err(SandboxError::from_stage(error, refused))
            }
            Err(CpuSpent) => Err(SandboxError::Cpu { cpu_ms: limit.as_millis() as u64 }),
        }
    }

    /// A rejection, checked and charged until it is sent.
    fn checked(&self, rejection: types::Rejection) -> Result<Rejection, SandboxError> {
        let mut rejection = checked(rejection)?;
        let account = &self.store.data().assignment.invocation.account;
        let charge = account.charge(Kind::Response, rejection.bytes()).map_err(SandboxError::Memory)?;
        rejection.charge = Some(charge);
        Ok(rejection)
    }

    /// Takes what a step holds out of the guest's handles.
    fn step(&mut self, step: Stepped) -> Result<Result<Step, Rejection>, SandboxError> {
        let table = &mut self.store.data_mut().table;
        match step {
            Err(rejection) => Ok(Err(self.checked(rejection)?)),
            Ok(wit::Step::Respond(response)) => {
                let draft = table.delete(response).map_err(gone)?;
                Ok(Ok(Step::Respond(draft.finish().map_err(SandboxError::Contract)?)))
            }
            Ok(wit::Step::Infer(inferences)) if inferences.is_empty() => {
                Err(SandboxError::Contract("an `infer` step asks for nothing".into()))
            }
            Ok(wit::Step::Infer(inferences)) => {
                let taken = inferences.into_iter().map(|inference| table.delete(inference).map_err(gone));
                let drafts = taken.collect::<Result<Vec<_>, _>>()?;
                Ok(Ok(Step::Infer(drafts.into_iter().map(|draft| draft.finish()).collect())))
            }
        }
    }
}

/// Between two invocations.
impl Running {
    /// Lets go of its invocation: nothing of it is held any more, and what the guest holds is charged to `account`. False:
    /// it cannot be kept.
    pub(super) fn rest(&mut self, (tenant, function): &(Arc<str>, Arc<str>), account: &Arc<Account>) -> bool {
        self.ticking = None;
        let nobody = Invocation::new("".into(), (tenant.clone(), function.clone()), self.born, account.clone());
        let config = Arc::default();
        let (invocation, request, models) = (Arc::new(nobody), Arc::default(), Arc::default());
        let assignment = Assignment { invocation, request, models, config, rows: None, cpu_limit: Duration::ZERO };
        let plugin = self.plugin.clone();
        let (request, guest) = (self.request.rep(), self.store.data_mut());
        let deleted = guest.table.delete(Resource::<Handle>::new_own(request));
        let cleared = guest.clear_leftovers(account);
        guest.turn_to(assignment, plugin.sandbox().config()) && deleted.is_ok() && cleared
    }

    /// Takes up another invocation; false if what it holds is more than that one may.
    pub(super) fn wake(&mut self, assignment: Assignment) -> bool {
        let plugin = self.plugin.clone();
        let sandbox = plugin.sandbox();
        self.ticking = Some(sandbox.ticker.guest());
        self.store.set_hostcall_fuel(call_bytes(&assignment.invocation));
        self.served += 1;
        let guest = self.store.data_mut();
        if !guest.turn_to(assignment, sandbox.config()) {
            return false;
        }
        let Ok(request) = guest.table.push(Handle) else { return false };
        self.request = request;
        true
    }

    /// Invocations that it has served.
    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// When it was started.
    pub(super) fn born(&self) -> Instant {
        self.born
    }

    /// Linear memory and tables that it holds.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.store.data().limits.memory_bytes()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.data().log.flush();
    }
}

fn gone(error: wasmtime::component::ResourceTableError) -> SandboxError {
    SandboxError::Contract(format!("a stage gave a handle that is not there: {error}"))
}

/// A rejection as a guest may make one.
fn checked(rejection: types::Rejection) -> Result<Rejection, SandboxError> {
    let contract = |detail: String| Err(SandboxError::Contract(detail));
    let header = |name: &str, value: &str| headers::check(name, value).map_err(SandboxError::Contract);
    let types::Rejection { status, code, detail, pointer, headers, body } = rejection;
    if !(400..500).contains(&status) {
        return contract(format!("a rejection has a status of 400 to 499, not {status}"));
    }
    let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if code.is_empty() || code.len() > MAX_CODE_BYTES || !code.bytes().all(kebab) {
        return contract("a rejection's code is 1 to 64 characters of a-z, 0-9 and `-`".into());
    }
    for text in [Some(&detail), pointer.as_ref()].into_iter().flatten() {
        if text.len() > MAX_TEXT_BYTES {
            return contract(format!("a rejection's detail and pointer have at most {MAX_TEXT_BYTES} bytes"));
        }
    }
    if headers.len() > headers::MAX_HEADERS {
        return contract(format!("a rejection has at most {} headers", headers::MAX_HEADERS));
    }
    for (name, value) in &headers {
        header(name, value)?;
    }
    if let Some(content) = &body {
        if content.bytes.len() > MAX_BODY_BYTES {
            return contract(format!("a rejection's body has at most {MAX_BODY_BYTES} bytes"));
        }
        header("content-type", &content.content_type)?;
    }
    let body = body.map(|content| (content.content_type, content.bytes.into()));
    Ok(Rejection { status, code, detail, pointer, headers, body, charge: None })
}
