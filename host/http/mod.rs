//! HTTP: wire in, wire out, for both planes.
//!
//! Owns listeners, connections, heads and bodies, and THE table from errors to statuses (`problem`). axum's and hyper's
//! types live only here. Refuses to know how an invocation runs: it makes a `Call` and is given an `Outcome`.

mod answer;
mod control;
mod data;
mod handle;
mod health;
mod incoming;
mod problem;
mod server;
mod token;

use std::{net::SocketAddr, time::Duration};

pub use control::router as control_router;
pub use data::router as data_router;
pub use server::Server;
pub use token::{Token, TokenError};

/// Addresses and limits of both planes.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where callers come in.
    pub listen: SocketAddr,
    /// Where operators and tenants come in.
    pub control_listen: SocketAddr,
    /// Connections that one plane holds at once; further ones wait in the kernel's backlog.
    pub max_connections: u32,
    /// How long a connection may take to send the head of a request.
    pub header_timeout_ms: u64,
    /// How long a caller may take none of an answer before it is dropped.
    pub write_timeout_ms: u64,
    /// The largest head of a request.
    pub max_header_bytes: u32,
    /// Header fields of a request.
    pub max_headers: u32,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long a drain may take before the rest is dropped.
    pub drain_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            control_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            max_connections: 4096,
            header_timeout_ms: 5000,
            write_timeout_ms: 30_000,
            max_header_bytes: 64 << 10,
            max_headers: 128,
            max_streams: 256,
            drain_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        /// hyper's own lower bound.
        const LEAST_HEADER_BYTES: u32 = 8192;
        if self.listen == self.control_listen && self.listen.port() != 0 {
            return Err(format!("http.listen and http.control_listen are both {}", self.listen));
        }
        if self.max_connections == 0
            || self.header_timeout_ms == 0
            || self.write_timeout_ms == 0
            || self.max_streams == 0
            || self.max_headers == 0
        {
            return Err(
                "http.max_connections, header_timeout_ms, write_timeout_ms, max_streams and max_headers must be at least 1".into()
            );
        }
        if self.max_header_bytes < LEAST_HEADER_BYTES {
            return Err(format!("http.max_header_bytes must be at least {LEAST_HEADER_BYTES}"));
        }
        Ok(())
    }

    /// `drain_timeout_ms` as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}
