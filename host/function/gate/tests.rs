//! Gated work on threads: never more turns than places, nothing is forgotten, and whoever goes gives back what it had.

use std::{future::poll_fn, pin::pin, sync::atomic::Ordering::SeqCst};

use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::function::attached::Guests;

/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn invocation(tenant: &str) -> Arc<Invocation> {
    let names = (tenant.into(), "function".into());
    Arc::new(Invocation::new("1".into(), names, Instant::now() + PATIENCE, Account::host(0)))
}

fn gated<F: Future>(gate: &Arc<Gate>, tenant: &str, work: F) -> Gated<F> {
    Gated::new(gate.clone(), invocation(tenant), Box::pin(work))
}

/// Yields as a guest does.
async fn pause() {
    let mut paused = false;
    let pause = poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }
    });
    pause.await;
}

/// One poll, whose task is nobody's.
fn poll<F: Future>(work: &mut Gated<F>) -> Poll<F::Output> {
    pin!(work).poll(&mut Context::from_waker(Waker::noop()))
}

async fn ended<T>(task: JoinHandle<T>) -> Result<T, tokio::task::JoinError> {
    timeout(PATIENCE, task).await.expect("all work ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_work_ends_and_never_more_runs_than_there_are_places() {
    const PLACES: usize = 2;
    #[derive(Default)]
    struct Running(AtomicUsize, AtomicUsize);
    let (gate, running) = (Gate::new(PLACES), Arc::new(Running::default()));
    let spawn = |number: usize| {
        let running = running.clone();
        let work = async move {
            for turn in 0..20 {
                running.1.fetch_max(running.0.fetch_add(1, SeqCst) + 1, SeqCst);
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(30) {
                    std::hint::spin_loop();
                }
                running.0.fetch_sub(1, SeqCst);
                match (number + turn) % 5 {
                    0 => tokio::time::sleep(Duration::from_millis(1)).await,
                    // Asks to go on when this turn is over already.
                    1 => tokio::task::yield_now().await,
                    _ => pause().await,
                }
            }
        };
        tokio::spawn(gated(&gate, ["a", "b", "c"][number % 3], work))
    };
    let tasks: Vec<_> = (0..300).map(spawn).collect();
    // Some callers leave, wherever their work is.
    tasks.iter().step_by(7).for_each(JoinHandle::abort);
    for (number, task) in tasks.into_iter().enumerate() {
        assert!(ended(task).await.is_ok() || number % 7 == 0);
    }
    let most = running.1.load(SeqCst);
    assert!(most <= PLACES && gate.active.load(SeqCst) == 0, "{most} at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_gives_its_place_back() {
    let gate = Gate::new(1);
    let panics = tokio::spawn(gated(&gate, "a", async { panic!("as it should") }));
    assert!(ended::<()>(panics).await.is_err_and(|error| error.is_panic()));
    assert!(ended(tokio::spawn(gated(&gate, "b", async { 1 }))).await.is_ok_and(|one| one == 1));
    assert_eq!(gate.active.load(SeqCst), 0);
}

#[test]
fn waiting_is_told_and_who_leaves_gives_back_place_or_turn() {
    let gate = Gate::new(1);
    let endless = || async {
        loop {
            pause().await;
        }
    };
    let mut runs = gated(&gate, "a", endless());
    // Nobody else is there: it keeps its place.
    (0..3).for_each(|_| assert!(poll(&mut runs).is_pending()));
    assert!(runs.invocation.has_stood().is_none());
    let (mut waits, mut next) = (gated(&gate, "b", async {}), gated(&gate, "c", async {}));
    assert_eq!(gate.active.load(SeqCst), 3, "they are in line before their first poll");
    assert!(poll(&mut waits).is_pending() && poll(&mut next).is_pending());
    // Now it passes the place on, and asks again.
    assert!(poll(&mut runs).is_pending());
    assert!(waits.bell.has_place.load(SeqCst) && !next.bell.has_place.load(SeqCst));
    // Whoever has a turn and leaves without it lets the next one in.
    drop(waits);
    assert!(next.bell.has_place.load(SeqCst) && poll(&mut next).is_ready());
    assert!(next.invocation.has_stood().is_some());
    assert!(runs.bell.has_place.load(SeqCst));
    drop((runs, next));
    assert_eq!(gate.active.load(SeqCst), 0);
}

#[test]
fn short_work_is_charged_while_anybody_is_here() {
    let gate = Gate::new(1);
    let (short, light) = (invocation("short"), invocation("light"));
    let spend = |invocation: &Invocation, ms| {
        invocation.account.spend(Used::HostCall, Duration::from_millis(ms));
        gate.charge(invocation);
    };
    spend(&short, 100);
    let mut runs = gated(&gate, "a", pause());
    assert!(poll(&mut runs).is_pending());
    let mut waits = gated(&gate, "b", async {});
    assert!(poll(&mut waits).is_pending());
    assert!(!gate.is_ahead(&short), "what was done while nobody was here is nobody's loss");
    spend(&short, 100);
    spend(&light, 1);
    assert!(gate.is_ahead(&short) && !gate.is_ahead(&light));
    drop((runs, waits));
    assert!(!gate.is_ahead(&short));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn short_work_without_a_guest_is_charged_and_stands_back_too() {
    let guests = Guests { threads: tokio::runtime::Handle::current(), gate: Gate::new(1) };
    let mut runs = gated(&guests.gate, "a", pause());
    assert!(poll(&mut runs).is_pending());
    let mut waits = gated(&guests.gate, "b", async {});
    assert!(poll(&mut waits).is_pending());
    let short = invocation("short");
    let work = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
    };
    guests.aside(&short, false, work).await.unwrap();
    assert!(guests.gate.is_ahead(&short));
    // From now on it waits for its turn.
    let mut next = pin!(guests.aside(&short, false, || ()));
    assert!(futures_util::poll!(&mut next).is_pending());
    drop((runs, waits));
    assert!(timeout(PATIENCE, next).await.unwrap().is_ok());
}
