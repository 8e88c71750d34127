//! What an instance carries while it serves one invocation: its assignment, its handles, its limits. Made for the
//! invocation and dropped with it, or, where instances are kept, exchanged for what belongs to the next one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{Config, limits::Limits, stdio::LogStream, tokenizer::Tokenizer};
use crate::{
    invocation::{Invocation, Request},
    known::SharedRows,
    tensor::Staging,
};

/// Random bytes that one call may ask for.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What a guest is to work on.
#[derive(Clone)]
pub struct Assignment {
    /// For whom, until when, on whose account.
    pub invocation: Arc<Invocation>,
    /// The caller's request.
    pub request: Arc<Request>,
    /// The models that the function is bound to, by the plugin's name for them.
    pub models: Arc<BTreeMap<String, TextModel>>,
    /// The function's own keys and values.
    pub config: Arc<BTreeMap<String, String>>,
    /// Where the guest asks for rows that may be known, where rows are remembered by the names that it gives them.
    pub rows: Option<SharedRows>,
    /// Processor time that the invocation may use.
    pub cpu_limit: Duration,
}

/// What `text` needs to know of a bound model.
#[derive(Clone, Default)]
pub struct TextModel {
    /// The tokenizer beside the model, where there is one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Tokens that the model takes in one row; `None` where its inputs have no ragged dimension.
    pub max_tokens: Option<u64>,
}

/// The store's content.
pub(super) struct Guest {
    pub(super) assignment: Assignment,
    /// What stands behind handles of the contract.
    pub(super) table: ResourceTable,
    /// What stands behind WASI's, which language runtimes hold for as long as they live.
    wasi_table: ResourceTable,
    pub(super) limits: Limits,
    pub(super) log: LogStream,
    pub(super) staging: Arc<dyn Staging>,
    pub(super) text_limits: TextLimits,
    pub(super) image_limits: ImageLimits,
    /// Made when the guest first asks: most never do, and seeding its random numbers costs more than a host call.
    wasi: Option<WasiCtx>,
}

/// Limits of `text.encode`.
#[derive(Clone, Copy)]
pub(super) struct TextLimits {
    pub(super) bytes: u64,
    pub(super) texts: u64,
}

/// Limits of `images`, looked at before anything is decoded.
#[derive(Clone, Copy)]
pub(super) struct ImageLimits {
    pub(super) bytes: u64,
    pub(super) pixels: u64,
}

impl Guest {
    pub(super) fn new(assignment: Assignment, config: &Config, staging: Arc<dyn Staging>) -> Self {
        let log = LogStream::new(&assignment.invocation, config);
        let [mut table, mut wasi_table] = [(); 2].map(|()| ResourceTable::new());
        for table in [&mut table, &mut wasi_table] {
            table.set_max_capacity(config.max_handles as usize);
        }
        let limits = Limits::new(assignment.invocation.account.clone(), config.max_memory_bytes);
        let text_limits = TextLimits { bytes: config.max_text_bytes, texts: config.max_texts };
        let image_limits = ImageLimits { bytes: config.max_image_bytes, pixels: config.max_image_pixels };
        Self { assignment, table, wasi_table, limits, log, staging, text_limits, image_limits, wasi: None }
    }
}

impl Guest {
    /// Turns to another invocation; what memory the guest holds is charged to that one from now on. False: it does not fit.
    pub(super) fn turn_to(&mut self, assignment: Assignment, config: &Config) -> bool {
        let account = &assignment.invocation.account;
        self.log.turn_to(&assignment.invocation, config);
        let fits = self.limits.turn_to(account);
        self.assignment = assignment;
        fits
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi(&self.log));
        WasiCtxView { ctx, table: &mut self.wasi_table }
    }
}

/// No files, no environment, no arguments, no network: the builder's defaults, and nothing is added but a log.
fn wasi(log: &LogStream) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(log.clone())
        .stderr(log.clone())
        .allow_tcp(false)
        .allow_udp(false)
        .max_random_size(MAX_RANDOM_BYTES)
        .build()
}
