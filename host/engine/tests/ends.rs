//! How inferences end that do not simply succeed: refused, left, late, stopped. Nothing may stay behind.

use std::time::Duration;

use super::*;
use crate::{invocation::Stage, tenant::Standing};

#[tokio::test]
async fn leaving_before_the_batch_frees_the_place() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    bench.fake.hold();
    let running = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let leaving = bench.infer(&[&[1], &[2], &[3]]).unwrap();
    assert_eq!(bench.model().queue_rows(), 3);
    drop(leaving);
    assert_eq!(bench.model().queue_rows(), 0);
    bench.fake.release();
    assert!(running.outputs().await.is_ok());
    assert_eq!(bench.fake.batches(), [1]);
    assert_eq!(bench.host.held_bytes(), 0);
}

#[tokio::test]
async fn leaving_a_running_batch_keeps_what_it_uses_until_it_ends() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    bench.fake.hold();
    let invocation = bench.invocation();
    let weak = Arc::downgrade(&invocation);
    let charge = Arc::new(invocation.account.charge(crate::account::Kind::Tensors, 100).unwrap());
    let pending = bench.model().infer(vec![("x".into(), tensor(&[&[1]]))], vec![charge], &invocation).unwrap();
    drop(invocation);
    bench.fake.wait_running(1);
    drop(pending);
    assert!(weak.upgrade().is_some(), "the batch holds the invocation, and with it its permit");
    assert_eq!(bench.host.held_bytes(), 100 + 8 + 8);
    bench.fake.release();
    // The next answer comes after the batch before it has let go.
    assert!(bench.infer(&[&[2]]).unwrap().outputs().await.is_ok());
    assert!(weak.upgrade().is_none());
    assert_eq!(bench.host.held_bytes(), 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_the_door_and_says_when_to_come_back() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    bench.fake.hold();
    let running = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let first = bench.infer(&[&[1][..]; 15]).unwrap();
    assert!(bench.model().room("t", Standing::default()).is_ok(), "15 of 16 wait");
    let whole = bench.infer(&[&[2][..]; 40]).unwrap();
    assert_eq!(bench.model().queue_rows(), 55, "a request is admitted whole while fewer wait");
    let retry_after = match bench.model().room("t", Standing::default()) {
        Err(InferError::QueueFull { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    };
    assert!(retry_after > Duration::ZERO);
    assert!(matches!(bench.infer(&[&[3]]), Err(InferError::QueueFull { .. })));
    assert!(matches!(bench.infer(&[&[3][..]; 41]), Err(InferError::TooManyRows { rows: 41, limit: 40, .. })));
    drop(first);
    drop(whole);
    bench.fake.release();
    assert!(running.outputs().await.is_ok());
    assert_eq!(bench.host.held_bytes(), 0);
}

#[tokio::test]
async fn who_waits_too_long_for_an_instance_is_answered_by_then() {
    let bench = Bench::new(Behaviour::default(), |text| text.replace("60000", "20"));
    bench.fake.hold();
    let running = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let invocation = bench.invocation();
    let waiting = bench.model().infer(vec![("x".into(), tensor(&[&[1]]))], Vec::new(), &invocation).unwrap();
    assert!(matches!(waiting.outputs().await, Err(InferError::QueueTimeout { .. })));
    assert_eq!(invocation.stages.taken()[0].0, Stage::Queue);
    assert_eq!(bench.model().queue_rows(), 0);
    bench.fake.release();
    assert!(running.outputs().await.is_ok(), "it was begun in time, however long it takes");
    assert_eq!(bench.fake.batches(), [1]);
}

#[tokio::test]
async fn rows_whose_deadline_has_passed_are_not_run() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    let late = bench.invocation_until(Instant::now());
    let pending = bench.model().infer(vec![("x".into(), tensor(&[&[1]]))], Vec::new(), &late).unwrap();
    assert!(matches!(pending.outputs().await, Err(InferError::Deadline { .. })));
    assert!(bench.infer(&[&[2]]).unwrap().outputs().await.is_ok());
    assert_eq!(bench.fake.batches(), [1]);
}

#[tokio::test]
async fn outputs_that_do_not_fit_in_the_account_are_refused_before_they_are_made() {
    let bench = Bench::new(Behaviour::default(), |text| text.replace("[\"rows\", 2]", "[\"rows\", 20000]"));
    let error = bench.infer(&[&[1]]).unwrap_err();
    assert!(matches!(error, InferError::Memory(_)), "{error}");
    assert_eq!(error.fault(), crate::invocation::Fault::Function);
    assert_eq!((bench.model().queue_rows(), bench.host.held_bytes()), (0, 0));
}

#[tokio::test]
async fn a_row_against_the_contract_is_named_and_nothing_is_queued() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    let error = bench.infer(&[&[1], &[2, 1001]]).unwrap_err();
    assert_eq!(error.to_string(), "model `echo`: input `x`, row 1: 1001 is outside the range -1000 to 1000");
    assert_eq!(bench.fake.batches(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stopping_answers_all_who_wait_and_lets_batches_run_out() {
    let bench = Bench::new(Behaviour::default(), |text| text);
    bench.fake.hold();
    let running = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let waiting: Vec<_> = (0..5).map(|value| bench.infer(&[&[value]]).unwrap()).collect();
    let (engine, model) = (bench.engine.clone(), bench.model());
    let stopping = std::thread::spawn(move || engine.stop());
    for pending in waiting {
        assert!(matches!(pending.outputs().await, Err(InferError::Unavailable { .. })));
    }
    assert!(matches!(model.room("t", Standing::default()), Err(InferError::Unavailable { .. })));
    assert!(matches!(bench.infer(&[&[9]]), Err(InferError::Unavailable { .. })));
    bench.fake.release();
    stopping.join().unwrap();
    assert_eq!(rows(&running.outputs().await.unwrap()), echoed(&[&[0]]));
    assert_eq!(bench.host.held_bytes(), 0);
}

#[test]
fn stopping_is_bounded_even_if_a_batch_hangs() {
    let mut bench = Bench::new(Behaviour::default(), |text| text);
    bench.engine.stop();
    let config = Config { stop_timeout: Duration::from_millis(20), ..config(bench.folder.path()) };
    bench.engine = Engine::start(&config, Arc::new(bench.fake.clone()), &bench.telemetry).unwrap();
    bench.fake.hold();
    let pending = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    bench.engine.stop();
    drop(pending);
}
