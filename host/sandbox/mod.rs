//! The sandbox: wasmtime, and everything a guest may see of the host.
//!
//! Owns compilation, the contract (`wit/`), instances and their limits. Refuses to know models, queues and HTTP: it is
//! handed an [`Assignment`] and gives back steps. wasmtime's types never leave this room, so that another engine, or
//! another version of this one, is a change of this room alone.
//!
//! Three moments: once per process [`Sandbox`], once per deployment [`Plugin`], once per invocation [`Running`].

mod bindings;
mod compiled;
mod compiler;
mod contract;
mod host_calls;
mod leftovers;
mod limits;
mod meter;
mod plugin;
mod resting;
mod running;
mod stdio;
mod store;
mod ticker;
mod tokenizer;
mod trap;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

pub use compiled::{Compiled, CompiledError};
pub use contract::Refusal;
pub use plugin::{Plugin, StageName};
pub use resting::Resting;
pub use running::Running;
pub use store::{Assignment, TextModel};
pub(crate) use ticker::pause;
pub use tokenizer::{TokenizerError, Tokenizers};
pub use trap::{SandboxError, TrapKind};

use crate::{account::Account, tensor::Staging};

/// Sizes of the pool and limits of host calls.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Guests that may run at once: slots of the pool, and permits in front of it.
    pub max_instances: u32,
    /// Instances that may rest between invocations, of functions that ask for it: slots of the pool beside those.
    pub max_resting_instances: u32,
    /// Linear memory that all of these may hold together; it is part of what their tenants and the host may hold.
    pub max_resting_bytes: u64,
    /// The most linear memory that any function may be given, in bytes.
    pub max_memory_bytes: u64,
    /// Bytes of a slot that stay resident between invocations, so that they need not be mapped anew.
    pub keep_resident_bytes: u64,
    /// Handles (tensors, inferences, encodings…) that an invocation may hold at once.
    pub max_handles: u32,
    /// The longest text that `text.encode` takes, in bytes.
    pub max_text_bytes: u64,
    /// The most texts that one call of `text.encode` takes.
    pub max_texts: u64,
    /// The largest file that `images` decodes, in bytes.
    pub max_image_bytes: u64,
    /// The most pixels of an image.
    pub max_image_pixels: u64,
    /// The largest component, in bytes.
    pub max_component_bytes: u64,
    /// Log lines that one invocation may write.
    pub max_log_lines: u32,
    /// The longest log line in bytes; the rest is cut.
    pub max_log_line_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_instances: 512,
            max_resting_instances: 64,
            max_resting_bytes: 1 << 30,
            max_memory_bytes: 512 << 20,
            keep_resident_bytes: 256 << 10,
            max_handles: 4096,
            max_text_bytes: 1 << 20,
            max_texts: 4096,
            max_image_bytes: 64 << 20,
            max_image_pixels: 50_000_000,
            max_component_bytes: 64 << 20,
            max_log_lines: 256,
            max_log_line_bytes: 8 << 10,
        }
    }
}

impl Config {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        const WASM32_BYTES: u64 = 4 << 30;
        // 47 bits of address space hold fewer than 30,000 reservations of 4 GiB and a guard.
        const MAX_INSTANCES: u32 = 25_000;
        if self.max_instances == 0 || self.max_instances.saturating_add(self.max_resting_instances) > MAX_INSTANCES {
            let (running, resting) = (self.max_instances, self.max_resting_instances);
            return Err(format!(
                "sandbox.max_instances must be 1 to {MAX_INSTANCES}, sandbox.max_resting_instances with it, not {running} \
                 and {resting}"
            ));
        }
        if self.max_memory_bytes < 1 << 16 || self.max_memory_bytes > WASM32_BYTES {
            return Err(format!(
                "sandbox.max_memory_bytes must be 65536 to {WASM32_BYTES}, not {}",
                self.max_memory_bytes
            ));
        }
        if self.max_handles == 0 || self.max_log_line_bytes == 0 {
            return Err("sandbox.max_handles and sandbox.max_log_line_bytes must be at least 1".into());
        }
        Ok(())
    }
}

/// wasmtime, set up once for the process.
pub struct Sandbox {
    config: Config,
    compiler: compiler::Compiler,
    ticker: ticker::Ticker,
    permits: Arc<Semaphore>,
    /// Slots for instances that rest, and what these may hold.
    resting: Arc<Semaphore>,
    resting_bytes: Arc<Account>,
    staging: Arc<dyn Staging>,
    compiled: Option<Compiled>,
}

impl Sandbox {
    /// Reserves the pool and starts the clock that bounds guests.
    pub fn new(config: Config, staging: Arc<dyn Staging>) -> Result<Arc<Self>, SandboxError> {
        Self::with_compiled(config, staging, None)
    }

    /// The same, where what is compiled is kept.
    pub fn with_compiled(
        config: Config,
        staging: Arc<dyn Staging>,
        compiled: Option<Compiled>,
    ) -> Result<Arc<Self>, SandboxError> {
        let compiler = compiler::Compiler::new(&config)?;
        let ticker = ticker::Ticker::start(compiler.engine().clone());
        let slots = |count: u32| Arc::new(Semaphore::new(count as usize));
        let (permits, resting) = (slots(config.max_instances), slots(config.max_resting_instances));
        let resting_bytes = Account::host(config.max_resting_bytes);
        Ok(Arc::new(Self { config, compiler, ticker, permits, resting, resting_bytes, staging, compiled }))
    }

    /// Compiles a component and checks it against the contract. Blocks for seconds where the component is large.
    pub fn compile(self: &Arc<Self>, wasm: &[u8]) -> Result<Plugin, Refusal> {
        self.compile_for(wasm, false)
    }

    /// The same for a function that may say `passthrough`: then there is no `preprocessing`, else there is one.
    pub fn compile_for(self: &Arc<Self>, wasm: &[u8], passthrough: bool) -> Result<Plugin, Refusal> {
        if wasm.len() as u64 > self.config.max_component_bytes {
            return Err(Refusal::TooLarge { size: wasm.len() as u64, limit: self.config.max_component_bytes });
        }
        Ok(Plugin::new(self.clone(), self.compiler.compile(wasm, passthrough, self.compiled.as_ref())?))
    }

    /// Whether a component need not be compiled: loading it is quick.
    pub fn is_compiled(&self, wasm: &[u8]) -> bool {
        self.compiled.as_ref().is_some_and(|compiled| compiled.has(self.compiler.engine(), wasm))
    }

    /// One permit for each slot of the pool: whoever holds one gets an instance without waiting.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// A place for an instance to rest, if one is free, and the account of what rests.
    fn rest(&self) -> (Result<OwnedSemaphorePermit, TryAcquireError>, &Arc<Account>) {
        (self.resting.clone().try_acquire_owned(), &self.resting_bytes)
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
