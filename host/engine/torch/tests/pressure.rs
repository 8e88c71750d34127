//! Too little memory, on real modules: libtorch throws in the middle of a batch, and only rows that are too large fail.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    engine::{
        Backend as _, Device,
        profile::{Curve, Key, Profile},
        repository,
    },
    telemetry::DeviceMemory,
};

/// Gives every id two numbers, by way of a square as large as its row is long.
const SQUARE: &str = r#"
[dimensions]
seq = { max = 512 }
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, 9]
[[output]]
name = "each"
datatype = "FP32"
shape = ["rows", "seq", 2]
[batching]
buckets = { seq = [16, 64, 512] }
max_batch_ms = 60000
[instances]
count = 1
[memory]
lane_bytes = 1048576
"#;
const WIDTH: i64 = 64;

/// The last row has the value 1, the first has 0: padding adds nothing to a sum.
fn table(rows: i64) -> Torched {
    let values = Torched::arange(rows, (Kind::Float, tch::Device::Cpu)) / (rows - 1);
    values.unsqueeze(1).repeat([1, WIDTH])
}

fn squared(table: &Torched, ids: &Torched) -> Torched {
    let wide = Torched::embedding(table, ids, -1, false, false);
    wide.matmul(&wide.transpose(1, 2)).matmul(&wide).narrow(2, 0, 2)
}

fn square(file: &Path, rows: i64) {
    let (table, example) = (table(rows), Torched::ones([2, 3], (Kind::Int64, tch::Device::Cpu)));
    trace(file, &[example], |inputs| vec![squared(&table, &inputs[0])]);
}

/// A profile of `m` by which rows gain from company, and by which four of 256 fit into a lane, which they do not: what is
/// measured on a busy machine may say that they gain nothing, and then they do not meet.
fn gains(config: &Config, backend: &Torch) {
    let model = repository::digest(&config.models.join("m/1/model.pt")).unwrap();
    let key = Key { model, device: "cpu".into(), backend: backend.fingerprint(Device::Cpu) };
    let (first_bytes, further_bytes) = (Some(40_000), Some(35_000));
    let larger = Vec::new();
    let curve = Curve { elements: 64, first_us: 1000.0, further_us: 100.0, larger, first_bytes, further_bytes };
    Profile::new(key, vec![curve]).write(&config.data.join("profiles")).unwrap();
}

struct Pressed {
    engine: Arc<Engine>,
    telemetry: Arc<Telemetry>,
    host: Arc<Account>,
    _folder: TempDir,
}

impl Pressed {
    /// `m` is the square, `n` the lookup.
    fn new(rows: i64, memory_bytes: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        square(&models.join("m/1/model.pt"), rows);
        lookup(&models.join("n/1/model.pt"));
        fs::write(models.join("m/model.toml"), SQUARE).unwrap();
        fs::write(models.join("n/model.toml"), LOOKUP).unwrap();
        let (data, telemetry) = (folder.path().join("data"), Arc::new(Telemetry::new()));
        let config = Config { models, data, memory_bytes, ..Config::default() };
        let backend = Arc::new(Torch::default());
        gains(&config, &backend);
        let engine = Engine::start(&config, backend, &telemetry).unwrap();
        Self { engine, telemetry, host: Account::host(1 << 30), _folder: folder }
    }

    fn infer(&self, model: &str, ids: &[i64]) -> Pending {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let layout = Layout::ragged(&[0], 0, &[ids.len() as u64]).unwrap();
        let tensor = Tensor::new(Datatype::Int64, layout, bytes.into()).unwrap();
        let names = ("t".into(), "f".into());
        let invocation =
            Invocation::new("i".into(), names, Instant::now() + Duration::from_secs(60), self.host.clone());
        let model = self.engine.model(model, Version::Serving).unwrap();
        model.infer(vec![("ids".into(), tensor)], Vec::new(), &Arc::new(invocation)).unwrap()
    }

    fn memory(&self) -> DeviceMemory {
        self.telemetry.device_memory().swap_remove(0)
    }
}

#[tokio::test]
async fn real_batches_that_do_not_fit_are_split_and_answered_right() {
    let pressed = Pressed::new(10, None);
    let before = pressed.memory();
    // The tables of both models, and a few numbers that tracing adds.
    assert!((4 * (10 * WIDTH as u64 + 20)..8000).contains(&before.weight_bytes), "{before:?}");
    let row = |length: usize| (0..length).map(|index| 1 + index as i64 % 9).collect::<Vec<i64>>();
    // Four rows of 256 look as if they fitted, from what rows of 64 needed, and do not.
    let lengths = [256, 250, 240, 230, 256, 512, 7, 256, 200, 100, 30, 5];
    let pending: Vec<_> = lengths.map(|length| (pressed.infer("m", &row(length)), pressed.infer("n", &[3, 4]))).into();
    let table = table(10);
    for (length, (pending, neighbour)) in lengths.into_iter().zip(pending) {
        assert_eq!(floats(&neighbour.outputs().await.unwrap()), looked_up(&[3, 4]));
        match pending.outputs().await {
            Ok(outputs) => {
                let alone = squared(&table, &Torched::from_slice(&row(length)).unsqueeze(0)).contiguous().view([-1]);
                let given = Torched::from_slice(&floats(&outputs));
                assert!(alone.allclose(&given, 1e-5, 1e-5, false), "{length}");
            }
            Err(error @ InferError::DeviceMemory { retry_after: None, .. }) => {
                assert_eq!(length, 512, "{error}");
                assert!(error.to_string().contains("too large for a lane by itself: out of memory of the lane: 10485"));
            }
            Err(other) => panic!("{length}: {other}"),
        }
    }
    let splits = "tenon_batch_splits_total{cause=\"memory\",model=\"m\"}";
    assert!(pressed.telemetry.text().contains(splits), "no batch was too large");
    let after = pressed.memory();
    assert_eq!(after.weight_bytes, before.weight_bytes);
    assert!(after.lane_bytes < 100 << 10, "only stacked rows are kept: {after:?}");
    pressed.engine.stop();
    drop(pressed.engine);
    let left = pressed.telemetry.device_memory().swap_remove(0);
    assert_eq!((left.weight_bytes, left.lane_bytes), (0, 0));
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_figures_and_the_others_serve() {
    // 2.5 MB of weights.
    let pressed = Pressed::new(10_000, Some(2 << 20));
    let states: Vec<_> = pressed.engine.models().into_iter().map(|model| model.state).collect();
    let [ModelState::Failed { error }, ModelState::Ready] = &states[..] else { panic!("{states:?}") };
    let expected = "m/1/model.pt does not fit in the device's memory: out of memory of the device: 2560000 bytes more \
                    are wanted, and ";
    assert!(error.contains(expected) && error.ends_with(" of 2097152 are in use"), "{error}");
    pressed.engine.stop();
}
