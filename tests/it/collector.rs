//! A collector for one test: a real receiver of OTLP on loopback, over gRPC (tonic with the protocol's generated services,
//! none of which the host's exporter uses) or over HTTP, that keeps what it gets and can be told to misbehave.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::Message as _;
use tenon_host::{config::Config, telemetry::Protocol};
use tokio::{net::TcpListener, sync::watch};

/// What it does with what it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Takes,
    /// Answers that it should be tried again later.
    Overloaded,
    /// Answers that it never wants this.
    Refuses,
    /// Takes the message and keeps all spans but one.
    RejectsOne,
    /// Takes the request and answers nothing.
    Hangs,
}

/// Everything that came in.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub spans: Vec<Span>,
    /// Of the last message.
    pub metrics: Vec<Metric>,
    pub resource: Vec<KeyValue>,
    pub requests: usize,
    pub authorization: Option<String>,
}

/// A collector that listens until it is dropped.
#[derive(Clone)]
pub struct Collector {
    state: Arc<Mutex<(Mood, Received)>>,
    protocol: Protocol,
    pub address: std::net::SocketAddr,
    _stop: Arc<watch::Sender<()>>,
}

impl Collector {
    pub async fn start(protocol: Protocol) -> Self {
        Self::start_at(protocol, "127.0.0.1:0").await
    }

    pub async fn start_at(protocol: Protocol, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (stop, mut stopped) = watch::channel(());
        let address = listener.local_addr().unwrap();
        let collector = Self { state: Arc::default(), protocol, address, _stop: Arc::new(stop) };
        let serving = Serving(collector.state.clone());
        let end = async move {
            let _ = stopped.changed().await;
        };
        match protocol {
            Protocol::Grpc => {
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                let router = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(serving.clone()))
                    .add_service(MetricsServiceServer::new(serving));
                tokio::spawn(router.serve_with_incoming_shutdown(incoming, end));
            }
            Protocol::Http => {
                let router = Router::new()
                    .route("/base/v1/traces", post(traces))
                    .route("/base/v1/metrics", post(metrics))
                    .with_state(serving);
                tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(end).await });
            }
        }
        collector
    }

    /// Points a host here.
    pub fn configure(&self, config: &mut Config) {
        Self::expect_at(self.address, self.protocol, config);
    }

    /// Lets a host send where a collector listens, or one day will.
    pub fn expect_at(address: std::net::SocketAddr, protocol: Protocol, config: &mut Config) {
        let path = if protocol == Protocol::Http { "/base/" } else { "" };
        config.telemetry.otlp_endpoint = Some(format!("http://{address}{path}"));
        config.telemetry.otlp_protocol = Some(protocol);
        config.telemetry.otlp_interval_ms = 50;
    }

    pub fn received(&self) -> Received {
        self.state.lock().unwrap().1.clone()
    }

    /// The spans of this name.
    pub fn spans(&self, name: &str) -> Vec<Span> {
        self.received().spans.into_iter().filter(|span| span.name == name).collect()
    }

    pub fn is_now(&self, mood: Mood) {
        self.state.lock().unwrap().0 = mood;
    }
}

#[derive(Clone)]
struct Serving(Arc<Mutex<(Mood, Received)>>);

impl Serving {
    /// Keeps what came, unless it is in no mood to.
    async fn take(&self, authorization: Option<String>, keep: impl FnOnce(&mut Received)) -> Mood {
        let mood = {
            let mut state = self.0.lock().unwrap();
            state.1.requests += 1;
            state.1.authorization = authorization;
            if matches!(state.0, Mood::Takes | Mood::RejectsOne) {
                keep(&mut state.1);
            }
            state.0
        };
        if mood == Mood::Hangs {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        mood
    }

    async fn spans(
        &self,
        authorization: Option<String>,
        request: ExportTraceServiceRequest,
    ) -> (Mood, ExportTraceServiceResponse) {
        let mood = self
            .take(authorization, |received| {
                for resource in request.resource_spans {
                    received.resource = resource.resource.unwrap().attributes;
                    received.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            })
            .await;
        let rejected = i64::from(mood == Mood::RejectsOne);
        let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: "one too many".into() };
        (mood, ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) })
    }

    async fn metrics(&self, authorization: Option<String>, request: ExportMetricsServiceRequest) -> Mood {
        let metrics = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metrics = metrics.flat_map(|scope| scope.metrics).collect();
        self.take(authorization, |received| received.metrics = metrics).await
    }
}

fn of_grpc<T>(mood: Mood, answer: T) -> Result<tonic::Response<T>, tonic::Status> {
    match mood {
        Mood::Overloaded => Err(tonic::Status::unavailable("later")),
        Mood::Refuses => Err(tonic::Status::permission_denied("not you")),
        _ => Ok(tonic::Response::new(answer)),
    }
}

fn metadata<T>(request: &tonic::Request<T>) -> Option<String> {
    Some(request.metadata().get("authorization")?.to_str().unwrap().to_owned())
}

#[tonic::async_trait]
impl TraceService for Serving {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let (mood, answer) = self.spans(metadata(&request), request.into_inner()).await;
        of_grpc(mood, answer)
    }
}

#[tonic::async_trait]
impl MetricsService for Serving {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let mood = self.metrics(metadata(&request), request.into_inner()).await;
        of_grpc(mood, ExportMetricsServiceResponse::default())
    }
}

fn of_http(mood: Mood, answer: &impl prost::Message) -> axum::response::Response {
    match mood {
        Mood::Overloaded => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Refuses => StatusCode::UNAUTHORIZED.into_response(),
        _ => ([("content-type", "application/x-protobuf")], answer.encode_to_vec()).into_response(),
    }
}

fn authorization(headers: &HeaderMap) -> Option<String> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    Some(headers.get("authorization")?.to_str().unwrap().to_owned())
}

async fn traces(State(serving): State<Serving>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let (mood, answer) = serving.spans(authorization(&headers), request).await;
    of_http(mood, &answer)
}

async fn metrics(State(serving): State<Serving>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let mood = serving.metrics(authorization(&headers), request).await;
    of_http(mood, &ExportMetricsServiceResponse::default())
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.clone()).and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
