//! What `wit/` says, as Rust types: generated, never written by hand twice.
//!
//! Interfaces whose bytes must cross with a single copy (`request`, `response`, `tensors`) register their functions by
//! hand in `host_calls`; of the others the generated traits are implemented there.

#![allow(missing_docs, unreachable_pub, clippy::too_many_arguments, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "tenon:plugin/plugin",
    imports: {
        "tenon:plugin/text.encode": async | trappable,
        "tenon:plugin/images.[static]image.from-body": async | trappable,
        "tenon:plugin/images.[static]image.from-bytes": async | trappable,
        "tenon:plugin/images.[method]image.into-tensor": async | trappable,
        "tenon:plugin/images.[method]image.draw-box": async | trappable,
        "tenon:plugin/images.[method]image.draw-polygon": async | trappable,
        "tenon:plugin/images.[method]image.encode": async | trappable,
        "tenon:plugin/steps.[method]inference.reuse": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "tenon:plugin/request.request": crate::sandbox::host_calls::request::Handle,
        "tenon:plugin/response.response": crate::sandbox::host_calls::response::Draft,
        "tenon:plugin/tensors.tensor": crate::sandbox::host_calls::tensors::Tensor,
        "tenon:plugin/text.options": crate::sandbox::host_calls::text::Options,
        "tenon:plugin/text.encoding": crate::sandbox::host_calls::text::Encoding,
        "tenon:plugin/images.image": crate::sandbox::host_calls::images::Image,
        "tenon:plugin/images.fit": crate::sandbox::host_calls::images::Fit,
        "tenon:plugin/images.pen": crate::sandbox::host_calls::images::Pen,
        "tenon:plugin/steps.inference": crate::sandbox::host_calls::steps::Draft,
        "tenon:plugin/steps.outputs": crate::sandbox::host_calls::steps::Results,
        "tenon:plugin/policies.cache-policy": crate::sandbox::host_calls::policies::CachePolicy,
    },
});

pub use tenon::plugin::{config, images, logging, policies, steps, text, types};
