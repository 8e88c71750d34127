//! A compiled plugin: once per deployment. Owns the stages it exports, found and type-checked when it is deployed.

use std::{marker::PhantomData, pin::pin, sync::Arc};

use wasmtime::{
    Store, UpdateDeadline,
    component::{
        ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower, Resource, types::ComponentItem,
    },
    error::Context as _,
};

use super::{
    Assignment, Running, Sandbox, SandboxError,
    bindings::{steps, types::Rejection},
    contract::{STAGES, export_of},
    host_calls::{policies::CachePolicy, request::Handle, steps::Results},
    meter::{CpuSpent, metered},
    store::Guest,
};
use crate::invocation::Invocation;

/// Epochs until a stage yields for the first time: between one and two milliseconds. From then on it is one of the long
/// ones, and yields at every epoch.
pub(super) const TICKS_PER_STAGE: u64 = 2;

/// Bytes that a guest may pass in one host call.
const MAX_CALL_BYTES: usize = 128 << 20;

/// A stage that a plugin exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum StageName {
    Validate,
    Policy,
    Preprocess,
    Postprocess,
}

impl StageName {
    /// The name of the exported function.
    pub fn name(self) -> &'static str {
        STAGES[self as usize].1
    }
}

/// What a stage that takes a step gives.
pub(super) type Stepped = Result<steps::Step, Rejection>;

/// A plugin, compiled and checked; cheap to start again and again.
pub struct Plugin {
    sandbox: Arc<Sandbox>,
    pre: InstancePre<Guest>,
    stages: Stages,
}

/// What stages are given: the request, lent; and the outputs of a step's inferences.
type Asked = (Resource<Handle>,);
type Answered = (Resource<Handle>, Vec<Resource<Results>>);
/// What `validate` gives.
type Verdict = Result<(), Rejection>;

/// The exports of a plugin.
pub(super) struct Stages {
    pub(super) validation: Option<Export<Asked, Verdict>>,
    pub(super) caching: Option<Export<Asked, Resource<CachePolicy>>>,
    pub(super) preprocessing: Option<Export<Asked, Stepped>>,
    pub(super) postprocessing: Option<Export<Answered, Stepped>>,
}

impl Stages {
    pub(super) fn find(pre: &InstancePre<Guest>) -> wasmtime::Result<Self> {
        Ok(Self {
            validation: Export::find(pre, "validation", "validate")?,
            caching: Export::find(pre, "caching", "policy")?,
            preprocessing: Export::find(pre, "preprocessing", "preprocess")?,
            postprocessing: Export::find(pre, "postprocessing", "postprocess")?,
        })
    }
}

impl Plugin {
    pub(super) fn new(sandbox: Arc<Sandbox>, (pre, stages): (InstancePre<Guest>, Stages)) -> Self {
        Self { sandbox, pre, stages }
    }

    /// The stages that the component exports.
    pub fn stages(&self) -> Vec<StageName> {
        let here = [
            (StageName::Validate, self.stages.validation.is_some()),
            (StageName::Policy, self.stages.caching.is_some()),
            (StageName::Preprocess, self.stages.preprocessing.is_some()),
            (StageName::Postprocess, self.stages.postprocessing.is_some()),
        ];
        here.into_iter().filter_map(|(stage, here)| here.then_some(stage)).collect()
    }

    /// A fresh instance for one invocation. The caller holds one of [`Sandbox::permits`], so a slot is free.
    pub async fn start(self: &Arc<Self>, assignment: Assignment) -> Result<Running, SandboxError> {
        let ticking = self.sandbox.ticker.guest();
        let (invocation, cpu_limit) = (assignment.invocation.clone(), assignment.cpu_limit);
        let guest = Guest::new(assignment, &self.sandbox.config, self.sandbox.staging.clone());
        let mut store = Store::new(self.pre.engine(), guest);
        store.limiter(|guest| &mut guest.limits);
        store.set_hostcall_fuel(call_bytes(&invocation));
        store.set_max_component_handles(self.sandbox.config.max_handles as usize);
        store.set_epoch_deadline(TICKS_PER_STAGE);
        store.epoch_deadline_callback(|store| {
            store.data().assignment.invocation.mark_long();
            Ok(UpdateDeadline::Yield(1))
        });
        let instantiated = {
            let instantiate = pin!(self.pre.instantiate_async(&mut store));
            metered(instantiate, &invocation.account, cpu_limit).await
        };
        match instantiated {
            Err(CpuSpent) => Err(SandboxError::Cpu { cpu_ms: cpu_limit.as_millis() as u64 }),
            Ok(Ok(instance)) => Running::new(self.clone(), store, instance, ticking),
            Ok(Err(error)) => {
                let refused = store.data_mut().limits.take_refusal();
                Err(SandboxError::from_call(error, refused))
            }
        }
    }

    pub(super) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    pub(super) fn exports(&self) -> &Stages {
        &self.stages
    }
}

/// What a call passes is copied into the host before the call can charge it: never more than the guest may hold.
pub(super) fn call_bytes(invocation: &Invocation) -> usize {
    usize::try_from(invocation.account.limit_bytes()).unwrap_or(usize::MAX).min(MAX_CALL_BYTES)
}

/// An exported function, found by name once and called by index.
pub(super) struct Export<Params, Return> {
    index: ComponentExportIndex,
    signature: PhantomData<fn(Params) -> Return>,
}

impl<Params, Return> Export<Params, Return>
where
    Params: ComponentNamedList + Lower + Send + Sync,
    Return: Send + Sync + 'static,
    (Return,): ComponentNamedList + Lift,
{
    /// None if the component does not export the interface; an error if it does and differs from the contract, because
    /// a validation that is there and differs must never be taken for absent.
    fn find(pre: &InstancePre<Guest>, interface: &str, function: &str) -> wasmtime::Result<Option<Self>> {
        let component = pre.component();
        let exports = component.component_type();
        let names = exports.exports(pre.engine()).map(|(name, _)| name);
        let Some(name) = export_of(interface, names) else { return Ok(None) };
        let Some(instance) = component.get_export_index(None, name) else { return Ok(None) };
        let Some((item, index)) = component.get_export(Some(&instance), function) else {
            wasmtime::bail!("`{name}` is exported without `{function}`");
        };
        let ComponentItem::ComponentFunc(found) = item else {
            wasmtime::bail!("`{name}` exports `{function}`, but not as a function");
        };
        found
            .typecheck::<Params, (Return,)>(&pre.instance_type())
            .with_context(|| format!("`{function}` of `{name}` has the wrong type"))?;
        Ok(Some(Self { index, signature: PhantomData }))
    }

    pub(super) async fn call(
        &self,
        store: &mut Store<Guest>,
        instance: &Instance,
        params: Params,
    ) -> wasmtime::Result<Return> {
        let function = instance.get_typed_func::<Params, (Return,)>(&mut *store, &self.index)?;
        Ok(function.call_async(store, params).await?.0)
    }
}
