//! Too little memory on the device, on the fake: batches that do not fit are split, and nobody notices but the rows that
//! do not fit by themselves.

use proptest::prelude::*;

use super::*;
use crate::engine::fake::Memory;

/// Each starts an engine with its threads.
const CASES: u32 = 64;

fn with(memory: Memory) -> Behaviour {
    Behaviour { memory: Some(memory), ..Behaviour::default() }
}

/// Waits behind a held batch, so that all of these are taken together.
async fn together(bench: &Bench, rows_of: &[&[&[i64]]]) -> Vec<Result<Vec<(Vec<i64>, f32)>, InferError>> {
    bench.fake.hold();
    let first = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let pending: Vec<_> = rows_of.iter().map(|request| bench.infer(request).unwrap()).collect();
    bench.fake.clear();
    bench.fake.release();
    first.outputs().await.unwrap();
    let mut answers = Vec::new();
    for pending in pending {
        answers.push(pending.outputs().await.map(|outputs| rows(&outputs)));
    }
    answers
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_split_and_the_next_ones_are_smaller() {
    let bench = Bench::new(with(Memory::default()), |text| text);
    assert_eq!(bench.model().safe_batch_size(), 8);
    bench.fake.set_capacity(Some(20));
    let requests: Vec<[&[i64]; 1]> = vec![[&[1, 2, 3, 4, 5, 6, 7, 8]]; 8];
    let requests: Vec<&[&[i64]]> = requests.iter().map(|rows| &rows[..]).collect();
    for answer in together(&bench, &requests).await {
        assert_eq!(answer.unwrap(), echoed(requests[0]));
    }
    // 8 and 4 rows did not fit; the other 4 were not tried, because the ceiling had come down.
    assert_eq!((bench.fake.batches(), bench.fake.out_of_memory()), (vec![8, 4, 2, 2, 2, 2], 2));
    assert_eq!(bench.model().safe_batch_size(), 2);
    let split = |cause: &str| bench.metric(&format!("tenon_batch_splits_total{{cause=\"{cause}\",model=\"echo\"}}"));
    assert_eq!((split("memory"), split("ceiling")), (Some(2.0), Some(1.0)));
    // With memory enough it comes back, step by step.
    bench.fake.set_capacity(None);
    for round in 0.. {
        assert!(round < 300, "still {}", bench.model().safe_batch_size());
        together(&bench, &requests).await.into_iter().for_each(|answer| drop(answer.unwrap()));
        if bench.model().safe_batch_size() == 8 {
            assert!(round > 5, "after {round} rounds already");
            break;
        }
    }
    assert_eq!(bench.fake.out_of_memory(), 2);
}

#[tokio::test]
async fn a_row_that_fits_nowhere_fails_alone_and_tells_whose_it_is() {
    let bench = Bench::new(with(Memory::default()), |text| text);
    bench.fake.set_capacity(Some(4));
    let large: &[&[i64]] = &[&[9], &[1, 2, 3, 4, 5, 6]];
    let answers = together(&bench, &[&[&[1]], large, &[&[2, 3]], &[&[4, 5, 6, 7]]]).await;
    for (index, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(got) => assert_eq!(got, echoed([&[&[1][..]][..], &[], &[&[2, 3]], &[&[4, 5, 6, 7]]][index])),
            Err(InferError::DeviceMemory { detail, retry_after, .. }) => {
                assert_eq!((index, &detail[..]), (1, "6 elements are too many"));
                assert!(retry_after.is_some(), "later there may be room");
            }
            Err(other) => panic!("{index}: {other}"),
        }
    }
    assert_eq!((bench.model().queue_rows(), bench.host.held_bytes()), (0, 0));
}

#[tokio::test]
async fn a_row_over_its_lanes_own_budget_is_told_not_to_come_again() {
    let edit = |text: String| text.replace("max = 8", "max = 8000") + "\n[memory]\nlane_bytes = 4096\n";
    let bench = Bench::new(with(Memory::default()), edit);
    let (long, longest) = (vec![1; 3000], vec![1; 5000]);
    let answers = together(&bench, &[&[&long], &[&longest], &[&long], &[&[7]]]).await;
    let told = |index: usize| answers[index].as_ref().map(Vec::len).map_err(ToString::to_string);
    assert_eq!((told(0), told(2), told(3)), (Ok(1), Ok(1), Ok(1)));
    let expected = "model `echo`: a row of this request is too large for a lane by itself: 5000 elements are too many";
    assert_eq!(told(1), Err(expected.into()));
    assert!(matches!(answers[1], Err(InferError::DeviceMemory { retry_after: None, .. })));
    // What the profile says keeps the two of 3000 apart; one of them may be beside the short one.
    assert!(bench.fake.batches().iter().all(|rows| *rows <= 2), "{:?}", bench.fake.batches());
}

#[tokio::test]
async fn above_the_high_mark_requests_are_refused_at_the_door() {
    let bench = Bench::new(with(Memory::default()), |text| text);
    let limit = bench.telemetry.device_memory()[0].limit_bytes;
    assert!(bench.model().room("t", crate::tenant::Standing::default()).is_ok());
    bench.fake.set_held(limit - 1);
    match bench.model().room("t", crate::tenant::Standing::default()) {
        Err(error @ InferError::DeviceMemory { retry_after: Some(_), .. }) => {
            assert_eq!(error.to_string(), "model `echo`: the device's memory is nearly used up");
        }
        other => panic!("{other:?}"),
    }
    bench.fake.set_held(limit / 10 * 8);
    assert!(
        bench.model().room("t", crate::tenant::Standing::default()).is_err(),
        "well below the mark, not just below it"
    );
    bench.fake.set_held(limit / 2);
    assert!(bench.model().room("t", crate::tenant::Standing::default()).is_ok());
    let line = "tenon_device_memory_bytes{device=\"cpu\",kind=\"lanes\"}";
    assert_eq!(bench.metric(line), Some((limit / 2) as f64));
    assert_eq!(bench.metric("tenon_device_memory_limit_bytes{device=\"cpu\"}"), Some(limit as f64));
}

#[test]
fn a_model_whose_smallest_row_does_not_fit_is_listed_with_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let large = ECHO.replace("max = 8", "max = 8000").replace("[batching]", "[batching]\nbuckets = { n = [8000] }");
    put(folder.path(), "models/echo/model.toml", &(large + "\n[memory]\nlane_bytes = 4096\n"));
    put(folder.path(), "models/echo/1/model.pt", "");
    let bench = Bench::over(folder, with(Memory::default()));
    let crate::engine::ModelState::Failed { error } = bench.engine.models()[0].state.clone() else { panic!("serves") };
    assert!(error.ends_with("model.pt does not fit in the device's memory: 8000 elements are too many"), "{error}");
}

/// What happens next: so much memory from now on, or a request of rows of these lengths.
#[derive(Clone, Debug)]
enum Event {
    Capacity(u64),
    Request(Vec<usize>),
}

fn event() -> impl Strategy<Value = Event> {
    let request = prop::collection::vec(1_usize..=8, 1..10).prop_map(Event::Request);
    prop_oneof![1 => (8_u64..80).prop_map(Event::Capacity), 4 => request]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    // Memory goes up and down at random and runs out by chance beside. Every row has at most 8 elements and there are
    // never fewer: so every row fits alone, and every request must be answered, with its own rows.
    #[test]
    fn whatever_becomes_of_the_memory_every_row_that_fits_alone_is_answered(
        events in prop::collection::vec(event(), 1..20),
        seed in any::<u64>(),
    ) {
        let memory = Memory { capacity: Some(80), seed, ..Memory::default() };
        let bench = Bench::new(with(memory), |text| text.replace("max_queue_size = 16", "max_queue_size = 4096"));
        bench.fake.set_faults(5);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut sent = Vec::new();
            for (number, event) in events.into_iter().enumerate() {
                match event {
                    Event::Capacity(capacity) => bench.fake.set_capacity(Some(capacity)),
                    Event::Request(lengths) => {
                        let rows: Vec<Vec<i64>> = lengths.iter().map(|length| vec![number as i64; *length]).collect();
                        let borrowed: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
                        sent.push((bench.infer(&borrowed).unwrap(), echoed(&borrowed)));
                    }
                }
            }
            for (pending, expected) in sent {
                let outputs = pending.outputs().await;
                prop_assert!(outputs.is_ok(), "{:?}", outputs.err());
                prop_assert_eq!(rows(&outputs.unwrap()), expected);
            }
            prop_assert_eq!((bench.model().queue_rows(), bench.host.held_bytes()), (0, 0));
            Ok(())
        })?;
    }
}
