//! A host for one test: in this process, on free ports, with just the models and functions that the test names.
//!
//! `TestHost::new().models(&["identity"]).functions(&["identity"]).start().await`

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tenon_host::{boot, config::Config};

pub use crate::served::{Answer, Served, client, eventually};

/// Invocations at once; fewer than a host has, so that tests reach the limit.
const TEST_INSTANCES: u32 = 64;

/// Splits at white space, and knows one word.
const TOKENIZER: &str = r#"{ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
    "model": { "type": "WordLevel", "vocab": { "a": 0, "[UNK]": 1 }, "unk_token": "[UNK]" } }"#;

/// What a test wants of its host.
pub struct TestHost {
    folder: TempDir,
    config: Config,
}

/// Puts other text in the place of a file's: what is to be replaced must be there, or the test tests nothing.
pub fn rewrite(file: &Path, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{} has no `{from}`", file.display());
        text = text.replace(from, to);
    }
    std::fs::write(file, text).unwrap();
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

    /// The function that misbehaves on order, with all models that it asks.
    pub fn probe(self) -> Self {
        self.models(&["identity", "lookup", "ragged-identity", "slow"]).functions(&["probe"])
    }

    /// A small model whose `model.toml` is another one: each of `changes` is a text and what stands in its place.
    pub fn changed_model(self, name: &str, changes: &[(&str, &str)]) -> Self {
        let from = made(".tenon/test-models").join(name);
        self.model_of(name, &from, changes)
    }

    /// A small model with a tokenizer beside it that knows words of one letter.
    pub fn tokenizer(self, name: &str) -> Self {
        let test = self.changed_model(name, &[]);
        let version = test.folder.path().join("models").join(name).join("1");
        std::fs::remove_file(&version).unwrap();
        std::fs::create_dir(&version).unwrap();
        symlink(made(".tenon/test-models").join(name).join("1/model.pt"), version.join("model.pt")).unwrap();
        std::fs::write(version.join("tokenizer.json"), TOKENIZER).unwrap();
        test
    }

    fn model_of(self, name: &str, from: &Path, changes: &[(&str, &str)]) -> Self {
        let to = self.folder.path().join("models").join(name);
        if to.is_symlink() {
            std::fs::remove_file(&to).unwrap();
        }
        std::fs::create_dir_all(&to).unwrap();
        symlink(from.join("1"), to.join("1")).unwrap();
        std::fs::copy(from.join("model.toml"), to.join("model.toml")).unwrap();
        rewrite(&to.join("model.toml"), changes);
        self
    }

    /// Changes the `function.toml` of a function of the tenant `test`, likewise.
    pub fn changed_function(self, name: &str, changes: &[(&str, &str)]) -> Self {
        rewrite(&self.function_folder(name).join("function.toml"), changes);
        self
    }

    /// A plugin of `tests/plugins` as a function of another name.
    pub fn function_as(self, tenant: &str, function: &str, plugin: &str) -> Self {
        self.place(tenant, function, &made(".tenon/test-functions/test").join(plugin));
        self
    }

    /// The demo's function, which remembers nothing here: each request is one for the model.
    pub fn demo(self) -> Self {
        self.place("demo", "reranker", &made("functions/demo/reranker"));
        let manifest = self.folder.path().join("functions/demo/reranker/function.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let (before, rest) = text.split_once("[cache]\n").unwrap();
        let (_, after) = rest.split_once("\n[").unwrap();
        std::fs::write(&manifest, format!("{before}[{after}")).unwrap();
        self.minilm()
    }

    /// The demo's model, with patience for machines that have other things to do.
    pub fn minilm(self) -> Self {
        self.model_of("minilm", &made("models/minilm"), &[("queue_timeout_ms = 2000", "queue_timeout_ms = 60000")])
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

    /// Where everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder alone, for a host that is started by other means.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    /// A function's folder, below the tenant `test`.
    pub fn function_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("functions/test").join(name)
    }

    pub async fn start(self) -> Served {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(self) -> anyhow::Result<Served> {
        let host = boot::start(self.config).await?;
        let base = host.data_url();
        let control = host.control_url();
        Ok(Served { host, client: client().build().unwrap(), base, control, folder: self.folder })
    }
}
