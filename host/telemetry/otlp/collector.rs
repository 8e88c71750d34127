//! The collector as a client sees it: one request that carries a message, over HTTP or gRPC.
//!
//! Owns the transport: one hyper client for both. OTLP/gRPC is unary, which over HTTP/2 is a POST with five bytes before
//! the message and a status after it; a gRPC library would bring its own channels, balancing and retries for that.
//! Refuses to know what a message says and when to try again.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, builderstates::WantsProtocols1};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};

use crate::telemetry::config::{Headers, Protocol};

/// How long a collector may take for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of an answer that is read.
const MAX_REPLY_BYTES: usize = 64 << 10;
/// Flag and length before a message of gRPC.
const FRAME_HEAD_BYTES: usize = 5;
/// What of a collector's own words goes into the log.
const MAX_DETAIL_CHARS: usize = 200;

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// As messages to people name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metrics",
        }
    }

    fn path(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Traces, Protocol::Http) => "/v1/traces",
            (Self::Metrics, Protocol::Http) => "/v1/metrics",
            (Self::Traces, Protocol::Grpc) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Self::Metrics, Protocol::Grpc) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Why a message did not arrive.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same message may be welcome later.
    pub(super) again: bool,
    /// For the log.
    pub(super) reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Failure {
    pub(super) fn later(reason: impl Into<String>) -> Self {
        Self { again: true, reason: reason.into() }
    }

    fn never(reason: impl Into<String>) -> Self {
        Self { again: false, reason: reason.into() }
    }
}

/// A collector.
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: String,
    protocol: Protocol,
    headers: HeaderMap,
}

/// Whether an endpoint and its headers can be used at all. What may be a credential is not said back.
pub(in crate::telemetry) fn check(endpoint: &str, headers: &Headers) -> Result<(), String> {
    if endpoint.contains(['@', '?']) {
        return Err("it must have no query and no user; credentials go into OTEL_EXPORTER_OTLP_HEADERS".into());
    }
    let uri: Uri = endpoint.parse().map_err(|error| format!("`{endpoint}` is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(format!("`{endpoint}` must begin with http:// or https:// and name a host"));
    }
    read_headers(headers).map(drop)
}

fn read_headers(headers: &Headers) -> Result<HeaderMap, String> {
    let read = |(index, (name, value)): (usize, &(String, String))| {
        // The value is a secret, and where a sign is missing it stands in the name.
        let wrong = |what| format!("OTEL_EXPORTER_OTLP_HEADERS: entry {} has {what}", index + 1);
        let key = HeaderName::try_from(name).map_err(|_| wrong("a name that is none of a header"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong("a value that no header can have"))?;
        value.set_sensitive(true);
        Ok((key, value))
    };
    headers.0.iter().enumerate().map(read).collect()
}

impl Collector {
    /// Connects when the first message is sent.
    pub(super) fn new(endpoint: &str, protocol: Protocol, headers: &Headers) -> Result<Self, String> {
        check(endpoint, headers)?;
        let connector =
            connector(endpoint.starts_with("https")).map_err(|reason| format!("telemetry.otlp_endpoint: {reason}"))?;
        let connector = match protocol {
            Protocol::Grpc => connector.enable_http2().build(),
            Protocol::Http => connector.enable_http1().build(),
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http2_only(protocol == Protocol::Grpc).pool_timer(TokioTimer::new()).pool_max_idle_per_host(1);
        let path = if protocol == Protocol::Grpc { origin(endpoint) } else { endpoint.trim_end_matches('/').into() };
        Ok(Self { client: builder.build(connector), endpoint: path, protocol, headers: read_headers(headers)? })
    }

    /// Sends one message; answers the reply's.
    pub(super) async fn send<R: Message + Default>(
        &self,
        signal: Signal,
        message: &impl Message,
    ) -> Result<R, Failure> {
        let sending = async {
            let answer = self.client.request(self.request(signal, message)?).await;
            let answer = answer.map_err(|error| Failure::later(chain(&error)))?;
            self.read(answer).await
        };
        let late = |_| Failure::later(format!("no answer within {} ms", PATIENCE.as_millis()));
        let reply = tokio::time::timeout(PATIENCE, sending).await.map_err(late)??;
        // It was taken; what the reply would add is no reason to send it again.
        Ok(R::decode(reply).unwrap_or_default())
    }

    fn request(&self, signal: Signal, message: &impl Message) -> Result<Request<Full<Bytes>>, Failure> {
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
        let kind = match self.protocol {
            Protocol::Http => "application/x-protobuf",
            Protocol::Grpc => {
                body.put_u8(0); // not compressed
                body.put_u32(u32::try_from(length).map_err(|_| Failure::never("the message is too large"))?);
                "application/grpc"
            }
        };
        // Grows as needed, so there is always room.
        message.encode(&mut body).map_err(|error| Failure::never(error.to_string()))?;
        let uri = format!("{}{}", self.endpoint, signal.path(self.protocol));
        let request = Request::builder().method(Method::POST).uri(uri);
        let mut request = request.body(Full::new(body.freeze())).map_err(|error| Failure::never(error.to_string()))?;
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let agent = concat!("tenon/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
        if self.protocol == Protocol::Grpc {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
        Ok(request)
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, Failure> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_REPLY_BYTES).collect().await;
        let body = body.map_err(|error| Failure::later(format!("its answer could not be read: {error}")))?;
        // A collector over HTTP may say that it will look at it later, or that it has nothing to say.
        let taken = match self.protocol {
            Protocol::Http => head.status.is_success(),
            Protocol::Grpc => head.status == StatusCode::OK,
        };
        if !taken {
            let again = matches!(head.status.as_u16(), 429 | 502..=504);
            return Err(Failure { again, reason: format!("it answered {}", head.status) });
        }
        if self.protocol == Protocol::Http {
            return Ok(body.to_bytes());
        }
        let trailers = body.trailers().cloned().unwrap_or_default();
        let found = |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|it| it.to_str().ok());
        match found("grpc-status") {
            Some("0") => {
                let reply = body.to_bytes();
                Ok(reply.slice(FRAME_HEAD_BYTES.min(reply.len())..))
            }
            Some(status) => {
                let detail: String = found("grpc-message").unwrap_or_default().chars().take(MAX_DETAIL_CHARS).collect();
                // Cancelled, deadline, exhausted, aborted, out of range, unavailable, lost: as OTLP's specification has it.
                let again = ["1", "4", "8", "10", "11", "14", "15"].contains(&status);
                Err(Failure { again, reason: format!("it answered gRPC status {status} {detail}") })
            }
            None => Err(Failure::never("it does not speak gRPC (its answer has no status)")),
        }
    }
}

/// TLS with the machine's root certificates, where it is wanted.
fn connector(tls: bool) -> Result<HttpsConnectorBuilder<WantsProtocols1>, String> {
    let ring = rustls::crypto::ring::default_provider();
    if tls {
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring);
        return Ok(builder.map_err(|error| format!("this machine has no root certificates: {error}"))?.https_or_http());
    }
    // Nobody is trusted where nobody is asked; reading the machine's roots would only take time.
    let config = ClientConfig::builder_with_provider(Arc::new(ring)).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http())
}

/// Scheme and host: gRPC's paths are its own.
fn origin(endpoint: &str) -> String {
    let scheme_end = endpoint.find("://").map_or(0, |found| found + 3);
    let end = endpoint[scheme_end..].find('/').map_or(endpoint.len(), |found| scheme_end + found);
    endpoint[..end].to_owned()
}

/// An error with what caused it, in one line: hyper's own text says only that connecting failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
