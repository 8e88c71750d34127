//! The whole host over a socket: real components, real models, a real client. One module per behaviour; `support` starts
//! hosts, `served` asks them, `raw` speaks HTTP by hand where a client library would not do what a bad caller does.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

mod raw;
mod served;
mod support;

mod absurd;
mod batching;
mod bounds;
mod control;
mod crafted;
mod deadline;
mod drain;
mod errors;
mod folder;
mod fuzz;
mod hang_up;
mod hostile;
mod invariants;
mod overload;
mod process;
mod soak;
mod spine;
mod tokens;
