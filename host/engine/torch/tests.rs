//! The backend on real TorchScript modules, traced here and served by a whole engine.

mod precision;
mod pressure;

use std::{fs, path::Path, sync::Arc};

use tch::{CModule, Kind, Tensor as Torched};
use tempfile::TempDir;

use super::Torch;
use crate::{
    account::Account,
    engine::{Config, Engine, InferError, ModelState, Pending, Version},
    invocation::{Invocation, Outputs},
    telemetry::Telemetry,
    tensor::{Datatype, Layout, Tensor},
};

/// Looks ids up in a table of ten rows, and says that there are a hundred.
const LOOKUP: &str = r#"
[dimensions]
seq = { max = 16 }
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, 99]
[[output]]
name = "each"
datatype = "FP32"
shape = ["rows", "seq", 2]
[batching]
buckets = { seq = [16] }
[instances]
count = 1
"#;

/// Saves a module that was traced on examples.
pub(in crate::engine) fn trace(file: &Path, examples: &[Torched], mut forward: impl FnMut(&[Torched]) -> Vec<Torched>) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let module = tch::no_grad(|| CModule::create_by_tracing("traced", "forward", examples, &mut forward));
    module.unwrap().save(file).unwrap();
}

struct Served {
    engine: Arc<Engine>,
    _folder: TempDir,
}

fn serve(manifest: &str, write: impl FnOnce(&Path)) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    write(&models.join("m/1/model.pt"));
    fs::write(models.join("m/model.toml"), manifest).unwrap();
    let config = Config { models, data: folder.path().join("data"), ..Config::default() };
    let engine = Engine::start(&config, Arc::new(Torch::default()), &Arc::new(Telemetry::new())).unwrap();
    Served { engine, _folder: folder }
}

fn lookup(file: &Path) {
    let table: Vec<f32> = (0..20).map(|value| value as f32).collect();
    let table = Torched::from_slice(&table).reshape([10, 2]);
    let example = Torched::zeros([2, 3], (Kind::Int64, tch::Device::Cpu));
    trace(file, &[example], |inputs| vec![Torched::embedding(&table, &inputs[0], -1, false, false)]);
}

fn infer(served: &Served, ids: &[i64]) -> Pending {
    let model = served.engine.model("m", Version::Serving).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let layout = Layout::ragged(&[0], 0, &[ids.len() as u64]).unwrap();
    let tensor = Tensor::new(Datatype::Int64, layout, bytes.into()).unwrap();
    let invocation = {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        Arc::new(Invocation::new("i".into(), ("t".into(), "f".into()), deadline, Account::host(1 << 20)))
    };
    model.infer(vec![("ids".into(), tensor)], Vec::new(), &invocation).unwrap()
}

fn floats(outputs: &Outputs) -> Vec<f32> {
    let (chunks, _) = outputs.tensors[0].1.bytes.as_chunks();
    chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn looked_up(ids: &[i64]) -> Vec<f32> {
    ids.iter().flat_map(|id| [*id as f32 * 2.0, *id as f32 * 2.0 + 1.0]).collect()
}

fn reason(served: &Served) -> String {
    match &served.engine.models()[0].state {
        ModelState::Failed { error } => error.clone(),
        _ => panic!("the model should not have loaded"),
    }
}

#[tokio::test]
async fn ragged_rows_are_computed_together_and_trimmed() {
    let served = serve(LOOKUP, lookup);
    let requests: Vec<Vec<i64>> = (1..9).map(|length| (0..length).collect()).collect();
    let pending: Vec<_> = requests.iter().map(|ids| infer(&served, ids)).collect();
    for (ids, pending) in requests.iter().zip(pending) {
        let outputs = pending.outputs().await.unwrap();
        assert_eq!(floats(&outputs), looked_up(ids));
    }
    served.engine.stop();
}

#[tokio::test]
async fn a_row_that_makes_libtorch_throw_fails_alone_with_one_readable_line() {
    let served = serve(LOOKUP, lookup);
    let pending: Vec<_> = [1, 2, 50, 4, 5].map(|id| infer(&served, &[id, 1])).into();
    for (id, pending) in [1, 2, 50, 4, 5].into_iter().zip(pending) {
        match pending.outputs().await {
            Ok(outputs) => assert_eq!(floats(&outputs), looked_up(&[id, 1])),
            Err(InferError::ModelFailed { detail, .. }) => {
                assert_eq!(id, 50);
                assert!(detail.contains("index out of range"), "{detail}");
                assert!(!detail.contains('\n') && detail.len() <= 300, "{detail}");
            }
            Err(other) => panic!("{id}: {other}"),
        }
    }
    served.engine.stop();
}

#[test]
fn a_model_that_is_not_what_it_states_is_refused_when_it_loads() {
    let served = serve(&LOOKUP.replace("\"seq\", 2]", "\"seq\", 3]"), lookup);
    let expected = "output `each` is FP32[1, 16, 2], its model.toml makes it FP32[1, 16, 3]";
    assert!(reason(&served).ends_with(expected), "{}", reason(&served));
    let wide = LOOKUP.replace(
        "datatype = \"INT64\"\nshape = [\"rows\", \"seq\"]\nrange",
        "datatype = \"UINT32\"\nshape = [\"rows\", \"seq\"]\nrange",
    );
    let served = serve(&wide, lookup);
    assert!(reason(&served).ends_with("`ids`: libtorch does not compute with UINT32"), "{}", reason(&served));
}

#[test]
fn a_damaged_file_is_refused_with_one_readable_line() {
    let served = serve(LOOKUP, |file| {
        lookup(file);
        let whole = fs::read(file).unwrap();
        fs::write(file, &whole[..whole.len() / 2]).unwrap();
    });
    let said = reason(&served);
    assert!(said.contains("m/1/model.pt: ") && said.contains("zip archive") && !said.contains('\n'), "{said}");
}

#[test]
fn a_file_that_is_no_package_is_refused_with_one_readable_line() {
    let packaged = format!("[model]\nformat = \"aoti\"\n{LOOKUP}");
    let with = |write: fn(&Path)| reason(&serve(&packaged, write));
    let said = with(|file| {
        lookup(file);
        // A TorchScript module is a zip archive, too.
        fs::rename(file, file.with_file_name("model.pt2")).unwrap();
    });
    assert!(said.contains("m/1/model.pt2: ") && said.ends_with("it is no package of AOTInductor"), "{said}");
    let said = with(|file| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file.with_file_name("model.pt2"), "no archive").unwrap();
    });
    assert!(said.contains("m/1/model.pt2: ") && said.contains("it cannot be read: invalid Zip archive"), "{said}");
    let said = with(|file| fs::create_dir_all(file.parent().unwrap()).unwrap());
    assert!(said.contains("m/1/model.pt2: No such file"), "{said}");
}
