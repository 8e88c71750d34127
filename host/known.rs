//! Rows that may be known before they are made: what a guest asks by `inference.reuse`, and what is kept of the answer
//! until its inference is asked for.
//!
//! Vocabulary, because the sandbox asks, and only the function's room, which knows models and the cache, can answer.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;

/// Names a row.
pub type RowKey = [u8; 32];

/// What is known of a row.
#[derive(Clone, Debug)]
pub enum Known {
    /// All of it: what a model gave for it, in the form in which it is remembered.
    Whole(Bytes),
    /// The same as an earlier one of the inference, by its index.
    Same(usize),
    /// Nothing: it is to be made.
    New,
}

/// A row that was asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub key: RowKey,
    /// What is known of it.
    pub known: Known,
}

impl Wanted {
    /// Whether nobody has to make it.
    pub fn is_known(&self) -> bool {
        !matches!(self.known, Known::New)
    }
}

/// Rows of an invocation, and how many of them no model computed for it.
#[derive(Debug, Default)]
pub struct RowCounts {
    asked: AtomicU64,
    reused: AtomicU64,
}

impl RowCounts {
    /// Of so many rows so many were reused.
    pub fn add(&self, asked: u64, reused: u64) {
        self.asked.fetch_add(asked, Relaxed);
        self.reused.fetch_add(reused, Relaxed);
    }

    /// How many rows were asked for, and how many of them were reused.
    pub fn so_far(&self) -> (u64, u64) {
        (self.asked.load(Relaxed), self.reused.load(Relaxed))
    }
}

/// What answers.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Vec<Wanted>> + Send + 'a>>;

/// Where rows are asked for, by the names that a plugin gives them and its name for the model.
pub trait KnownRows: Send + Sync {
    /// What is known of these rows of one inference; `before` are those that were asked for earlier. Nothing at all where
    /// rows are not remembered by such names.
    fn find<'a>(&'a self, model: &'a str, keys: &'a [Vec<u8>], before: &'a [Wanted]) -> Option<Finding<'a>>;
}

/// The same, shared.
pub type SharedRows = Arc<dyn KnownRows>;
