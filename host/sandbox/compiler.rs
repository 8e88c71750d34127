//! wasmtime's settings, the linker, and the check of a component against the contract.
//!
//! The settings are the ones measured best for one fresh instance per invocation: a pool with copy-on-write images, the
//! first pages of a slot kept resident, `pagemap_scan` where the kernel has it, no concurrency support (it costs 7 µs
//! per invocation and the contract is synchronous), epochs rather than fuel.

use wasmtime::{
    Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::{Component, HasSelf, InstancePre, Linker, types::ComponentItem},
};

use super::{
    Compiled, Config, SandboxError, bindings,
    contract::{
        self, CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, Refusal, TABLE_ELEMENTS, TABLES_PER_COMPONENT,
    },
    host_calls::{request, response, tensors},
    plugin::Stages,
    store::Guest,
};

pub(super) use super::contract::VERSION;

const CORE_INSTANCE_BYTES: usize = 4 << 20;
const COMPONENT_INSTANCE_BYTES: usize = 16 << 20;

/// The engine and everything a guest can import.
pub(super) struct Compiler {
    engine: Engine,
    linker: Linker<Guest>,
}

impl Compiler {
    pub(super) fn new(config: &Config) -> Result<Self, SandboxError> {
        let internal = |error: wasmtime::Error| {
            SandboxError::Internal(format!("{error:#}; a smaller sandbox.max_instances needs less address space"))
        };
        let engine = Engine::new(&settings(config)).map_err(internal)?;
        let linker = linker(&engine).map_err(internal)?;
        Ok(Self { engine, linker })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles, and names everything that does not fit before linking finds only the first.
    pub(super) fn compile(
        &self,
        wasm: &[u8],
        passthrough: bool,
        compiled: Option<&Compiled>,
    ) -> Result<(InstancePre<Guest>, Stages), Refusal> {
        if let Some(component) = compiled.and_then(|compiled| compiled.find(&self.engine, wasm)) {
            return self.check(&component, passthrough);
        }
        let component =
            Component::new(&self.engine, wasm).map_err(|error| Refusal::NotAComponent(format!("{error:#}")))?;
        let checked = self.check(&component, passthrough)?;
        compiled.inspect(|compiled| compiled.keep(&self.engine, wasm, &component));
        Ok(checked)
    }

    fn check(&self, component: &Component, passthrough: bool) -> Result<(InstancePre<Guest>, Stages), Refusal> {
        let foreign = self.foreign_imports(component);
        if !foreign.is_empty() {
            return Err(Refusal::ForeignImports(foreign));
        }
        let unknown = self.unknown_exports(component);
        if !unknown.is_empty() {
            return Err(Refusal::UnknownExports(unknown));
        }
        let differs = |error: wasmtime::Error| Refusal::DiffersFromContract(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(component).map_err(differs)?;
        let stages = Stages::find(&pre).map_err(differs)?;
        contract::one_preprocessing(stages.preprocessing.is_some(), passthrough)?;
        Ok((pre, stages))
    }

    /// Imports under names that `contract` does not offer. Types alone need no offer.
    fn foreign_imports(&self, component: &Component) -> Vec<String> {
        let imports = component.component_type();
        let foreign = imports
            .imports(&self.engine)
            .filter(|(name, item)| contract::offer(name).is_none() && !matches!(item.ty, ComponentItem::Type(_)));
        foreign.map(|(name, _)| format!("`{name}`")).collect()
    }

    /// Exports that look like stages and are none: taken for absent they would switch validation off.
    fn unknown_exports(&self, component: &Component) -> Vec<String> {
        let exports = component.component_type();
        let names = exports.exports(&self.engine).map(|(name, _)| name);
        names.filter(|name| contract::is_unknown_export(name)).map(|name| format!("`{name}`")).collect()
    }
}

fn settings(config: &Config) -> wasmtime::Config {
    let slots = config.max_instances.saturating_add(config.max_resting_instances);
    let keep = usize::try_from(config.keep_resident_bytes).unwrap_or(0);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_core_instance_size(CORE_INSTANCE_BYTES)
        .max_component_instance_size(COMPONENT_INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(config.max_memory_bytes).unwrap_or(usize::MAX))
        .max_unused_warm_slots(slots)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep / 4)
        .async_stack_keep_resident(keep / 4)
        .pagemap_scan(Enabled::Auto);
    let mut settings = wasmtime::Config::new();
    settings
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .memory_init_cow(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    settings
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    request::add_to_linker(&mut linker)?;
    response::add_to_linker(&mut linker)?;
    tensors::add_to_linker(&mut linker)?;
    let guest: fn(&mut Guest) -> &mut Guest = |guest| guest;
    bindings::text::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::images::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::logging::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::config::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::steps::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::policies::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    Ok(linker)
}
