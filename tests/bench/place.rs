//! The folders of a benchmark's host: models, functions and data, linked from what `make bench` has made. Profiles are
//! kept from run to run, so that a host measures a model once and not before every figure.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tenon_host::config::{Config, Flags};

use crate::made;

/// Small models of the tests' functions.
const TEST_MODELS: [&str; 4] = ["identity", "ragged-identity", "lookup", "slow"];
/// Functions of the tests that the benchmarks call.
const TEST_FUNCTIONS: [&str; 3] = ["empty", "identity", "probe"];

/// Changes a `model.toml` so that rows wait as long as their requests do: where callers wait for each other on a busy
/// machine, a figure is to be slow and not to be none.
pub(crate) const PATIENT: [(&str, &str); 1] = [("queue_timeout_ms = 2000", "queue_timeout_ms = 60000")];

/// Threads as the host's own `main` starts them.
pub(crate) fn reactor(config: &Config) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads.reactor())
        .enable_all()
        .build()
        .expect("threads can be started")
}

/// Where a host finds everything; gone when dropped.
pub(crate) struct Place(TempDir);

impl Place {
    /// Nothing but what earlier runs measured of models.
    pub(crate) fn empty() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder can be made"));
        for folder in ["models", "functions", "data"] {
            fs::create_dir(place.path(folder)).expect("a folder can be made");
        }
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tenon/bench-data/profiles");
        fs::create_dir_all(&profiles).expect("a folder can be made");
        link(&profiles, &place.path("data/profiles"));
        place
    }

    /// The tests' small models and functions.
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        for model in TEST_MODELS {
            link(&made(".tenon/test-models").join(model), &place.path("models").join(model));
        }
        for function in TEST_FUNCTIONS {
            place.function("test", function, &made(".tenon/test-functions/test").join(function));
        }
        place
    }

    /// The demo's function and model; it remembers nothing, so that each request is one for the model. Where there are
    /// many clients, each of `changes` (a text and what stands in its place) gives the model's queue the patience that
    /// the figure needs.
    pub(crate) fn with_demo(self, changes: &[(&str, &str)]) -> Self {
        let place = self.with_model("models/minilm", changes);
        place.function("demo", "reranker", &made("functions/demo/reranker"));
        forgetful(&place.path("functions/demo/reranker/function.toml"));
        place
    }

    /// A function of the services with its models, of whose answers nothing is remembered.
    pub(crate) fn with_service(self, name: &str, models: &[&str], changes: &[(&str, &str)]) -> Self {
        let folder = |model| format!(".tenon/services/models/{model}");
        let place = models.iter().fold(self, |place, model| place.with_model(&folder(model), changes));
        place.function("demo", name, &made(".tenon/services/functions/demo").join(name));
        forgetful(&place.path("functions/demo").join(name).join("function.toml"));
        place
    }

    /// A model from a folder of this repository, with changes to its `model.toml`.
    pub(crate) fn with_model(self, from: &str, changes: &[(&str, &str)]) -> Self {
        let folder = made(from);
        let to = self.path("models").join(folder.file_name().expect("it has a name"));
        fs::create_dir(&to).expect("a folder can be made");
        link(&folder.join("1"), &to.join("1"));
        let mut manifest = fs::read_to_string(folder.join("model.toml")).expect("a model has a model.toml");
        for (text, other) in changes {
            assert!(manifest.contains(text), "{from}/model.toml has no `{text}`");
            manifest = manifest.replace(text, other);
        }
        fs::write(to.join("model.toml"), manifest).expect("a file can be written");
        self
    }

    /// A function of a tenant, from a folder that has its files.
    pub(crate) fn function(&self, tenant: &str, name: &str, from: &Path) {
        let to = self.path("functions").join(tenant).join(name);
        fs::create_dir_all(&to).expect("a folder can be made");
        for file in fs::read_dir(from).expect("`make` laid it out") {
            let file = file.expect("a folder can be read");
            fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
        }
    }

    /// Adds to a function's `function.toml`, before its tables of limits.
    pub(crate) fn add_to(&self, tenant: &str, name: &str, section: &str) {
        let file = self.path("functions").join(tenant).join(name).join("function.toml");
        let manifest = fs::read_to_string(&file).expect("a function has a function.toml");
        assert!(manifest.contains("[limits]"), "{} has no limits", file.display());
        fs::write(&file, manifest.replace("[limits]", &format!("{section}\n[limits]"))).expect("a file can be written");
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// For a host in this process, on free ports. Variables apply, so that a setting can be tried:
    /// `TENON_THREADS__REACTOR=1 make bench BENCH=identity`.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::load(&Flags::default()).expect("the variables are fine");
        config.engine.models = self.path("models");
        config.engine.data = self.path("data");
        config.dev_functions = Some(self.path("functions"));
        config.http.listen.set_port(0);
        config.http.control_listen.set_port(0);
        config
    }

    /// For a host that is a process of its own.
    pub(crate) fn flags(&self) -> Vec<String> {
        let folders = [("--models", "models"), ("--data", "data"), ("--dev-functions", "functions")];
        let pairs =
            folders.into_iter().flat_map(|(flag, folder)| [flag.into(), self.path(folder).display().to_string()]);
        pairs.collect()
    }
}

/// `function.toml` without its `[cache]`, if it has one: what is asked again is computed again.
fn forgetful(file: &Path) {
    let manifest = fs::read_to_string(file).expect("a function has a function.toml");
    let Some((before, rest)) = manifest.split_once("[cache]\n") else { return };
    let (_, after) = rest.split_once("\n[").expect("something follows");
    fs::write(file, format!("{before}[{after}")).expect("a file can be written");
}

fn link(from: &Path, to: &Path) {
    symlink(from, to).expect("a link can be made");
}
