//! What can go wrong while a guest runs, and the reading of wasmtime's errors as one of those things.

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::{
    account::{Holder, OverLimit},
    invocation::Fault,
};

/// The longest text of a guest's fault that is kept.
const MAX_DETAIL_BYTES: usize = 4096;

/// How a guest died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum TrapKind {
    Unreachable,
    StackOverflow,
    OutOfBounds,
    Arithmetic,
    Exit,
    Other,
}

impl TrapKind {
    /// The kind as it is told to callers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable (a panic or an abort)",
            Self::StackOverflow => "stack overflow",
            Self::OutOfBounds => "memory access out of bounds",
            Self::Arithmetic => "arithmetic (division by zero or overflow)",
            Self::Exit => "the process exited",
            Self::Other => "trap",
        }
    }
}

/// Why a guest gave no step.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The guest trapped. The backtrace is for the tenant's log only.
    #[error("the plugin trapped: {}", kind.name())]
    Trap {
        /// How.
        kind: TrapKind,
        /// Where, by the component's name section.
        backtrace: String,
    },
    /// What the guest gave breaks the contract.
    #[error("the plugin broke the contract: {0}")]
    Contract(String),
    /// The guest wanted more memory than somebody may hold.
    #[error(transparent)]
    Memory(OverLimit),
    /// The guest used all its processor time.
    #[error("the plugin used all of its {cpu_ms} ms of processor time")]
    Cpu {
        /// The limit in milliseconds.
        cpu_ms: u64,
    },
    /// Something of wasmtime's or the machine's.
    #[error("the sandbox failed: {0}")]
    Internal(String),
}

impl SandboxError {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Trap { .. } | Self::Contract(_) | Self::Cpu { .. } => Fault::Function,
            Self::Memory(over) if over.holder == Holder::Invocation => Fault::Function,
            Self::Memory(_) => Fault::Capacity,
            Self::Internal(_) => Fault::Host,
        }
    }

    /// Reads an error that came out of a call. `refused` is the last refusal of memory, which explains an abort.
    pub(super) fn from_call(error: wasmtime::Error, refused: Option<OverLimit>) -> Self {
        if let Some(over) = refused {
            return Self::Memory(over);
        }
        if error.is::<wasmtime_wasi::I32Exit>() {
            return Self::Trap { kind: TrapKind::Exit, backtrace: String::new() };
        }
        if let Some(violation) = error.downcast_ref::<Violation>() {
            return Self::Contract(violation.0.clone());
        }
        // A handle that does not exist, was dropped, or one too many.
        if let Some(table) = error.downcast_ref::<wasmtime::component::ResourceTableError>() {
            return Self::Contract(format!("a handle was misused: {table}"));
        }
        let kind = match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => TrapKind::StackOverflow,
            Some(Trap::MemoryOutOfBounds | Trap::TableOutOfBounds | Trap::HeapMisaligned) => TrapKind::OutOfBounds,
            Some(Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger) => {
                TrapKind::Arithmetic
            }
            Some(Trap::UnreachableCodeReached) => TrapKind::Unreachable,
            Some(_) => TrapKind::Other,
            // Not a trap: wasmtime refused what the guest passed across the boundary (a list out of its memory, text
            // that is not UTF-8), or the host failed. Both come without a trap; a backtrace tells that a guest ran.
            None if error.downcast_ref::<WasmBacktrace>().is_some() => {
                // Only the cause: frames of the guest are for its owner's log.
                tracing::debug!("a guest broke the contract: {error:?}");
                return Self::Contract(cut(&error.root_cause().to_string()));
            }
            None => return Self::Internal(cut(&format!("{error:#}"))),
        };
        Self::Trap { kind, backtrace: cut(&format!("{error:?}")) }
    }

    /// Reads an error that came out of a stage. Here an error that is neither a trap nor has a frame of the guest's comes
    /// from reading what the guest gave: a list outside of its memory, a case that is none.
    pub(super) fn from_stage(error: wasmtime::Error, refused: Option<OverLimit>) -> Self {
        let machine = error.is::<PoolConcurrencyLimitError>() || error.is::<std::io::Error>();
        match Self::from_call(error, refused) {
            Self::Internal(detail) if !machine => Self::Contract(format!("what it gave cannot be read: {detail}")),
            error => error,
        }
    }
}

/// A guest broke the contract in a host call in a way that has no `failure` to answer with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Violation(pub(super) String);

fn cut(text: &str) -> String {
    let end = (0..=MAX_DETAIL_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
