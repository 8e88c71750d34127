//! A guest's log: lines from `logging`, standard output and standard error, with tenant, function and invocation, in the
//! host's own log, and in the one that is kept for the tenant, whatever the host's own leaves out. Bounded per invocation in lines and bytes; what is over is counted and told once.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::Config;
use crate::{
    account::{Account, Charge, Kind},
    invocation::Invocation,
    telemetry::{FunctionLog, Line, LineKind, TraceContext},
};

/// An instance's log, at present of one invocation; clones write to the same one.
#[derive(Clone)]
pub(super) struct LogStream(Arc<ArcSwap<Lines>>);

struct Lines {
    invocation: [Arc<str>; 3],
    revision: u64,
    trace: TraceContext,
    kept: Option<Arc<FunctionLog>>,
    partial: Mutex<Partial>,
    account: Arc<Account>,
    left: AtomicU32,
    max_line_bytes: usize,
}

/// A line that has no end yet. Its room is charged once, for the longest line.
#[derive(Default)]
struct Partial {
    line: Vec<u8>,
    charge: Option<Charge>,
}

impl LogStream {
    pub(super) fn new(invocation: &Invocation, config: &Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Lines::of(invocation, config))))
    }

    /// Writes what has no line end yet, then goes on as the log of another invocation.
    pub(super) fn turn_to(&self, invocation: &Invocation, config: &Config) {
        self.flush();
        self.0.store(Arc::new(Lines::of(invocation, config)));
    }

    /// Writes one line, cut to the limit; drops it when the invocation has written its share.
    pub(super) fn line(&self, level: Level, message: &str) {
        let lines = &**self.0.load();
        let left = match lines.left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(left) => left,
            Err(_) => return,
        };
        let end = (0..=lines.max_line_bytes.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        // A line break would let a guest write whole lines of the host's log in somebody else's name.
        let message = message[..end.unwrap_or(0)].replace(|character: char| character.is_control(), " ");
        lines.keep(name(level), &message);
        let [tenant, function, invocation] = &lines.invocation;
        let (revision, trace_id) = (lines.revision, lines.trace.id());
        // The level of a tracing event is part of its call site, hence one for each.
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(target: "tenon::guest", %tenant, %function, revision, %invocation, %trace_id, "{message}")
            };
        }
        match level {
            Level::TRACE => at!(trace),
            Level::DEBUG => at!(debug),
            Level::INFO => at!(info),
            Level::WARN => at!(warn),
            Level::ERROR => at!(error),
        }
        if left == 1 {
            let text = "log limit reached, further lines are dropped";
            lines.keep("warn", text);
            tracing::warn!(target: "tenon::guest", %tenant, %function, revision, %invocation, %trace_id, "{text}");
        }
    }

    /// Takes output apart into lines; the last one may come in pieces.
    fn output(&self, bytes: &[u8]) {
        let lines = self.0.load();
        if lines.left.load(Relaxed) == 0 {
            return;
        }
        let mut partial = lines.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if partial.charge.is_none() {
            // Without room for a line nothing is logged: a log is no reason to end an invocation.
            let Ok(charge) = lines.account.charge(Kind::Log, lines.max_line_bytes as u64) else { return };
            partial.charge = Some(charge);
        }
        let partial = &mut partial.line;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = lines.max_line_bytes.saturating_sub(partial.len());
            partial.extend_from_slice(&piece[..room.min(piece.len())]);
            if piece.ends_with(b"\n") {
                self.line(Level::INFO, String::from_utf8_lossy(partial).trim_end());
                partial.clear();
            }
        }
    }

    /// Writes what has no line end yet; called when the invocation is over.
    pub(super) fn flush(&self) {
        let partial = std::mem::take(&mut *self.0.load().partial.lock().unwrap_or_else(PoisonError::into_inner));
        if !partial.line.is_empty() {
            self.line(Level::INFO, String::from_utf8_lossy(&partial.line).trim_end());
        }
    }
}

impl Lines {
    fn of(invocation: &Invocation, config: &Config) -> Self {
        Self {
            invocation: [invocation.tenant.clone(), invocation.function.clone(), invocation.id.clone()],
            revision: invocation.revision,
            trace: invocation.trace,
            kept: invocation.log.clone(),
            partial: Mutex::default(),
            account: invocation.account.clone(),
            left: AtomicU32::new(config.max_log_lines),
            max_line_bytes: config.max_log_line_bytes as usize,
        }
    }

    fn keep(&self, level: &'static str, text: &str) {
        if let Some(log) = &self.kept {
            let [.., invocation] = &self.invocation;
            log.push(Line::new(LineKind::Log, level, (invocation.clone(), self.revision), text));
        }
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A library asks before it writes; who writes more at once means to keep this thread busy.
        if bytes.len() > self.0.load().max_line_bytes {
            return Err(StreamError::trap("more was written at once than `check-write` allowed"));
        }
        self.output(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // Never blocks: what is over the limit is dropped. The number bounds one write.
        Ok(self.0.load().max_line_bytes.max(1))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.output(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
