//! The whole host over a socket: real components, real models, a real client. One module per behaviour.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no users")]

mod support;

mod spine;
