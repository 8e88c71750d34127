//! The guest side of `tenon:plugin`: what a plugin author writes against.
//!
//! Owns the traits of the four stages, the export line, typed views of tensors, JSON and
//! rejections. Refuses to know any model and any service: those are plugins. It exists so
//! that a plugin has no `unsafe`, no generated code in sight, and ordinary native tests.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use tenon_sdk::{
//!     HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request, Response, Step, Tensor,
//! };
//!
//! /// Sends sixteen numbers through the model bound as `model`.
//! #[derive(Default)]
//! struct Echo;
//!
//! impl Preprocessing for Echo {
//!     fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
//!         let body = request.body();
//!         if body.len() != 64 {
//!             return Err(Rejection::bad_request("body-length", "the body is 64 bytes: sixteen FP32"));
//!         }
//!         let tensor = Tensor::create("FP32", &[1, 16]).or_trap();
//!         tensor.write(0, &body).or_trap();
//!         Ok(Inference::new("model").input("x", &tensor).or_trap().into())
//!     }
//! }
//!
//! impl Postprocessing for Echo {
//!     fn postprocess(&mut self, _: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
//!         let values: Vec<f32> = outputs[0].tensor("y").and_then(|y| y.values()).or_trap();
//!         Ok(Response::json(200, &values).or_trap().into())
//!     }
//! }
//!
//! tenon_sdk::export!(Echo: preprocessing, postprocessing);
//! # fn main() {}
//! ```
//!
//! The plugin is a package of its own, anywhere:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the component; the way in for tests
//!
//! [dependencies]
//! tenon-sdk = { path = "…/tenon/plugins/sdk" }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component, with Rust 1.95 or newer
//! and that target (the checkout's `rust-toolchain.toml`, copied beside your `Cargo.toml`,
//! brings both). Off wasm the same names are plain data (module `native`), and `export!`
//! expands to its checks alone, so that `cargo test` runs a plugin's logic without a host.
//! `docs/first-plugin.md` leads from an empty folder to a plugin that asks a model.
//!
//! What went wrong decides how to end: the caller's fault is a [`Rejection`] (a 4xx with a
//! code of your own; [`json::Place`] writes those that point into a body), your own is a
//! panic, which traps (502 for the caller, the reason in the host's log). A host call that
//! fails says neither; [`HostCall::or_reject`] and [`HostCall::or_trap`] do.
//!
//! One fresh instance serves one invocation: what `preprocess` leaves in `self`,
//! `postprocess` finds there, and nothing outlives the answer (with `reuse` in `function.toml`,
//! statics do).

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian, and their views reinterpret memory in place");

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;

#[cfg(target_arch = "wasm32")]
use bindings::host;
#[cfg(not(target_arch = "wasm32"))]
use native as host;

pub mod images;
pub mod json;
mod refusal;
mod response;
mod settings;
#[doc(hidden)]
pub mod stage;
mod step;
mod tensor;

pub use host::{CachePolicy, Failure, Outputs, Request, Response, Tensor};
pub use host::{config, logging, text};
pub use refusal::{Content, HostCall, Rejection};
pub use settings::setting;
pub use stage::{Caching, Postprocessing, Preprocessing, Validation};
pub use step::{Inference, Step};
pub use tensor::{Element, Rows};
