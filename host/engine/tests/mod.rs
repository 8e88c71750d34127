//! The engine over the fake backend: real threads, a real queue, no libtorch. Waits are on conditions, never on time.

mod changes;
mod devices;
mod ends;
mod explain;
mod lanes;
mod memory;
mod serving;
mod virtual_time;

use std::{fs, path::Path, sync::Arc, time::Instant};

use tempfile::TempDir;

use super::{
    Config, Engine, InferError, Model, Pending, Version,
    fake::{Behaviour, Fake},
};
use crate::{
    account::{Account, Holder},
    invocation::Invocation,
    telemetry::Telemetry,
    tensor::{Datatype, Layout, Tensor},
};

/// Echoes its ragged rows and gives each row's sum.
const ECHO: &str = r#"
[dimensions]
n = { max = 8 }
[[input]]
name = "x"
datatype = "INT64"
shape = ["rows", "n"]
range = [-1000, 1000]
[[output]]
name = "same"
datatype = "INT64"
shape = ["rows", "n"]
[[output]]
name = "sum"
datatype = "FP32"
shape = ["rows", 2]
[batching]
max_batch_size = 8
max_queue_size = 16
max_request_rows = 40
queue_timeout_ms = 60000
"#;

/// An engine over the fake, with everything around it.
pub(super) struct Bench {
    pub(super) engine: Arc<Engine>,
    pub(super) fake: Fake,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) host: Arc<Account>,
    folder: TempDir,
}

impl Bench {
    /// One lane, the model `echo`, changed as `edit` says.
    pub(super) fn new(behaviour: Behaviour, edit: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "models/echo/model.toml", &edit(ECHO.into()));
        put(folder.path(), "models/echo/1/model.pt", "");
        Self::over(folder, behaviour)
    }

    pub(super) fn over(folder: TempDir, behaviour: Behaviour) -> Self {
        Self::over_lanes(folder, behaviour, 1)
    }

    pub(super) fn over_lanes(folder: TempDir, behaviour: Behaviour, lanes: usize) -> Self {
        let (fake, telemetry) = (Fake::new(behaviour), Arc::new(Telemetry::new()));
        let config = Config { lanes: Some(lanes), ..config(folder.path()) };
        let engine = Engine::start(&config, Arc::new(fake.clone()), &telemetry).unwrap();
        fake.clear();
        Self { engine, fake, telemetry, host: Account::host(1 << 20), folder }
    }

    pub(super) fn model(&self) -> Arc<Model> {
        self.engine.model("echo", Version::Serving).unwrap()
    }

    pub(super) fn invocation(&self) -> Arc<Invocation> {
        let far = Instant::now() + std::time::Duration::from_secs(3600);
        self.invocation_until(far)
    }

    pub(super) fn invocation_until(&self, deadline: Instant) -> Arc<Invocation> {
        let account = self.host.child(Holder::Invocation, 1 << 16);
        Arc::new(Invocation::new("i".into(), ("t".into(), "f".into()), deadline, account))
    }

    pub(super) fn infer(&self, rows: &[&[i64]]) -> Result<Pending, InferError> {
        self.model().infer(vec![("x".into(), tensor(rows))], Vec::new(), &self.invocation())
    }

    /// The value of a metric's line.
    pub(super) fn metric(&self, line: &str) -> Option<f64> {
        let text = self.telemetry.text();
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.fake.release();
        self.engine.stop();
    }
}

pub(super) fn put(folder: &Path, file: &str, text: &str) {
    let file = folder.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

pub(super) fn config(folder: &Path) -> Config {
    Config { models: folder.join("models"), data: folder.join("data"), lanes: Some(1), ..Config::default() }
}

pub(super) fn tensor(rows: &[&[i64]]) -> Tensor {
    let lengths: Vec<u64> = rows.iter().map(|row| row.len() as u64).collect();
    let bytes: Vec<u8> = rows.concat().iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Datatype::Int64, Layout::ragged(&[0], 0, &lengths).unwrap(), bytes.into()).unwrap()
}

/// The rows that `echo` gave: each as it was sent, and its sum.
pub(super) fn rows(outputs: &crate::invocation::Outputs) -> Vec<(Vec<i64>, f32)> {
    let [(same_name, same), (sum_name, sum)] = &outputs.tensors[..] else { panic!("two outputs") };
    assert_eq!((&**same_name, &**sum_name), ("same", "sum"));
    let integers = |row: &[u8]| row.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let float = |row: &[u8]| {
        let (values, rest) = row.as_chunks::<4>();
        assert!(values.len() == 2 && values[0] == values[1] && rest.is_empty());
        f32::from_le_bytes(values[0])
    };
    (0..same.layout.rows()).map(|row| (integers(same.row(row)), float(sum.row(row)))).collect()
}

/// What `echo` should give for these rows.
pub(super) fn echoed(rows: &[&[i64]]) -> Vec<(Vec<i64>, f32)> {
    rows.iter().map(|row| (row.to_vec(), row.iter().sum::<i64>() as f32)).collect()
}
