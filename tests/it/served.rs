//! A host under test, from outside: what callers and operators ask it, what they are answered, and what its metrics say
//! once everything has calmed down.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tenon_host::boot::Host;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// `limits.timeout_ms` of the probe, and of guests by hand.
const PROBES_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of HTTP. It is built with TLS, which wants to know who computes even where nobody asks for it.
pub fn client() -> reqwest::ClientBuilder {
    // Fails only where it was said before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// A host that serves.
pub struct Served {
    pub host: Host,
    pub client: reqwest::Client,
    pub base: String,
    pub control: String,
    pub folder: TempDir,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().into() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is the problem `code` with `status`, in the documented shape.
    pub fn is_problem(&self, status: u16, code: &str) -> serde_json::Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }
}

impl Served {
    /// Calls a function of the tenant `test`: `probe/echo?x=1`.
    pub async fn call(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.post(&format!("/v1/functions/test/{path}"), body).await
    }

    /// The same, and the answer comes within the deadline that all test functions of bad behaviour have.
    pub async fn in_time(&self, path: &str) -> Answer {
        self.in_time_with(path, "").await
    }

    /// The same with a body.
    pub async fn in_time_with(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let start = Instant::now();
        let answer = self.call(path, body).await;
        assert!(start.elapsed() < PROBES_TIMEOUT, "{path} took {:?}", start.elapsed());
        answer
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let sent = self.client.post(format!("{}{path}", self.base)).body(body).send().await;
        Answer::of(sent.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    /// The control plane's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/admin-token")).unwrap().trim().into()
    }

    /// The value of a metric's line, labels included: `tenon_invocations_in_flight`.
    pub fn metric(&self, line: &str) -> f64 {
        self.metrics(line).find(|(labels, _)| labels.is_empty()).map_or(0.0, |(_, value)| value)
    }

    /// The sum of all lines that begin so: `tenon_batches_total{model="slow",`.
    pub fn sum(&self, start: &str) -> f64 {
        self.metrics(start).map(|(_, value)| value).sum()
    }

    fn metrics(&self, start: &str) -> impl Iterator<Item = (String, f64)> + use<> {
        let (start, text) = (start.to_owned(), self.host.telemetry().text());
        let found = text.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(&start)?.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        });
        found.collect::<Vec<_>>().into_iter()
    }

    /// Batches of a model so far.
    pub fn batches(&self, model: &str) -> f64 {
        self.sum(&format!("tenon_batches_total{{model=\"{model}\","))
    }

    /// Batches of a model with more than `rows` rows, which must be a bound of a bucket.
    pub fn batches_over(&self, model: &str, rows: usize) -> f64 {
        let labels = format!("{{model=\"{model}\"");
        let (all, up_to) =
            (format!("tenon_batch_rows_count{labels}}}"), format!("tenon_batch_rows_bucket{labels},le=\"{rows}\"}}"));
        self.metric(&all) - self.metric(&up_to)
    }

    /// Waits until so many invocations hold a place.
    pub async fn in_flight(&self, count: usize) {
        eventually("invocations in flight", async || self.metric("tenon_invocations_in_flight") as usize == count)
            .await;
    }

    /// Asks the control plane, with its token.
    pub async fn control(&self, path: &str) -> Answer {
        let asked = self.client.get(format!("{}{path}", self.control)).bearer_auth(self.token());
        Answer::of(asked.send().await.unwrap()).await
    }

    /// Asks the control plane with a method, a body and this bearer token.
    pub async fn asks(&self, method: &str, path: &str, body: Option<serde_json::Value>, bearer: &str) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.client.request(method, format!("{}{path}", self.control)).bearer_auth(bearer);
        let asked = match body {
            Some(body) => asked.json(&body),
            None => asked,
        };
        Answer::of(asked.send().await.unwrap()).await
    }

    /// The host's folder of functions, below the tenant `test`.
    pub fn function_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("functions/test").join(name)
    }

    /// What `/v1/functions` tells of a function of the tenant `test`.
    pub async fn listed(&self, name: &str) -> serde_json::Value {
        let list = self.get("/v1/functions").await.json();
        let found =
            list["functions"].as_array().unwrap().iter().find(|it| it["tenant"] == "test" && it["function"] == name);
        found.cloned().unwrap_or_default()
    }

    /// Nothing is left of any invocation: no place, no bytes, no waiting row.
    pub async fn all_back_to_zero(&self) {
        eventually("everything is back to zero", async || {
            let health = self.control("/health").await.json();
            let waiting: u64 =
                health["models"].as_array().unwrap().iter().map(|it| it["queue_rows"].as_u64().unwrap()).sum();
            health["invocations_in_flight"] == 0 && health["host_memory_bytes"] == 0 && waiting == 0
        })
        .await;
    }
}

/// Waits for a condition, and fails the test if it does not come true.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
