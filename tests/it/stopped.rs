//! Models that are stopped while callers still come. `boot` does not let that happen: it stops the engine when nobody is
//! let in any more and both ports are closed. Whoever puts the rooms together otherwise, or stops one model of many, is to
//! see the documented answer all the same, so here they are put together with the engine in the test's hand.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;
use tenon_host::{
    access::Token,
    cache::Cache,
    config::Config,
    engine::{Engine, torch::Torch},
    function::{
        Admission, Deployer, Direct, Folder, Following, Functions, Identity, ModelControl, Parts, Remembered, Runtime,
    },
    http::{self, Phase, Server},
    registry::Registry,
    sandbox::Sandbox,
    telemetry::Telemetry,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{block_in_place, spawn_blocking},
};

use crate::support::{Answer, TestHost, client, eventually};

/// A data plane, and what a host keeps to itself.
struct Rooms {
    base: String,
    engine: Arc<Engine>,
    telemetry: Arc<Telemetry>,
    /// The port is closed when it is gone.
    _stop: watch::Sender<Phase>,
    _folder: TempDir,
}

impl Rooms {
    /// Loads and compiles, which takes this thread.
    fn new(test: TestHost) -> Self {
        let mut config = Config::default();
        let folder = test.config(|wanted| config = wanted.clone()).into_folder();
        let telemetry = Arc::new(Telemetry::new());
        let engine = Engine::start(&config.engine, Arc::new(Torch::default()), &telemetry).unwrap();
        let sandbox = Sandbox::new(config.sandbox, engine.staging()).unwrap();
        let admission = Admission::new(sandbox.permits().clone(), config.limits.retry_after(), telemetry.clone());
        let deployer = Arc::new(Deployer::new(sandbox, engine.clone(), telemetry.clone(), config.limits));
        let functions = Arc::new(Functions::default());
        let registry = Handle::current().block_on(Registry::open(&config.registry, &config.engine.data)).unwrap();
        let cache = Handle::current().block_on(Cache::start(config.cache, |_| {})).unwrap();
        let token = Token::in_folder(&config.engine.data).unwrap();
        let runtime = Arc::new(Runtime::new(Parts {
            identity: Arc::new(Identity::new(&config.auth, token, registry.clone()).unwrap()),
            following: Following::new(registry, deployer.clone(), functions.clone()),
            admission: Arc::new(admission),
            engine: engine.clone(),
            models: ModelControl::new(engine.clone(), deployer.clone(), functions.clone()),
            direct: Direct::new(config.oip, deployer.clone()),
            guests: (Handle::current(), 1),
            quarantine: config.quarantine,
            remembered: Remembered::new(cache).0,
        }));
        Folder::new(config.dev_functions.unwrap(), deployer, functions).look().unwrap();
        let router = http::data_router(runtime, http::Mapped::default());
        let listener = http::listen(config.http.listen, &config.http).unwrap();
        let base = format!("http://{}/v1/functions/test", listener.local_addr().unwrap());
        let server = Server::new(listener, router, &config.http, None).unwrap();
        let (stop, phase) = watch::channel(Phase::Serving);
        tokio::spawn(server.run(phase, Duration::ZERO));
        Self { base, engine, telemetry, _stop: stop, _folder: folder }
    }

    async fn call(&self, path: &str) -> Answer {
        Answer::of(client().build().unwrap().post(format!("{}/{path}", self.base)).send().await.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_stopped_is_unavailable() {
    let one_at_a_time = [("max_batch_size = 8", "max_batch_size = 1")];
    let test = TestHost::new().probe().changed_model("slow", &one_at_a_time).functions(&["empty"]);
    let host = block_in_place(|| Rooms::new(test));
    assert_eq!(host.call("probe/rows").await.status, 200);
    let stopping = async {
        let queued = "tenon_queue_rows{model=\"slow\"} ";
        let waits = |line: &str| line.strip_prefix(queued).is_some_and(|rows| rows.parse::<f64>().unwrap() > 0.0);
        eventually("rows wait", async || host.telemetry.text().lines().any(waits)).await;
        let engine = host.engine.clone();
        spawn_blocking(move || engine.stop()).await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all((0..8).map(|_| host.call("probe/slow"))), stopping);
    // What was on the lane is answered; who waited is told that it is no use.
    let (served, told): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!told.is_empty(), "{} were served", served.len());
    for answer in told {
        answer.is_problem(503, "model-unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // Who comes now is told at the door, and whoever needs no model is served.
    let late = host.call("probe/rows").await;
    let problem = late.is_problem(503, "model-unavailable");
    assert!(problem["detail"].as_str().unwrap().starts_with("model `"), "{problem}");
    assert_eq!((late.header("retry-after"), host.call("empty").await.status), ("1", 200));
}
