//! What is served and how it is batched: every caller gets its own rows, whoever shares the batch.

use std::time::Duration;

use super::*;
use crate::{
    account::Used,
    engine::{ModelState, WarmUp},
    invocation::Stage,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_callers_share_batches_and_get_their_own_rows() {
    let bench = Bench::new(Behaviour::default(), |text| text.replace("max_queue_size = 16", "max_queue_size = 64"));
    bench.fake.hold();
    let values: Vec<Vec<i64>> = (0..32_i64).map(|i| (0..1 + i % 8).map(|step| i * 10 + step).collect()).collect();
    let pending: Vec<_> = values.iter().map(|row| bench.infer(&[row]).unwrap()).collect();
    bench.fake.release();
    for (row, pending) in values.iter().zip(pending) {
        assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[row]));
    }
    let batches = bench.fake.batches();
    assert_eq!(batches.iter().sum::<usize>(), 32);
    assert!(batches.len() <= 6, "32 rows of at most 8 together went in {batches:?}");
    assert_eq!(bench.metric("tenon_batch_rows_sum{model=\"echo\"}"), Some(32.0));
    assert_eq!(bench.metric("tenon_queue_rows{model=\"echo\"}"), Some(0.0));
}

#[tokio::test]
async fn a_request_larger_than_a_batch_is_spread_and_put_together_again() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    let values: Vec<Vec<i64>> = (0..20_i64).map(|i| vec![i; 1 + i as usize % 3]).collect();
    let borrowed: Vec<&[i64]> = values.iter().map(Vec::as_slice).collect();
    let model = bench.model();
    let invocation = bench.invocation();
    let pending = model.infer(vec![("x".into(), tensor(&borrowed))], Vec::new(), &invocation).unwrap();
    let outputs = pending.outputs().await.unwrap();
    assert_eq!(rows(&outputs), echoed(&borrowed));
    assert_eq!(bench.fake.batches(), [8, 8, 4]);
    assert!(invocation.account.spent(Used::Device) > Duration::ZERO);
    let stages: Vec<_> = invocation.stages.taken().into_iter().map(|(stage, _)| stage).collect();
    assert_eq!(stages, [Stage::Queue, Stage::Infer]);
    // 39 integers of 8 bytes and 20 times 2 floats are held until the outputs go.
    assert_eq!(invocation.account.held_bytes(), 39 * 8 + 20 * 8);
    drop(outputs);
    assert_eq!(invocation.account.held_bytes(), 0);
}

#[tokio::test]
async fn a_bad_row_fails_alone() {
    for behaviour in [
        Behaviour { throws_on: Some(666), ..Behaviour::default() },
        Behaviour { panics_on: Some(666), ..Behaviour::default() },
    ] {
        let bench = Bench::new(behaviour, |text| text);
        bench.fake.hold();
        let first = bench.infer(&[&[0]]).unwrap();
        bench.fake.wait_running(1);
        let pending: Vec<_> = [1, 2, 666, 4, 5].map(|value| bench.infer(&[&[value], &[value, 1]]).unwrap()).into();
        bench.fake.release();
        assert!(first.outputs().await.is_ok());
        for (value, pending) in [1, 2, 666, 4, 5].into_iter().zip(pending) {
            match pending.outputs().await {
                Ok(outputs) => assert_eq!(rows(&outputs), echoed(&[&[value], &[value, 1]])),
                Err(InferError::ModelFailed { detail, .. }) => {
                    assert_eq!(value, 666, "{detail}");
                    assert!(
                        ["a bad row", "the backend panicked: a row that panics"].contains(&&detail[..]),
                        "{detail}"
                    );
                }
                Err(other) => panic!("{value}: {other}"),
            }
        }
        assert_eq!(bench.model().queue_rows(), 0);
        assert_eq!(bench.host.held_bytes(), 0);
    }
}

#[tokio::test]
async fn a_batch_that_throws_once_is_run_again_in_halves_and_nobody_notices() {
    let bench = Bench::new(Behaviour { throws_every: Some(12), ..Behaviour::default() }, |text| text);
    // The warm-up runs ten.
    for _ in 0..10 {
        assert!(bench.infer(&[&[0]]).unwrap().outputs().await.is_ok());
    }
    bench.fake.hold();
    let eleventh = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let pending: Vec<_> = [1, 2, 3, 4].map(|value| bench.infer(&[&[value]]).unwrap()).into();
    bench.fake.release();
    assert!(eleventh.outputs().await.is_ok());
    for (value, pending) in (1..).zip(pending) {
        assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[&[value]]));
    }
    assert_eq!(bench.fake.batches()[11..], [4, 2, 2]);
}

#[test]
fn models_that_cannot_serve_are_listed_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    for (name, manifest, file) in [("good", ECHO, ""), ("broken", ECHO, "broken"), ("odd", "a = 1", "")] {
        put(models, &format!("models/{name}/model.toml"), manifest);
        put(models, &format!("models/{name}/2/model.pt"), file);
    }
    put(models, "models/good/10/model.pt", "");
    put(models, "models/empty/model.toml", ECHO);
    let bench = Bench::over(folder, Behaviour::default());
    let states: Vec<_> =
        bench.engine.models().into_iter().map(|model| (model.name, model.version, model.state)).collect();
    let reason = |index: usize| match &states[index] {
        (name, version, ModelState::Failed { error }) => (&name[..], *version, &error[..]),
        other => panic!("{other:?}"),
    };
    assert!(reason(0).2.ends_with("model.pt: the file says that it is broken"), "{states:?}");
    assert!(reason(1).2.contains("empty has no version"), "{states:?}");
    assert_eq!(states[2], ("good".into(), 2, ModelState::Ready));
    assert_eq!(states[3], ("good".into(), 10, ModelState::Ready));
    assert!(reason(4).2.contains("odd/model.toml: TOML parse error at line 1"), "{states:?}");
    assert_eq!(bench.engine.model("good", Version::Serving).unwrap().version(), 10);
    assert!(bench.engine.model("good", Version::Number(2)).unwrap().file("x.json").ends_with("good/2/x.json"));
    let said = |name: &str, version| bench.engine.model(name, version).unwrap_err().to_string();
    assert_eq!(said("mini", Version::Number(3)), "there is no model `mini@3`; there are: broken, empty, good, odd");
    assert!(said("broken", Version::Serving).starts_with("the model `broken` could not be loaded: "));
}

#[test]
fn a_model_is_measured_once_and_later_starts_run_one_row() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    bench.engine.stop();
    let again = |warm_up| {
        let fake = Fake::default();
        let config = Config { warm_up, ..config(bench.folder.path()) };
        Engine::start(&config, Arc::new(fake.clone()), &bench.telemetry).unwrap().stop();
        fake.batches()
    };
    assert_eq!(again(WarmUp::First), [1, 1]);
    assert_eq!(again(WarmUp::Full), [1, 1, 1]);
}

#[test]
fn a_repository_that_is_not_there_is_an_error() {
    let config = Config { models: "no/such/folder".into(), ..Config::default() };
    let error = Engine::start(&config, Arc::new(Fake::default()), &Arc::new(Telemetry::new())).unwrap_err();
    assert_eq!(error.to_string(), "the model repository no/such/folder cannot be read");
    assert!(Config { lanes: Some(0), ..Config::default() }.validate().is_err());
}
