//! `function.toml`: what a tenant says of a function. Owns reading and the rules that need no model to check.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{
    Config,
    case::{Case, MAX_CASES},
};
use crate::{
    caching::{Caching, RowsBy},
    nearest::nearest_hint,
    reuse::Reuse,
    tensor::TensorType,
};

/// A function's name, or a tenant's: what fits in a path, a label and a folder.
const MAX_NAME_BYTES: usize = 64;
/// Models that one function may be bound to.
const MAX_MODELS: usize = 16;
/// The one protocol whose requests can be passed through.
const OPEN_INFERENCE: &str = "oip";
/// Requests that may wait for a place of one function: each holds its head.
const MAX_WAITING: u64 = 1024;
/// Keys under `[config]`, and bytes of all of them.
const MAX_CONFIG_KEYS: usize = 256;
const MAX_CONFIG_BYTES: usize = 64 << 10;

/// `function.toml`, read and checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The component's file, beside the manifest.
    pub component: String,
    /// The models, by the plugin's name for them.
    #[serde(default)]
    pub models: BTreeMap<String, BoundModel>,
    /// What an invocation may use.
    #[serde(default)]
    pub limits: Limits,
    /// The plugin's own keys and values.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Whose requests are passed to the model as they are: `oip`, or nobody's.
    #[serde(default)]
    pub passthrough: Option<String>,
    /// Whether, and for how long, an instance serves one invocation after another.
    #[serde(default)]
    pub reuse: Option<Reuse>,
    /// How its answers and rows are remembered.
    #[serde(default)]
    pub cache: Caching,
    /// How errors look to its callers.
    #[serde(default)]
    pub errors: ErrorShape,
    /// Requests with the answers that are expected, run before a revision may serve.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// How errors look to callers: as what clients of which service know. Statuses and headers are the same in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorShape {
    /// `application/problem+json`, RFC 9457.
    #[default]
    Problem,
    /// OpenAI's.
    OpenAi,
    /// That of Text Embeddings Inference.
    Tei,
    /// Cohere's.
    Cohere,
    /// Jina's.
    Jina,
}

/// A model as the plugin sees it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundModel {
    /// `name@serving` or `name@3`.
    pub model: String,
    /// What the plugin will send.
    #[serde(default, deserialize_with = "types")]
    pub inputs: BTreeMap<String, TensorType>,
    /// What the plugin will read.
    #[serde(default, deserialize_with = "types")]
    pub outputs: BTreeMap<String, TensorType>,
}

/// What an invocation may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From the head of the request to its answer.
    pub timeout_ms: u64,
    /// The longest body.
    pub body_bytes: u64,
    /// Everything held for the invocation: linear memory, body, tensors, answer.
    pub memory_bytes: u64,
    /// Processor time of guest code and host calls.
    pub cpu_ms: u64,
    /// Rounds of inference.
    pub max_steps: u32,
    /// Rows of all inferences together.
    pub max_rows: u64,
    /// Invocations that run at once on one host; as many as the host can, unless stated.
    pub max_concurrency: Option<u32>,
    /// Requests that may wait for one of these places, and for how long.
    pub max_waiting: u32,
    /// How long one may wait.
    pub wait_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            body_bytes: 1 << 20,
            memory_bytes: 128 << 20,
            cpu_ms: 1000,
            max_steps: 8,
            max_rows: 1024,
            max_concurrency: None,
            max_waiting: 0,
            wait_timeout_ms: 1000,
        }
    }
}

impl Limits {
    /// `timeout_ms` as a duration.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn types<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, TensorType>, D::Error> {
    let written = BTreeMap::<String, String>::deserialize(deserializer)?;
    let read = written.into_iter().map(|(name, text)| match text.parse() {
        Ok(kind) => Ok((name, kind)),
        Err(error) => Err(serde::de::Error::custom(format!("`{name}`: {error}"))),
    });
    read.collect()
}

/// Why a `function.toml` was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ManifestError {
    #[error("function.toml: {0}")]
    Syntax(String),
    #[error("function.toml: {key}: {reason}")]
    Value { key: &'static str, reason: String },
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn read(text: &str, host: &Config) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let hint = nearest_hint(error.message());
            ManifestError::Syntax(format!("{}{hint}", error.to_string().trim_end()))
        })?;
        manifest.check(host)?;
        Ok(manifest)
    }

    /// Whether bodies are requests of the Open Inference Protocol, which the host reads instead of `preprocessing`.
    pub fn passes_through(&self) -> bool {
        self.passthrough.is_some()
    }

    fn check(&self, host: &Config) -> Result<(), ManifestError> {
        let wrong = |key, reason: String| Err(ManifestError::Value { key, reason });
        match &self.passthrough {
            Some(other) if other != OPEN_INFERENCE => {
                let other: String = other.chars().take(MAX_NAME_BYTES).collect();
                return wrong("passthrough", format!("`{other}` is not known; there is `{OPEN_INFERENCE}`"));
            }
            Some(_) if self.models.len() != 1 => {
                let bound = self.models.len();
                return wrong("passthrough", format!("needs exactly one bound model, there are {bound}"));
            }
            _ => {}
        }
        if self.component.is_empty() || self.component.contains(['/', '\\']) || self.component.starts_with('.') {
            return wrong("component", format!("`{}` is not the name of a file beside function.toml", self.component));
        }
        if self.models.len() > MAX_MODELS {
            return wrong("models", format!("a function is bound to at most {MAX_MODELS} models"));
        }
        let config_bytes = self.config.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if self.config.len() > MAX_CONFIG_KEYS || config_bytes > MAX_CONFIG_BYTES {
            return wrong("config", format!("at most {MAX_CONFIG_KEYS} keys and {MAX_CONFIG_BYTES} bytes"));
        }
        if let Some(Err(reason)) = self.reuse.map(|reuse| reuse.check()) {
            return wrong("reuse", reason);
        }
        if let Err(reason) = self.cache.check() {
            return wrong("cache", reason);
        }
        if self.cache.rows != RowsBy::Off && self.models.is_empty() {
            return wrong("cache", "rows are a model's, and no model is bound".into());
        }
        if self.cases.len() > MAX_CASES {
            return wrong("case", format!("at most {MAX_CASES} cases, not {}", self.cases.len()));
        }
        if let Some(reason) = self.cases.iter().find_map(|case| case.check().err()) {
            return wrong("case", reason);
        }
        self.limits.check(host)
    }
}

impl Limits {
    fn check(&self, host: &Config) -> Result<(), ManifestError> {
        let bounds = [
            ("limits.timeout_ms", self.timeout_ms, host.max_timeout_ms),
            ("limits.body_bytes", self.body_bytes, host.max_body_bytes),
            ("limits.memory_bytes", self.memory_bytes, host.tenant_memory_bytes),
            ("limits.cpu_ms", self.cpu_ms, host.max_timeout_ms),
            ("limits.max_steps", self.max_steps.into(), 1 << 16),
            ("limits.max_rows", self.max_rows, 1 << 20),
            ("limits.max_concurrency", self.max_concurrency.unwrap_or(1).into(), 1 << 20),
            ("limits.max_waiting", u64::from(self.max_waiting).max(1), MAX_WAITING),
            // Where nobody waits, nobody says for how long.
            ("limits.wait_timeout_ms", self.max_concurrency.map_or(1, |_| self.wait_timeout_ms), host.max_timeout_ms),
        ];
        match bounds.iter().find(|(_, value, most)| *value == 0 || value > most) {
            Some((key, value, most)) => {
                Err(ManifestError::Value { key, reason: format!("must be 1 to {most} on this host, not {value}") })
            }
            None => Ok(()),
        }
    }
}

/// Whether a tenant or a function may have this name.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    name.len() <= MAX_NAME_BYTES
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Manifest::read(text, &Config::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let text = r#"
            component = "reranker.wasm"
            [models.encoder]
            model = "minilm@serving"
            inputs = { input_ids = "INT64[rows, seq]" }
            outputs = { embedding = "FP32[rows, 384]" }
            [limits]
            timeout_ms = 5000
            [config]
            greeting = "hello"
        "#;
        let manifest = Manifest::read(text, &Config::default()).unwrap();
        assert_eq!(manifest.models["encoder"].inputs["input_ids"].to_string(), "INT64[rows, seq]");
        assert_eq!(manifest.limits.timeout_ms, 5000);
        assert_eq!(manifest.limits.max_rows, 1024);
        assert_eq!(manifest.errors, ErrorShape::Problem);
        for (name, shape) in [("openai", ErrorShape::OpenAi), ("tei", ErrorShape::Tei), ("jina", ErrorShape::Jina)] {
            let text = format!("component = \"x.wasm\"\nerrors = \"{name}\"");
            assert_eq!(Manifest::read(&text, &Config::default()).unwrap().errors, shape);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "component"),
            ("component = 3", "line 1"),
            ("component = \"../x.wasm\"", "beside function.toml"),
            ("component = \"x.wasm\"\nlimit = {}", "`limits`"),
            ("component = \"x.wasm\"\n[limits]\ntimeout = 1", "`timeout_ms`"),
            ("component = \"x.wasm\"\n[limits]\ntimeout_ms = 0", "must be 1 to"),
            ("component = \"x.wasm\"\n[limits]\nmemory_bytes = 99999999999999", "limits.memory_bytes"),
            ("component = \"x.wasm\"\n[limits]\ntimeout_ms = -1", "line 3"),
            ("component = \"x.wasm\"\nreuse = { max_age_s = 0 }", "max_age_s must be 1 to"),
            ("component = \"x.wasm\"\nreuse = { max_age = 1 }", "`max_age_s`"),
            ("component = \"x.wasm\"\npassthrough = \"oip\"", "exactly one bound model"),
            ("component = \"x.wasm\"\npassthrough = \"grpc\"", "`oip`"),
            ("component = \"x.wasm\"\nerrors = \"openapi\"", "`openai`"),
            ("component = \"x.wasm\"\nerror = \"tei\"", "`errors`"),
            ("component = \"x.wasm\"\n[cache]\nttl = 3", "`ttl_s`"),
            ("component = \"x.wasm\"\n[cache]\nkey = \"request\"", "cache: key"),
            ("component = \"x.wasm\"\n[cache]\nrows = \"input\"", "no model is bound"),
            ("component = \"x.wasm\"\n[models.a]\nmodel = \"m\"\ninputs = { x = \"FP32[3]\" }", "`x`"),
            ("component = \"x.wasm\"\n[models.a]\ninputs = {}", "model"),
        ] {
            let said = refusal(text);
            assert!(said.contains(named), "{text:?} gave {said}");
        }
    }

    #[test]
    fn names_fit_in_a_path() {
        assert!(is_name("reranker-2") && is_name("0_a"));
        for wrong in ["", "-a", "A", "a/b", "..", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
