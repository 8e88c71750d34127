//! What can be set: section `[telemetry]`, and OpenTelemetry's own variables where the file says nothing.
//!
//! Owns defaults, rules and the reading of those variables; refuses to know how anything is exported.

use std::{fmt, time::Duration};

use percent_encoding::percent_decode_str;

use super::otlp;

/// The longest interval that makes sense: a collector's patience is shorter.
const MAX_INTERVAL_MS: u64 = 600_000;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// An object on each line.
    Json,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    #[default]
    Http,
}

/// Headers for the collector. They are credentials: from the environment only, and never printed.
#[derive(Clone, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the names: what was meant as a value may have slipped into one.
        write!(f, "{} headers", self.0.len())
    }
}

/// How the host tells of itself.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The collector; empty for none.
    pub otlp_endpoint: Option<String>,
    /// How it is spoken to.
    pub otlp_protocol: Option<Protocol>,
    /// How often spans and metrics are sent.
    pub otlp_interval_ms: u64,
    /// Headers for the collector.
    #[serde(skip)]
    pub otlp_headers: Headers,
    /// The share of traces begun here that is sampled.
    pub sample_ratio: Option<f64>,
    /// What this host is called in traces and metrics.
    pub service_name: Option<String>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Requests that take longer are logged with their stages; 0 for none.
    pub slow_request_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_protocol: None,
            otlp_interval_ms: 5000,
            otlp_headers: Headers::default(),
            sample_ratio: None,
            service_name: None,
            log_format: LogFormat::default(),
            slow_request_ms: 0,
        }
    }
}

impl Config {
    /// Reads OpenTelemetry's standard variables where nothing else was said.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        // By its specification an empty variable is none.
        let variable =
            |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        self.otlp_endpoint = self.otlp_endpoint.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        self.service_name = self.service_name.or_else(|| variable("OTEL_SERVICE_NAME"));
        if let (None, Some(protocol)) = (self.otlp_protocol, variable("OTEL_EXPORTER_OTLP_PROTOCOL")) {
            self.otlp_protocol = Some(match &protocol[..] {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::Http,
                other => {
                    let known = "`grpc` and `http/protobuf` are known";
                    return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`; {known}"));
                }
            });
        }
        if let (None, Some(ratio)) = (self.sample_ratio, variable("OTEL_TRACES_SAMPLER_ARG")) {
            let wrong = |_| format!("OTEL_TRACES_SAMPLER_ARG is `{ratio}`, no number");
            self.sample_ratio = Some(ratio.parse().map_err(wrong)?);
        }
        if let Some(headers) = variable("OTEL_EXPORTER_OTLP_HEADERS").filter(|_| self.otlp_headers.0.is_empty()) {
            self.otlp_headers = Headers(read_headers(&headers)?);
        }
        Ok(self)
    }

    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(endpoint) = self.endpoint() {
            otlp::check(endpoint, &self.otlp_headers).map_err(|reason| format!("telemetry.otlp_endpoint: {reason}"))?;
        }
        if !(1..=MAX_INTERVAL_MS).contains(&self.otlp_interval_ms) {
            return Err(format!("telemetry.otlp_interval_ms must be from 1 to {MAX_INTERVAL_MS}"));
        }
        match self.sample_ratio {
            Some(ratio) if !(0.0..=1.0).contains(&ratio) => {
                Err(format!("telemetry.sample_ratio must be from 0 to 1, is {ratio}"))
            }
            _ => Ok(()),
        }
    }

    /// The collector, where there is one.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }

    /// `otlp_interval_ms` as a duration.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.otlp_interval_ms)
    }
}

/// `name=value,name=value`, values percent-encoded. The values are secret: errors count, they do not quote.
fn read_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).enumerate();
    let read = |(index, pair): (usize, &str)| {
        let wrong = || format!("OTEL_EXPORTER_OTLP_HEADERS: entry {} is not `name=value`", index + 1);
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        Ok((name.trim().to_lowercase(), value.into_owned()))
    };
    pairs.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        move |name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn standard_variables_fill_what_the_file_leaves_open() {
        let variables = environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x%2Cy, x-team = a"),
            ("OTEL_SERVICE_NAME", "  "),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let config = Config::default().with_environment(&variables).unwrap();
        config.validate().unwrap();
        assert_eq!((config.endpoint(), config.otlp_protocol), (Some("http://127.0.0.1:4317"), Some(Protocol::Grpc)));
        assert_eq!((config.service_name.as_deref(), config.sample_ratio), (None, Some(0.25)));
        let headers = [("authorization", "Bearer x,y"), ("x-team", "a")];
        assert_eq!(config.otlp_headers.0, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(!format!("{config:?}").contains("Bearer"));
        let said: Config =
            toml::from_str("otlp_endpoint = \"\"\notlp_protocol = \"http\"\nsample_ratio = 1\nservice_name = \"a\"")
                .unwrap();
        let config = said.with_environment(variables).unwrap();
        assert_eq!(
            (config.endpoint(), config.otlp_protocol, config.sample_ratio),
            (None, Some(Protocol::Http), Some(1.0))
        );
        assert_eq!(config.service_name.as_deref(), Some("a"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            ("otlp_endpoint = \"collector:4317\"", "otlp_endpoint"),
            ("otlp_endpoint = \"ftp://a\"", "http://"),
            ("otlp_endpoint = \"/v1\"", "otlp_endpoint"),
            ("otlp_interval_ms = 0", "otlp_interval_ms"),
            ("sample_ratio = 1.5", "sample_ratio"),
            ("sample_ratio = nan", "sample_ratio"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap().validate().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER_ARG", "often"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ] {
            let error = Config::default().with_environment(environment(&[(name, value)])).unwrap_err();
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
        }
        let headers = Headers(vec![("a b".into(), "c".into())]);
        let config = Config { otlp_endpoint: Some("http://a".into()), otlp_headers: headers, ..Config::default() };
        let error = config.validate().unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS: entry 1") && !error.contains("a b"), "{error}");
        for endpoint in ["http://me:secret@a/", "me:secret@a", "a/?key=secret"] {
            let config = Config { otlp_endpoint: Some(endpoint.into()), ..Config::default() };
            let error = config.validate().unwrap_err();
            assert!(error.contains("otlp_endpoint") && !error.contains("secret"), "{error}");
        }
    }
}
