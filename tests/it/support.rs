//! A host for one test: in this process, on free ports, with just the models and functions that the test names.
//!
//! `TestHost::new().models(&["identity"]).functions(&["identity"]).start().await`

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tenon_host::{
    boot::{self, Host},
    config::Config,
};

/// Invocations at once; fewer than a host has, so that tests reach the limit.
const TEST_INSTANCES: u32 = 64;
/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants of its host.
pub struct TestHost {
    folder: TempDir,
    config: Config,
}

/// A host that serves.
pub struct Served {
    pub host: Host,
    pub client: reqwest::Client,
    pub base: String,
    pub control: String,
    pub folder: TempDir,
}

/// A folder that `make test` has made.
pub fn made(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is missing: run `make test` once", path.display());
    path
}

impl TestHost {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.engine.models = folder.path().join("models");
        config.engine.data = folder.path().join("data");
        config.dev_functions = Some(folder.path().join("functions"));
        config.http.listen.set_port(0);
        config.http.control_listen.set_port(0);
        config.sandbox.max_instances = TEST_INSTANCES;
        for sub in ["models", "data", "functions/test"] {
            std::fs::create_dir_all(folder.path().join(sub)).unwrap();
        }
        // Profiles are measured once for all tests; everything else is the test's own.
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tenon/test-data/profiles");
        std::fs::create_dir_all(&profiles).unwrap();
        symlink(profiles, folder.path().join("data/profiles")).unwrap();
        Self { folder, config }
    }

    /// Small models that `tenon-training fixtures` made, by name.
    pub fn models(self, names: &[&str]) -> Self {
        for name in names {
            let from = made(".tenon/test-models").join(name);
            symlink(from, self.folder.path().join("models").join(name)).unwrap();
        }
        self
    }

    /// Plugins of `tests/plugins`, by name, as functions of the tenant `test`.
    pub fn functions(self, names: &[&str]) -> Self {
        for name in names {
            self.place("test", name, &made(".tenon/test-functions/test").join(name));
        }
        self
    }

    /// A model or function of the demo.
    pub fn demo(self) -> Self {
        symlink(made("models/minilm"), self.folder.path().join("models/minilm")).unwrap();
        self.place("demo", "reranker", &made("functions/demo/reranker"));
        self
    }

    /// Copies a function's folder, so that a test may change it.
    pub fn place(&self, tenant: &str, function: &str, from: &Path) {
        let to = self.folder.path().join("functions").join(tenant).join(function);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    /// Changes the configuration.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub async fn start(self) -> Served {
        let host = boot::start(self.config).await.unwrap();
        let base = format!("http://{}", host.data_address());
        let control = format!("http://{}", host.control_address());
        Served { host, client: reqwest::Client::new(), base, control, folder: self.folder }
    }
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
        let text = self.host.telemetry().text();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0.0)
    }

    /// Nothing is left of any invocation: no place, no bytes, no waiting row.
    pub async fn all_back_to_zero(&self) {
        let health = format!("{}/health", self.control);
        eventually("everything is back to zero", async || {
            let answer = self.client.get(&health).bearer_auth(self.token()).send().await.unwrap();
            let health = Answer::of(answer).await.json();
            let waiting: u64 = health["models"].as_array().unwrap().iter().map(|it| it["queue_rows"].as_u64().unwrap()).sum();
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
