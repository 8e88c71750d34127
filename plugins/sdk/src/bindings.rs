//! All generated code, and the bridge from it to the traits of `stage`.
//!
//! One `generate!` for the imports and one for each stage in a module of its own, whose
//! types point at the first. A component's exports are the union of the worlds whose
//! `export!` was expanded, so stages that a plugin does not list leave no trace in it.
#![allow(missing_docs, reason = "generated; the documentation is in wit/")]
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers")]
#![allow(rust_2018_idioms, unreachable_pub, reason = "generated")]
#![allow(clippy::all, reason = "generated")]

use std::marker::PhantomData;

use crate::{CachePolicy, Outputs, Rejection, Request, Step};
use imports::tenon::plugin::types;

pub mod imports {
    wit_bindgen::generate!({ path: "wit", world: "imports", generate_all });
}

/// What the rest of the crate calls the host: the same names as `native`.
pub mod host {
    pub use super::imports::tenon::plugin::policies::CachePolicy;
    pub use super::imports::tenon::plugin::request::Request;
    pub use super::imports::tenon::plugin::response::Response;
    pub use super::imports::tenon::plugin::steps::{Inference, Outputs};
    pub use super::imports::tenon::plugin::tensors::Tensor;
    pub use super::imports::tenon::plugin::types::Failure;
    pub use super::imports::tenon::plugin::{config, images, logging, text};
}

/// The type that the generated export functions call.
pub struct Exported<P>(PhantomData<P>);

// The version stands in the keys because the macro matches them as text; it changes with wit/.
macro_rules! bind {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "wit",
                world: $world,
                with: {
                    "tenon:plugin/types@1.0.0": crate::bindings::imports::tenon::plugin::types,
                    "tenon:plugin/request@1.0.0": crate::bindings::imports::tenon::plugin::request,
                    "tenon:plugin/response@1.0.0": crate::bindings::imports::tenon::plugin::response,
                    "tenon:plugin/tensors@1.0.0": crate::bindings::imports::tenon::plugin::tensors,
                    "tenon:plugin/text@1.0.0": crate::bindings::imports::tenon::plugin::text,
                    "tenon:plugin/images@1.0.0": crate::bindings::imports::tenon::plugin::images,
                    "tenon:plugin/logging@1.0.0": crate::bindings::imports::tenon::plugin::logging,
                    "tenon:plugin/config@1.0.0": crate::bindings::imports::tenon::plugin::config,
                    "tenon:plugin/steps@1.0.0": crate::bindings::imports::tenon::plugin::steps,
                    "tenon:plugin/policies@1.0.0": crate::bindings::imports::tenon::plugin::policies,
                },
                generate_all,
                pub_export_macro: true,
            });
        }
    };
}

macro_rules! stage {
    ($module:ident, $world:literal, $trait:ident, $function:ident($($argument:ident: $type:ty),*) -> $result:ty, $lower:expr) => {
        bind!($module, $world);
        impl<P: crate::$trait + crate::stage::Singleton> $module::exports::tenon::plugin::$module::Guest for Exported<P> {
            fn $function($($argument: $type),*) -> $result {
                P::with(stringify!($module), |plugin| $lower(plugin.$function($($argument),*)))
            }
        }
    };
}

type Wanted = imports::tenon::plugin::steps::Step;

fn refused(rejection: Rejection) -> types::Rejection {
    let body =
        rejection.body.map(|content| types::Content { content_type: content.content_type, bytes: content.bytes });
    types::Rejection {
        status: rejection.status,
        code: rejection.code,
        detail: rejection.detail,
        pointer: rejection.pointer,
        headers: rejection.headers,
        body,
    }
}

fn accepted(outcome: Result<(), Rejection>) -> Result<(), types::Rejection> {
    outcome.map_err(refused)
}

fn wanted(step: Result<Step, Rejection>) -> Result<Wanted, types::Rejection> {
    Ok(match step.map_err(refused)? {
        Step::Infer(inferences) => Wanted::Infer(inferences.into_iter().map(crate::Inference::into_host).collect()),
        Step::Respond(response) => Wanted::Respond(response),
    })
}

stage!(validation, "stage-validation", Validation,
    validate(request: &Request) -> Result<(), types::Rejection>, accepted);
stage!(caching, "stage-caching", Caching,
    policy(request: &Request) -> CachePolicy, std::convert::identity);
stage!(preprocessing, "stage-preprocessing", Preprocessing,
    preprocess(request: &Request) -> Result<Wanted, types::Rejection>, wanted);
stage!(postprocessing, "stage-postprocessing", Postprocessing,
    postprocess(request: &Request, outputs: Vec<Outputs>) -> Result<Wanted, types::Rejection>, wanted);
