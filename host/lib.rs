//! The host, as a map. Knowledge flows inward: `boot` knows every room; `http` knows `function`; `function` knows
//! `sandbox`, `engine`, `registry` and `cache`, which do not know each other; `handover` knows none of them; all speak the shared
//! vocabulary, which knows no room. `tests/layers.rs` holds this order.

pub mod boot;
pub mod config;

// Rooms, outermost first.
pub mod http;

pub mod function;

pub mod cache;
pub mod engine;
pub mod handover;
pub mod registry;
pub mod sandbox;

// Shared vocabulary.
pub mod access;
pub mod account;
pub mod allocator;
pub mod announce;
pub mod arrivals;
pub mod caching;
pub mod fair;
pub mod invocation;
pub mod known;
pub mod nearest;
pub mod rate;
pub mod reuse;
pub mod telemetry;
pub mod tenant;
pub mod tensor;
