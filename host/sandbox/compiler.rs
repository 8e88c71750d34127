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
    Config, SandboxError, bindings,
    host_calls::{request, response, tensors},
    plugin::{self, Stages},
    store::Guest,
};

/// The contract's version, as exports and imports are named.
pub(super) const VERSION: &str = "1.0.0-rc.1";
/// Core modules in a component: the guest's own, and those that adapt WASI for it.
const CORE_INSTANCES_PER_COMPONENT: u32 = 20;
/// Tables and memories per component; interpreters in WebAssembly have up to four tables.
const TABLES_PER_COMPONENT: u32 = 8;
const TABLE_ELEMENTS: usize = 40_000;
const CORE_INSTANCE_BYTES: usize = 4 << 20;
const COMPONENT_INSTANCE_BYTES: usize = 16 << 20;

/// Why a component may not be deployed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Refusal {
    #[error("the component has {size} bytes, at most {limit} are allowed")]
    TooLarge { size: u64, limit: u64 },
    #[error("this is not a WebAssembly component: {0}")]
    NotAComponent(String),
    #[error("the component imports what Tenon does not offer: {}", .0.join(", "))]
    ForeignImports(Vec<String>),
    #[error(
        "the component exports {} under a name that contract {VERSION} does not know; a plugin is built against `wit/`",
        .0.join(", ")
    )]
    UnknownExports(Vec<String>),
    #[error("{0}")]
    DiffersFromContract(String),
    #[error("the component exports no `preprocessing`, and `passthrough` is not there yet")]
    NoPreprocessing,
}

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
    pub(super) fn compile(&self, wasm: &[u8]) -> Result<(InstancePre<Guest>, Stages), Refusal> {
        let component =
            Component::new(&self.engine, wasm).map_err(|error| Refusal::NotAComponent(format!("{error:#}")))?;
        let foreign = self.foreign_imports(&component);
        if !foreign.is_empty() {
            return Err(Refusal::ForeignImports(foreign));
        }
        let unknown = self.unknown_exports(&component);
        if !unknown.is_empty() {
            return Err(Refusal::UnknownExports(unknown));
        }
        let differs = |error: wasmtime::Error| Refusal::DiffersFromContract(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(&component).map_err(differs)?;
        let stages = Stages::find(&pre).map_err(differs)?;
        if stages.preprocessing.is_none() {
            return Err(Refusal::NoPreprocessing);
        }
        Ok((pre, stages))
    }

    /// Imports under names that the linker has no match for. Types alone need none.
    fn foreign_imports(&self, component: &Component) -> Vec<String> {
        let imports = component.component_type();
        let foreign = imports.imports(&self.engine).filter(|(name, item)| {
            let name = interface(name);
            let offered = name.starts_with("tenon:plugin/") && OFFERED.contains(&&name["tenon:plugin/".len()..])
                || WASI.iter().any(|package| name.starts_with(package));
            !offered && !matches!(item.ty, ComponentItem::Type(_))
        });
        foreign.map(|(name, _)| format!("`{name}`")).collect()
    }

    /// Exports that look like stages and are none: taken for absent they would switch validation off.
    fn unknown_exports(&self, component: &Component) -> Vec<String> {
        let exports = component.component_type();
        let names = exports.exports(&self.engine).map(|(name, _)| name);
        let known = |name: &str| plugin::EXPORTS.iter().any(|stage| name == plugin::export_name(stage));
        names.filter(|name| name.starts_with("tenon:") && !known(name)).map(|name| format!("`{name}`")).collect()
    }
}

/// Interfaces of the contract that this host links.
const OFFERED: [&str; 9] =
    ["types", "request", "response", "tensors", "text", "logging", "config", "steps", "policies"];

/// WASI as DESIGN lists it. Files and sockets are linked over a context that has none: they only refuse.
const WASI: [&str; 6] = ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];

/// An import's name without its version.
fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn settings(config: &Config) -> wasmtime::Config {
    let slots = config.max_instances;
    let keep = usize::try_from(config.keep_resident_bytes).unwrap_or(0);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(1)
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
    bindings::logging::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::config::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::steps::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    bindings::policies::add_to_linker::<_, HasSelf<_>>(&mut linker, guest)?;
    Ok(linker)
}
