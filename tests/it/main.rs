//! The whole host over a socket: real components, real models, a real client. One module per behaviour; `support` starts
//! hosts, `served` asks them, `raw` speaks HTTP by hand where a client library would not do what a bad caller
//! does, `secure` speaks TLS.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

mod alone;
mod collector;
mod deploying;
mod programs;
mod raw;
mod redis;
mod secure;
mod served;
mod support;

mod absurd;
mod bad_requests;
mod balanced;
mod batching;
mod bounds;
mod cache_control;
mod control;
mod crafted;
mod crash;
mod deadline;
mod deployments;
mod drain;
mod embeddings;
mod errors;
mod explain;
mod exporter;
mod figures;
mod folder;
mod fuzz;
mod guest_logs;
mod handover;
mod hang_up;
mod hostile;
mod http_2;
mod images;
mod inspect;
mod invariants;
mod keys;
mod known_rows;
mod limits;
mod logs;
mod models;
mod oip;
mod openapi;
mod overload;
mod process;
mod pytorch;
mod quotas;
mod released;
mod remembered;
mod rerankers;
mod reuse;
mod routes;
mod s3;
mod shared_cache;
mod shared_store;
mod sharing;
mod soak;
mod spine;
mod stopped;
mod tagging;
mod tls;
mod tokens;
mod traces;
mod traffic;
mod vision;
