//! What is told of batches: what ran, what would run now, and nothing kept for it.

use std::time::Duration;

use super::*;
use crate::engine::{
    Explanation, check,
    history::{History, Past},
    manifest::Manifest,
    queue::{Bill, Formed, Reason},
    ticket::Ticket,
};

/// A lane notes a batch after its answers are sent, so who has an answer may be a moment early.
fn explained(bench: &Bench, batches: usize) -> Explanation {
    loop {
        let explanation = bench.model().explain();
        if explanation.batches.len() >= batches {
            return explanation;
        }
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_ran_and_what_would_run_now() {
    let bench = Bench::new(Behaviour::default(), |text| text.replace("max_queue_size = 16", "max_queue_size = 64"));
    assert_eq!(bench.model().explain().advice[0].code, "no-batches");
    bench.fake.hold();
    let first = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let pending: Vec<_> = (0..5_i64).map(|value| bench.infer(&[&[value], &[value, 1, 2, 3]]).unwrap()).collect();

    let queue = bench.model().explain().queue;
    assert_eq!((queue.rows, queue.batches), (10, 2));
    let next: Vec<_> = queue.next.iter().map(|batch| (batch.rows, batch.requests, batch.reason)).collect();
    assert_eq!(next, [(8, 4, "full"), (2, 1, "idle")]);
    assert_eq!((queue.next[0].elements, queue.next[0].padded_elements), (20, 32));
    assert_eq!(bench.model().queue_rows(), 10, "asking takes nothing out");

    bench.fake.release();
    assert!(first.outputs().await.is_ok());
    for one in pending {
        assert!(one.outputs().await.is_ok());
    }
    let explanation = explained(&bench, 3);
    let ran: Vec<_> = explanation.batches.iter().rev().map(|it| (it.rows, it.requests, it.reason)).collect();
    assert_eq!(ran, [(1, 1, "idle"), (8, 4, "full"), (2, 1, "idle")]);
    let batch = &explanation.batches[1];
    assert_eq!((batch.waiting_rows, batch.waiting_requests, batch.tenants, batch.runs), (10, 5, 1, 1));
    assert_eq!((batch.elements, batch.padded_elements, batch.parts.len()), (20, 32, 4));
    let part = &batch.parts[0];
    assert_eq!((&part.tenant[..], &part.function[..], part.rows), ("t", "f", 2));
    assert_eq!((part.shortest, part.longest), (1, 4));
    assert!(batch.instance_ms > 0.0 && batch.predicted_ms.is_some() && part.queue_ms > 0.0);
    assert_eq!((explanation.figures.batches, explanation.figures.rows), (3, 11));
    assert_eq!((explanation.queue.rows, explanation.queue.next.len()), (0, 0));
    assert_eq!(bench.host.held_bytes(), 0, "what is remembered holds nothing");
}

#[tokio::test]
async fn rows_that_ran_again_and_requests_that_were_refused_are_told() {
    let throws = Behaviour { throws_on: Some(666), ..Behaviour::default() };
    let bench = Bench::new(throws, |text| text);
    bench.fake.hold();
    let first = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let pending: Vec<_> = [1, 666].map(|value| bench.infer(&[&[value][..]; 8]).unwrap()).into();
    assert!(bench.infer(&[&[3]]).is_err(), "16 of 16 wait");
    bench.fake.release();
    assert!(first.outputs().await.is_ok());
    for one in pending {
        let _ = one.outputs().await;
    }
    bench.infer(&[&[4]]).unwrap().outputs().await.unwrap();
    let explanation = explained(&bench, 4);
    assert!(explanation.figures.repeated_runs == 0, "a request that fails as a whole runs once");
    assert_eq!(explanation.figures.refused, 1);
    assert!(explanation.advice.iter().any(|advice| advice.code == "refused"));

    bench.fake.hold();
    let first = bench.infer(&[&[0]]).unwrap();
    bench.fake.wait_running(1);
    let pending: Vec<_> = [1, 666].map(|value| bench.infer(&[&[value]]).unwrap()).into();
    bench.fake.release();
    assert!(first.outputs().await.is_ok());
    for one in pending {
        let _ = one.outputs().await;
    }
    let explanation = explained(&bench, 6);
    assert_eq!((explanation.batches[0].rows, explanation.batches[0].runs), (2, 3));
    assert_eq!(explanation.advice[0].code, "ran-again");
}

#[tokio::test]
async fn a_wait_for_company_is_foreseen() {
    let bench =
        Bench::new(Behaviour::default(), |text| text.replace("[batching]", "[batching]\nmax_queue_delay_ms = 50000"));
    let pending = bench.infer(&[&[1]]).unwrap();
    let queue = bench.model().explain().queue;
    assert_eq!((queue.rows, queue.next.len(), queue.next[0].reason), (1, 1, "deadline"));
    assert!(queue.next[0].wait_ms > 10_000.0, "{queue:?}");
    drop(pending);
    assert_eq!(bench.model().explain().queue.rows, 0);
}

/// What a lane does for it between a batch and its answers, and after them: it must not be seen in a caller's time.
#[test]
fn remembering_a_full_batch_costs_next_to_nothing() {
    const ROUNDS: usize = 20;
    const NOTED: u32 = 500;
    let manifest = Manifest::parse(ECHO).unwrap();
    let invocation = |index: usize| {
        let account = Account::host(1 << 20).child(Holder::Invocation, 1 << 16);
        let names = (format!("t{index}").into(), "f".into());
        Arc::new(Invocation::new("i".into(), names, Instant::now(), account))
    };
    let row = |index: usize| {
        let checked = check::check(&manifest.plan, vec![("x".into(), tensor(&[&[1, 2]]))]).unwrap();
        let made = Ticket::new(&manifest.plan, checked, Vec::new(), &invocation(index), Instant::now());
        (Arc::new(made.unwrap().0), 0)
    };
    let formed = Formed {
        rows: (0..32).map(row).collect(),
        elements: (32, 1),
        parts: vec![1.0 / 32.0; 32],
        reason: Reason::Full,
        bill: Bill::default(),
    };
    let history = History::default();
    let round = |_| {
        let begun = Instant::now();
        (0..NOTED).for_each(|_| history.note(Past::of(&formed, begun)));
        begun.elapsed() / NOTED
    };
    // The fastest round: whatever else the machine does only ever adds.
    let each = (0..ROUNDS).map(round).min().unwrap();
    assert!(each < Duration::from_micros(30), "{each:?} for a batch of 32 rows of 32 tenants");
    assert_eq!(history.batches()[0].parts.len(), 32);
}
