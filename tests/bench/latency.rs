//! What the engine adds to a model for one caller: `Model::infer` to outputs in this process, without HTTP and guest,
//! against the same batch run by the backend's instance on the lane's own thread, taking turns.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tenon_host::{
    account::{Account, Holder},
    engine::{BackendError, Batch, Engine, Instance, Model, Read, Version},
    invocation::Invocation,
    telemetry::Telemetry,
    tensor::{Datatype, Layout, Tensor},
};

use crate::{
    TURNS,
    around::{self, Around},
    median,
    place::{Place, reactor},
    quantile,
};

/// Inferences of a turn.
const COUNT: usize = 5000;
/// Microseconds that the engine may add.
const GOAL: f64 = 60.0;
/// What an invocation may hold.
const MEMORY_BYTES: u64 = 1 << 20;
/// What it may take.
const PATIENCE: Duration = Duration::from_secs(60);
const WIDTH: u64 = 16;

/// How often the next batch is run by itself first, and how long each of those runs took.
#[derive(Default)]
struct Alone {
    runs: AtomicUsize,
    times: Mutex<Vec<Duration>>,
}

impl Around for Alone {
    fn run(&self, instance: &mut dyn Instance, batch: &Batch<'_>, read: &mut Read<'_>) -> Result<(), BackendError> {
        for _ in 0..self.runs.swap(0, Relaxed) {
            let start = Instant::now();
            instance.run(batch, &mut |_| Ok(()))?;
            self.times.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
        }
        instance.run(batch, read)
    }
}

/// Prints the difference of the medians.
pub(crate) fn measure() {
    let place = Place::empty().with_model(".tenon/test-models/identity", &[]);
    let config = place.config();
    let runtime = reactor(&config);
    let alone = Arc::new(Alone::default());
    let engine =
        Engine::start(&config.engine, around::torch(&alone), &Arc::new(Telemetry::new())).expect("the engine starts");
    let model = engine.model("identity", Version::Serving).expect("the model is there");
    let turn = || {
        let (model, alone) = (model.clone(), alone.clone());
        // A task, as an invocation is one.
        runtime.block_on(async { tokio::spawn(turn(model, alone)).await.expect("a task does not panic") })
    };
    turn();
    let turns: Vec<_> = (0..TURNS).map(|_| turn()).collect();
    let added = median(turns.iter().map(|(direct, engine)| engine - direct));
    let (direct, through) = (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
    let verdict = if added <= GOAL { "within" } else { "OVER" };
    println!(
        "identity fp32[{WIDTH}], one caller in process: the engine adds p50 {added:.1} us ({verdict} {GOAL:.0} us; \
         {through:.1} us against {direct:.1} us of the instance by itself)"
    );
    engine.stop();
}

/// Medians of the instance by itself, and of the way through the engine, in microseconds.
async fn turn(model: Arc<Model>, alone: Arc<Alone>) -> (f64, f64) {
    alone.runs.store(COUNT, Relaxed);
    infer(&model).await;
    let mut direct = std::mem::take(&mut *alone.times.lock().unwrap_or_else(PoisonError::into_inner));
    direct.sort();
    let mut through = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        through.push(infer(&model).await);
    }
    through.sort();
    (quantile(&direct, 0.5), quantile(&through, 0.5))
}

async fn infer(model: &Arc<Model>) -> Duration {
    let layout = Layout::fixed(&[1, WIDTH]).expect("it is small");
    let bytes = vec![0; (WIDTH * Datatype::Fp32.width()) as usize];
    let inputs = vec![("x".to_owned(), Tensor::new(Datatype::Fp32, layout, bytes.into()).expect("bytes fit"))];
    let account = Account::host(MEMORY_BYTES).child(Holder::Invocation, MEMORY_BYTES);
    let deadline = Instant::now() + PATIENCE;
    let invocation = Arc::new(Invocation::new("1".into(), ("test".into(), "bench".into()), deadline, account));
    let start = Instant::now();
    let pending = model.infer(inputs, Vec::new(), &invocation).expect("there is room");
    pending.outputs().await.expect("the model answers");
    start.elapsed()
}
