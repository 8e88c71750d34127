//! The host, as a map. Knowledge flows inward: `boot` knows every room; `http` knows `function`; `function` knows
//! `sandbox`, `engine` and `registry`, which do not know each other; all speak the shared vocabulary, which knows no room.
//! `tests/layers.rs` holds this order.

// Shared vocabulary.
pub mod account;
pub mod invocation;
pub mod telemetry;
pub mod tensor;

// Rooms, innermost first.
pub mod engine;
pub mod sandbox;
