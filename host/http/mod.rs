//! HTTP: wire in, wire out, for both planes.
//!
//! Owns listeners, connections, heads and bodies, and THE table from errors to statuses (`problem`). axum's and hyper's
//! types live only here. Refuses to know how an invocation runs: it makes a `Call` and is given an `Outcome`.

mod answer;
mod cache;
mod connection;
mod control;
mod data;
mod explain;
mod functions;
mod guest_logs;
mod handle;
mod health;
mod incoming;
mod linger;
mod malformed;
mod mapped;
mod models;
mod oip;
mod openapi;
mod orders;
mod pace;
mod permits;
mod problem;
mod routes;
mod server;
mod tenants;
mod tls;
mod unread;
mod unsent;
mod upload;

use std::{net::SocketAddr, time::Duration};

/// What answers on a plane.
pub use axum::Router;
pub use control::{Parts as ControlParts, router as control_router};
pub use data::router as data_router;
pub use mapped::{Mapped, Method as RouteMethod, Route};
pub use server::{Phase, Server, listen};
pub use tls::{Tls, TlsError, TlsFiles};

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
    /// Connections that wait in the kernel for a place.
    pub backlog: u32,
    /// How long a connection may take for its first bytes, for a TLS handshake, and for the head of a request.
    pub header_timeout_ms: u64,
    /// How long a connection may be open without a request in progress.
    pub idle_timeout_ms: u64,
    /// How long a caller may take next to nothing of an answer before its connection is ended.
    pub write_timeout_ms: u64,
    /// The largest head of a request.
    pub max_header_bytes: u32,
    /// Header fields of a request.
    pub max_headers: u32,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Requests of one HTTP/2 connection that its caller may take back before the host has looked at them.
    pub max_pending_resets: u32,
    /// Streams of one HTTP/2 connection that may end in the caller's errors.
    pub max_stream_errors: u32,
    /// Bytes of bodies that one HTTP/2 connection may have under way, not yet read and so on no account.
    pub max_unread_bytes: u32,
    /// Bytes of an answer that one HTTP/2 stream may have under way.
    pub max_unsent_bytes: u32,
    /// How long a drain may take before the rest is dropped.
    pub drain_timeout_ms: u64,
    /// TLS of the data plane; without it plain HTTP.
    pub tls: Option<TlsFiles>,
    /// TLS of the control plane, likewise.
    pub control_tls: Option<TlsFiles>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            control_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            max_connections: 4096,
            backlog: 1024,
            header_timeout_ms: 5000,
            // More than load balancers have, so that it is they who close, and no request meets a closed connection.
            idle_timeout_ms: 75_000,
            write_timeout_ms: 30_000,
            max_header_bytes: 64 << 10,
            max_headers: 128,
            max_streams: 256,
            max_pending_resets: 20,
            max_stream_errors: 1024,
            max_unread_bytes: 256 << 10,
            max_unsent_bytes: 64 << 10,
            drain_timeout_ms: 30_000,
            tls: None,
            control_tls: None,
        }
    }
}

impl Config {
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        /// hyper's own lower bound.
        const LEAST_HEADER_BYTES: u32 = 8192;
        /// A day: longer is no limit, and beyond some point no instant either.
        const MOST_TIMEOUT_MS: u64 = 86_400_000;
        /// HTTP/2's windows: a connection's begins with the least, and the most is what its field holds.
        const LEAST_WINDOW: u32 = 65_535;
        const MOST_WINDOW: u32 = (1 << 31) - 1;
        if self.listen == self.control_listen && self.listen.port() != 0 {
            return Err(format!("http.listen and http.control_listen are both {}", self.listen));
        }
        let at_least_one = [
            ("max_connections", u64::from(self.max_connections)),
            ("backlog", u64::from(self.backlog)),
            ("header_timeout_ms", self.header_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("max_headers", u64::from(self.max_headers)),
            ("max_streams", u64::from(self.max_streams)),
            ("max_unsent_bytes", u64::from(self.max_unsent_bytes)),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("http.{key} must be at least 1"));
        }
        let timeouts = [
            ("header_timeout_ms", self.header_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("drain_timeout_ms", self.drain_timeout_ms),
        ];
        if let Some((key, _)) = timeouts.iter().find(|(_, value)| *value > MOST_TIMEOUT_MS) {
            return Err(format!("http.{key} must be at most {MOST_TIMEOUT_MS}"));
        }
        if !(LEAST_WINDOW..=MOST_WINDOW).contains(&self.max_unread_bytes) {
            return Err(format!("http.max_unread_bytes must be {LEAST_WINDOW} to {MOST_WINDOW}"));
        }
        for (section, files) in [("http.tls", &self.tls), ("http.control_tls", &self.control_tls)] {
            files.as_ref().map_or(Ok(()), |files| files.validate(section))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let refused = |text: &str| toml::from_str::<Config>(text).unwrap().validate().unwrap_err();
        for (text, named) in [
            ("backlog = 0", "http.backlog"),
            ("idle_timeout_ms = 0", "http.idle_timeout_ms"),
            ("header_timeout_ms = 9223372036854775807", "http.header_timeout_ms"),
            ("max_unread_bytes = 65534", "http.max_unread_bytes"),
            ("max_unread_bytes = 2147483648", "http.max_unread_bytes"),
            ("max_unsent_bytes = 0", "http.max_unsent_bytes"),
            ("max_header_bytes = 1", "http.max_header_bytes"),
            ("[tls]\ncertificate = \"c.pem\"", "http.tls.key"),
            ("[control_tls]\nkey = \"k.pem\"", "http.control_tls.certificate"),
        ] {
            let refused = refused(text);
            assert!(refused.contains(named), "{text}: {refused}");
        }
        assert_eq!(Config::default().validate(), Ok(()));
        assert!(toml::from_str::<Config>("[tls]\ncertificat = \"c.pem\"").is_err());
    }
}
