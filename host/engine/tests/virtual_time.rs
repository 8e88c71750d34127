//! The engine in virtual time, without threads: models on the fake backend, their real queues, tickets and lanes' work,
//! and callers who come, hang up, run out of patience and send bad rows at any point of ten thousand random histories.
//!
//! A lane here is a batch that was taken and will end when the history says so; what happens in between happens to a
//! batch on a device. The clock is a number.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    engine::{
        Device,
        budget::Budget,
        fake::Memory,
        history::Waited,
        instance::Runner,
        lane::Ground,
        queue::Formed,
        repository,
        ticket::{Completion, Ticket},
    },
    tenant::{Priority, Standing},
};

/// A row that makes the model throw, and one that makes it panic.
const THROWS: i64 = 666;
const PANICS: i64 = 667;
const QUEUE_TIMEOUT: Duration = Duration::from_millis(60);
const LANES: usize = 2;

#[derive(Clone, Debug)]
enum Event {
    Comes {
        tenant: usize,
        batch: bool,
        rows: Vec<usize>,
        bad: Option<bool>,
        patience_ms: u64,
    },
    /// A lane takes what the policy gives it.
    Begins {
        lane: usize,
    },
    /// Its batch ends.
    Ends {
        lane: usize,
        took_ms: u64,
    },
    HangsUp {
        which: usize,
    },
    Passes {
        ms: u64,
    },
    /// Requests that come from now on meet the other version; the one before runs out.
    Swaps,
    /// A device has that much room.
    Memory {
        elements: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let rows = || proptest::collection::vec(1..9_usize, 1..6);
    let bad = || prop_oneof![8 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let comes = (0..4_usize, any::<bool>(), rows(), bad(), 20..400_u64);
    prop_oneof![
        8 => comes.prop_map(|(tenant, batch, rows, bad, patience_ms)| Event::Comes { tenant, batch, rows, bad, patience_ms }),
        8 => (0..2 * LANES).prop_map(|lane| Event::Begins { lane }),
        7 => (0..2 * LANES, 0..50_u64).prop_map(|(lane, took_ms)| Event::Ends { lane, took_ms }),
        2 => (0..12_usize).prop_map(|which| Event::HangsUp { which }),
        2 => (0..40_u64).prop_map(|ms| Event::Passes { ms }),
        1 => Just(Event::Swaps),
        1 => (8..80_u64).prop_map(|elements| Event::Memory { elements }),
    ]
}

/// A caller who waits.
struct Caller {
    pending: Pending,
    values: Vec<Vec<i64>>,
    bad: bool,
    came: Instant,
    deadline: Instant,
}

/// Two versions of a model whose lanes are played.
struct Stage {
    models: Vec<Arc<Model>>,
    fake: Fake,
    host: Arc<Account>,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = ECHO.replace("60000", &QUEUE_TIMEOUT.as_millis().to_string());
        put(folder.path(), "models/echo/model.toml", &text);
        put(folder.path(), "models/echo/1/model.pt", "");
        put(folder.path(), "models/echo/2/model.pt", "");
        let memory = Some(Memory { capacity: Some(80), seed: 5, ..Memory::default() });
        let behaviour = Behaviour { throws_on: Some(THROWS), panics_on: Some(PANICS), memory, ..Behaviour::default() };
        let fake = Fake::new(behaviour);
        // No thread: the history is the lanes.
        let config = Config { lanes: Some(0), ..config(folder.path()) };
        let budget = Budget::new(Arc::new(fake.clone()), Device::Cpu, u64::MAX, 0.9);
        let budgets = [(Device::Cpu, budget)].into();
        let telemetry = Telemetry::new();
        let found = repository::scan(&config.models).unwrap().remove(0);
        let start = |version| {
            Model::start(&found, version, &config, (&fake, (&budgets, &[])), telemetry.model("echo")).unwrap()
        };
        let models = vec![start(1), start(2)];
        fake.set_faults(50);
        Self { models, fake: fake.clone(), host: Account::host(1 << 20), _folder: folder }
    }
}

/// One history as it is played.
struct Play<'a> {
    stage: &'a Stage,
    serving: usize,
    now: Instant,
    callers: Vec<Caller>,
    lanes: Vec<Lane<'a>>,
}

struct Lane<'a> {
    ground: &'a Ground,
    runner: Runner<'a>,
    running: Option<(Formed<Arc<Ticket>>, Waited)>,
}

impl<'a> Play<'a> {
    fn new(stage: &'a Stage, grounds: &'a [Arc<Ground>]) -> Self {
        let lane = |number: usize| {
            let ground = &*grounds[number / LANES];
            let runner = Runner::new(ground, (0, number % LANES), ground.places[0].loaded.instance().unwrap());
            Lane { ground, runner, running: None }
        };
        let lanes = (0..LANES * grounds.len()).map(lane).collect();
        Self { stage, serving: 0, now: Instant::now(), callers: Vec::new(), lanes }
    }

    fn comes(&mut self, (tenant, batch): (usize, bool), lengths: &[usize], bad: Option<bool>, patience_ms: u64) {
        let number = |row: usize, place: usize| (tenant * 100 + row * 10 + place) as i64;
        let mut values: Vec<Vec<i64>> = Vec::new();
        for (row, length) in lengths.iter().enumerate() {
            values.push((0..*length).map(|place| number(row, place)).collect());
        }
        if let Some(throws) = bad {
            values.last_mut().unwrap()[0] = if throws { THROWS } else { PANICS };
        }
        let deadline = self.now + Duration::from_millis(patience_ms);
        let account = self.stage.host.child(Holder::Invocation, 1 << 16);
        let names = (format!("t{tenant}").into(), "f".into());
        let priority = if batch { Priority::Batch } else { Priority::Interactive };
        let standing = Standing { weight: 1.0 + tenant as f64, exclusive: tenant == 3 };
        let invocation = Invocation::new("i".into(), names, deadline, account).ranked(standing, priority);
        let rows: Vec<&[i64]> = values.iter().map(Vec::as_slice).collect();
        let model = &self.stage.models[self.serving];
        let waiting = model.queue_rows();
        match model.infer_at(|| self.now, vec![("x".into(), tensor(&rows))], Vec::new(), &Arc::new(invocation)) {
            Ok(pending) => {
                self.callers.push(Caller { pending, values, bad: bad.is_some(), came: self.now, deadline });
            }
            Err(InferError::QueueFull { .. }) => assert!(waiting >= 16, "{waiting} rows wait"),
            Err(other) => panic!("{other}"),
        }
    }

    fn begins(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        if lane.running.is_none() {
            lane.running = lane.ground.waiting.batch_at(self.now);
        }
        self.look();
    }

    fn ends(&mut self, lane: usize, took: Duration) {
        let lane = &mut self.lanes[lane];
        let Some((formed, waited)) = lane.running.take() else { return };
        let mut answers = Vec::new();
        drop(lane.runner.run_batch(&formed, waited, &mut answers));
        lane.ground.waiting.settle(&formed.bill, took, self.now);
        drop(formed);
        answers.into_iter().for_each(Completion::send);
        self.look();
    }

    /// Time passes: whoever's deadline comes is answered by then, with its rows or without, and leaves.
    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.look();
        let now = self.now;
        self.callers.retain(|caller| caller.deadline > now);
    }

    /// Takes the answers that are there, each of which must be its caller's own.
    fn look(&mut self) {
        let now = self.now;
        self.callers.retain_mut(|caller| {
            let Some(result) = caller.pending.answered_yet() else { return true };
            match result {
                Ok(outputs) => {
                    let sent: Vec<&[i64]> = caller.values.iter().map(Vec::as_slice).collect();
                    assert!(!caller.bad);
                    assert_eq!(rows(&outputs), echoed(&sent));
                }
                Err(InferError::ModelFailed { .. }) => assert!(caller.bad, "only who sent a bad row fails"),
                Err(InferError::QueueTimeout { .. }) => assert!(now >= caller.came + QUEUE_TIMEOUT),
                Err(InferError::Deadline { .. }) => assert!(now >= caller.deadline),
                Err(other) => panic!("{other}"),
            }
            false
        });
    }

    /// Everybody who still waits gets an answer, though nobody new comes.
    fn ends_well(mut self) {
        self.stage.fake.set_capacity(None);
        for _ in 0..200 {
            for lane in 0..self.lanes.len() {
                self.begins(lane);
                self.ends(lane, Duration::from_millis(1));
            }
        }
        assert!(self.callers.is_empty(), "{} callers were never answered", self.callers.len());
        let waiting: usize = self.stage.models.iter().map(|model| model.queue_rows()).sum();
        assert_eq!((waiting, self.stage.host.held_bytes()), (0, 0));
        self.stage.fake.clear();
    }
}

#[test]
fn every_accepted_row_is_answered_once_whatever_happens_to_others() {
    let stage = Stage::new();
    let grounds: Vec<_> = stage.models.iter().map(|model| model.ground().clone()).collect();
    // What the fake's panics say would be ten thousand lines.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(10_000));
    let ran = runner.run(&proptest::collection::vec(event(), 1..40), |events| {
        let mut play = Play::new(&stage, &grounds);
        for event in events {
            match event {
                Event::Comes { tenant, batch, rows, bad, patience_ms } => {
                    play.comes((tenant, batch), &rows, bad, patience_ms);
                }
                Event::Begins { lane } => play.begins(lane),
                Event::Ends { lane, took_ms } => play.ends(lane, Duration::from_millis(took_ms)),
                Event::HangsUp { which } if which < play.callers.len() => drop(play.callers.swap_remove(which)),
                Event::HangsUp { .. } => {}
                Event::Passes { ms } => play.passes(Duration::from_millis(ms)),
                Event::Swaps => play.serving = 1 - play.serving,
                Event::Memory { elements } => stage.fake.set_capacity(Some(elements)),
            }
        }
        play.ends_well();
        Ok(())
    });
    std::panic::set_hook(hook);
    ran.unwrap();
}
