//! Lanes that die: each costs its batch at most, and is back soon, whatever it was that ended it.

use std::time::Duration;

use super::*;
use crate::engine::Model;

/// How soon a lane must be back.
const BACK: Duration = Duration::from_secs(1);

/// What ends a lane: its instance cannot be freed, or none is to be had for a while.
fn causes() -> [Behaviour; 3] {
    let plain = Behaviour::default;
    [
        Behaviour { dies_on: Some(666), ..plain() },
        Behaviour { panics_on: Some(666), no_instance_for: 3, ..plain() },
        Behaviour { dies_on: Some(666), no_instance_for: 3, ..plain() },
    ]
}

fn ask(model: &Arc<Model>, bench: &Bench, values: &[i64]) -> Pending {
    let values: Vec<&[i64]> = values.iter().map(std::slice::from_ref).collect();
    model.infer(vec![("x".into(), tensor(&values))], Vec::new(), &bench.invocation()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_dies_costs_its_batch_at_most_and_is_back_within_a_second() {
    for behaviour in causes() {
        let bench = Bench::new(behaviour.clone(), |text| text.replace("max_queue_size = 16", "max_queue_size = 64"));
        let model = bench.model();
        bench.fake.hold();
        let first = ask(&model, &bench, &[0]);
        bench.fake.wait_running(1);
        // A batch of eight: seven, and the first row of a request whose other rows wait behind it.
        let beside: Vec<_> =
            (1..=7).map(|value| ask(&model, &bench, &[if value == 4 { 666 } else { value }])).collect();
        let spread = ask(&model, &bench, &[8; 20]);
        let behind: Vec<_> = (20..30).map(|value| (value, ask(&model, &bench, &[value]))).collect();
        let died = Instant::now();
        bench.fake.release();
        assert!(first.outputs().await.is_ok(), "it was answered before");
        for pending in beside.into_iter().chain([spread]) {
            // Who was not to blame is answered well or told; nobody is left waiting.
            if let Err(error) = pending.outputs().await {
                assert!(matches!(error, InferError::ModelFailed { .. }), "{error}");
            }
        }
        for (value, pending) in behind {
            assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[&[value]]), "{behaviour:?}");
        }
        // Patience for slow machines: the pauses before three refusals and a fourth try are 150 ms.
        assert!(died.elapsed() < BACK * 5, "{:?}", died.elapsed());
        assert_eq!(bench.metric("tenon_lane_restarts_total{model=\"echo\"}"), Some(1.0), "{behaviour:?}");
        assert_eq!((model.queue_rows(), bench.host.held_bytes()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_lane_goes_on_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "models/echo/model.toml", ECHO);
    put(folder.path(), "models/echo/1/model.pt", "");
    let behaviour = Behaviour { dies_on: Some(666), no_instance_for: usize::MAX, ..Behaviour::default() };
    let bench = Bench::over_lanes(folder, behaviour, 2);
    let model = bench.model();
    assert!(ask(&model, &bench, &[666]).outputs().await.is_err());
    for value in 0..100 {
        assert_eq!(rows(&ask(&model, &bench, &[value]).outputs().await.unwrap()), echoed(&[&[value]]));
    }
    // The dead one is still trying; stopping does not wait for it.
    let stopping = Instant::now();
    bench.engine.stop();
    assert!(stopping.elapsed() < BACK * 5, "{:?}", stopping.elapsed());
}
