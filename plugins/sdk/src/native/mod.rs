//! The host as plain data, for native tests of plugins: the names of `bindings::host`,
//! without a host.
//!
//! Owns what a test sets and sees: requests with public fields, tensors over memory, settings,
//! a stand-in tokenizer. Refuses to be a host: no limits, no models, no steps taken. Compiling
//! a plugin for both targets keeps the two in step.

mod fit;
mod http;
pub mod images;
mod policy;
mod steps;
mod tensor;
pub mod text;

use std::cell::RefCell;
use std::collections::BTreeMap;

pub use http::{Request, Response, Sent};
pub use policy::{CachePolicy, Remembered};
pub use steps::{Inference, Outputs};
pub use tensor::Tensor;

/// Why a host call did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Short, stable, in kebab-case.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(code: &str, detail: impl Into<String>) -> Self {
        Failure { code: code.to_owned(), detail: detail.into() }
    }
}

thread_local! {
    static CONFIG: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Sets `[config]` for this thread, that is for this test.
pub fn configure(settings: &[(&str, &str)]) {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    CONFIG.replace(settings.collect());
}

/// The function's own settings, as [`configure`] set them.
pub mod config {
    /// The value of a key; none if it is not set.
    pub fn get(key: &str) -> Option<String> {
        super::CONFIG.with_borrow(|config| config.get(key).cloned())
    }

    /// All keys and values, sorted by key.
    pub fn get_all() -> Vec<(String, String)> {
        super::CONFIG.with_borrow(|config| config.clone().into_iter().collect())
    }
}

/// Lines for the function's log: written to the standard error of the test.
pub mod logging {
    /// How important a line is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Level {
        /// Every detail.
        Trace,
        /// For whoever looks for a fault in the plugin.
        Debug,
        /// Worth knowing.
        Info,
        /// Something is not as it should be.
        Warn,
        /// The answer is wrong or missing.
        Error,
    }

    /// Writes one line.
    #[allow(clippy::print_stderr, reason = "natively there is no log; cargo test shows stderr of what failed")]
    pub fn log(level: Level, message: &str) {
        eprintln!("{level:?}: {message}");
    }
}
