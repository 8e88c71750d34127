//! Puts the rooms together: the one file that knows all of them. [`start`] gives a host that serves, for `main` and for
//! tests alike; [`Host::drain`] ends it without losing what was accepted.

mod ending;
mod listen;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    runtime::{Builder, Handle, Runtime as Threads},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    access::Token,
    cache::{Announced, Cache},
    config::{self, Config},
    engine::{self, Engine},
    function::{
        Admission, Deployer, Deployments, Direct, Folder, Following, Functions, Identity, LOOK_EVERY, ModelControl,
        Parts, Remembered, Runtime,
    },
    http::{self, ControlParts, Phase, Server, Tls},
    registry::{self, Registry},
    sandbox::{Compiled, Sandbox},
    telemetry::{self, Exporting, Telemetry},
};

pub use listen::Arrival;

/// Threads for blocking work of the guests' runtime (files of guests that have none, mostly idle).
const GUEST_BLOCKING_THREADS: usize = 4;
/// What connections may still take for their last answers once no invocation is left.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Open files beside connections: models, components, logs, the collector, and what libraries keep.
const OTHER_FILES: u64 = 256;

/// A host that serves.
pub struct Host {
    data: SocketAddr,
    control: SocketAddr,
    schemes: [&'static str; 2],
    rooms: Rooms,
    telemetry: Arc<Telemetry>,
    drain_timeout: Duration,
    phase: watch::Sender<Phase>,
    planes: JoinSet<()>,
    stop: watch::Sender<bool>,
    exporting: Option<Exporting>,
}

/// The threads on which guests run. A runtime may not be waited for inside another, so dropping lets it end by itself.
struct Guests(Option<Threads>);

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Loads models, opens both planes and serves.
pub async fn start(config: Config) -> Result<Host> {
    start_as(config, Arrival::default()).await
}

/// The same as somebody's successor, or at sockets that a supervisor opened.
pub async fn start_as(config: Config, arrival: Arrival) -> Result<Host> {
    start_whole(config, arrival, || Arc::new(engine::torch::Torch::default())).await
}

/// The same with another backend than libtorch as it is: a benchmark puts a clock around each batch.
pub async fn start_with(
    config: Config,
    backend: impl FnOnce() -> Arc<dyn engine::Backend> + Send + 'static,
) -> Result<Host> {
    start_whole(config, Arrival::default(), backend).await
}

async fn start_whole(
    config: Config,
    arrival: Arrival,
    backend: impl FnOnce() -> Arc<dyn engine::Backend> + Send + 'static,
) -> Result<Host> {
    let (telemetry, exporting) = telemetry::start(&config.telemetry).map_err(anyhow::Error::msg)?;
    allow_open_files(&config.http);
    // Before models are loaded, which takes seconds.
    let mapped = http::Mapped::new(&config.routes).map_err(anyhow::Error::msg)?;
    let tls = tls(&config.http)?;
    arrival.look(&config).await?;
    let schemes = tls.each_ref().map(|tls| if tls.is_some() { "https" } else { "http" });
    let (stop, stopped) = watch::channel(false);
    let engine = start_engine(config.engine.clone(), backend, telemetry.clone()).await?;
    let rooms = Rooms::new(&config, engine, telemetry.clone(), stopped.clone()).await?;
    let routers = rooms.routers(&config, mapped, telemetry.clone());
    let (phase, _) = watch::channel(Phase::Serving);
    let listening = arrival.sockets(&config).await?;
    let [data, control] = listening.addresses()?;
    let (sockets, reached) = listening.apart()?;
    let mut planes = JoinSet::new();
    for ((socket, router), tls) in sockets.into_iter().zip(routers).zip(tls) {
        planes.spawn(Server::new(socket, router, &config.http, tls)?.run(phase.subscribe(), LAST_BYTES));
    }
    let drain_timeout = config.http.drain_timeout();
    let mut host = Host { data, control, schemes, rooms, telemetry, drain_timeout, phase, planes, stop, exporting };
    match reached.settle(&config.engine.data, host.phase.clone(), stopped).await {
        Ok(door) => host.rooms.tasks.extend(door),
        Err(error) => {
            // The other goes on at the same sockets; what this one has accepted meanwhile is answered.
            host.phase.send_replace(Phase::Leaving);
            host.drain().await;
            return Err(error);
        }
    }
    Ok(host)
}

/// Everything that serves, before anybody can reach it.
struct Rooms {
    admission: Arc<Admission>,
    engine: Arc<Engine>,
    runtime: Arc<Runtime>,
    following: Arc<Following>,
    deployments: Arc<Deployments>,
    cache: Arc<Cache>,
    tasks: Vec<JoinHandle<()>>,
    guests: Guests,
}

impl Rooms {
    /// Brings functions up, and begins to follow whatever may change.
    async fn new(
        config: &Config,
        engine: Arc<Engine>,
        telemetry: Arc<Telemetry>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self> {
        let compiled = Compiled::open(&config.engine.data.join("compiled"))?;
        let sandbox = Sandbox::with_compiled(config.sandbox.clone(), engine.staging(), Some(compiled));
        let sandbox = sandbox.context("the sandbox could not be set up")?;
        let guests = guest_threads(&config.threads)?;
        let functions = Arc::new(Functions::default());
        let permits = sandbox.permits().clone();
        let deployer = Deployer::new(sandbox, engine.clone(), telemetry.clone(), config.limits.clone());
        let deployer = Arc::new(deployer.with_standings(config.tenants.clone()));
        let admission = Arc::new(Admission::new(permits, config.limits.retry_after(), telemetry.clone()));
        let account = deployer.host_account().clone();
        telemetry.watch(account);
        let token = Token::in_folder(&config.engine.data)?;
        let registry = Registry::open(&config.registry, &config.engine.data).await.context("the registry")?;
        let cache = start_cache(config, &registry).await?;
        deployer.remembered_in(cache.clone());
        let (remembered, refreshes) = Remembered::new(cache.clone());
        let counted = remembered.clone();
        telemetry.watch_cache(move || counted.figures());
        let following = Following::new(registry.clone(), deployer.clone(), functions.clone());
        following.bring_up().await;
        let runtime = Arc::new(Runtime::new(Parts {
            identity: Arc::new(Identity::new(&config.auth, token, registry.clone()).context("auth.jwt")?),
            following: following.clone(),
            admission: admission.clone(),
            engine: engine.clone(),
            models: ModelControl::new(engine.clone(), deployer.clone(), functions.clone()),
            direct: Direct::new(config.oip.clone(), deployer.clone()),
            guests: (guests.handle(), config.threads.guests()),
            quarantine: config.quarantine,
            remembered,
        }));
        let deployments = Deployments::new(following.clone());
        let mut tasks = vec![
            tokio::spawn(telemetry::follow(telemetry, stopped.clone())),
            tokio::spawn(registry.follow(stopped.clone())),
            tokio::spawn(following.clone().follow(stopped.clone())),
            tokio::spawn(deployments.clone().run(runtime.clone(), stopped.clone())),
            tokio::spawn(runtime.clone().refresh(refreshes, stopped.clone())),
        ];
        if let Some(path) = config.dev_functions.clone() {
            tasks.push(follow(Folder::new(path, deployer, functions), stopped).await?);
        }
        Ok(Self { admission, engine, runtime, following, deployments, cache, tasks, guests })
    }

    /// What both planes answer with.
    fn routers(&self, config: &Config, mapped: http::Mapped, telemetry: Arc<Telemetry>) -> [http::Router; 2] {
        let data = http::data_router(self.runtime.clone(), mapped);
        let control = http::control_router(ControlParts {
            runtime: self.runtime.clone(),
            telemetry,
            following: self.following.clone(),
            deployments: self.deployments.clone(),
            max_component_bytes: config.sandbox.max_component_bytes,
            order_timeout: Duration::from_millis(config.http.header_timeout_ms),
            loopback: config.http.control_listen.ip().is_loopback(),
        });
        [data, control]
    }
}

/// What a start would find wrong with the files that a configuration names, but for models and functions.
pub fn check(config: &Config) -> Result<()> {
    tls(&config.http)?;
    Identity::check(&config.auth).context("auth.jwt")
}

/// What is remembered; over Redis hosts also tell each other of changes to the registry.
async fn start_cache(config: &Config, registry: &Arc<Registry>) -> Result<Arc<Cache>> {
    let followed = registry.clone();
    let heard = move |announced: Announced| {
        if announced.topic == registry::TOPIC {
            followed.look_soon();
        }
    };
    let cache = Cache::start(config.cache.clone(), heard).await.context("the cache")?;
    registry.announce_by(cache.clone());
    Ok(cache)
}

/// Certificates and keys of the data plane and the control plane.
fn tls(config: &http::Config) -> Result<[Option<Tls>; 2]> {
    let load = |files: &Option<http::TlsFiles>| files.clone().map(Tls::load).transpose();
    Ok([load(&config.tls).context("http.tls")?, load(&config.control_tls).context("http.control_tls")?])
}

/// Loading a model takes seconds of a thread that may block.
async fn start_engine(
    config: engine::Config,
    backend: impl FnOnce() -> Arc<dyn engine::Backend> + Send + 'static,
    telemetry: Arc<Telemetry>,
) -> Result<Arc<Engine>> {
    let load = move || Engine::start(&config, backend(), &telemetry);
    Ok(tokio::task::spawn_blocking(load).await.context("loading models panicked")??)
}

/// Raises the limit of open files as far as the system lets it, which by default is far below what connections need.
fn allow_open_files(config: &http::Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    // Two planes, each with so many.
    let wanted = 2 * u64::from(config.max_connections) + OTHER_FILES;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            "{allowed} open files are allowed and http.max_connections may need {wanted}: raise the limit (ulimit -n), \
             or connections wait in the kernel"
        );
    }
}

/// Threads that stand back: who meets a long guest on its core should not wait for the end of that guest's turn.
fn guest_threads(config: &config::Threads) -> Result<Guests> {
    let niceness = i32::from(config.guests_niceness);
    let stand_back = move || {
        // On Linux this is the calling thread's alone. Where it is not allowed, guests only run as others do.
        if let Err(error) = rustix::process::nice(niceness) {
            tracing::warn!(%error, "the guests' threads cannot stand back behind others");
        }
    };
    let threads = Builder::new_multi_thread()
        .on_thread_start(stand_back)
        .worker_threads(config.guests())
        .max_blocking_threads(GUEST_BLOCKING_THREADS)
        // Whoever arrives joins the gate's lines at once, not when a thread has nothing else to do.
        .global_queue_interval(1)
        .thread_name("guests")
        .enable_time()
        .build()
        .context("the guests' threads could not be started")?;
    Ok(Guests(Some(threads)))
}

impl Guests {
    fn handle(&self) -> Handle {
        // `None` only while it is being dropped; then nobody asks.
        self.0.as_ref().map_or_else(Handle::current, |threads| threads.handle().clone())
    }
}

/// Loads the folder's functions before the first request, then again when they change.
async fn follow(folder: Folder, mut stopped: watch::Receiver<bool>) -> Result<JoinHandle<()>> {
    let (mut folder, looked) = look(folder).await?;
    looked.context("the folder of --dev-functions")?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            folder = match look(folder).await {
                Ok((folder, Ok(()))) => folder,
                Ok((folder, Err(error))) => {
                    tracing::warn!("functions cannot be followed: {error}");
                    folder
                }
                Err(error) => return tracing::error!("functions are no longer followed: {error}"),
            };
        }
    }))
}

async fn look(mut folder: Folder) -> Result<(Folder, Result<(), crate::function::DeployError>)> {
    let looked = tokio::task::spawn_blocking(move || {
        let looked = folder.look();
        (folder, looked)
    });
    looked.await.context("deploying panicked")
}

impl Host {
    /// Where callers come in.
    pub fn data_address(&self) -> SocketAddr {
        self.data
    }

    /// Where operators come in.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Where callers come in, as they say it: `http` or `https`, and the address.
    pub fn data_url(&self) -> String {
        format!("{}://{}", self.schemes[0], self.data)
    }

    /// Where operators come in, likewise.
    pub fn control_url(&self) -> String {
        format!("{}://{}", self.schemes[1], self.control)
    }

    /// Whether callers must say who they are.
    pub fn asks_for_keys(&self) -> bool {
        self.rooms.runtime.identity().is_required()
    }

    /// The way of a request without a wire before it, for callers in this process.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.rooms.runtime
    }

    /// All metrics of this host.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Waits until a device is lost, which mostly never happens, and tells why: then this process must end.
    pub async fn lost(&self) -> String {
        if !self.rooms.engine.can_be_lost() {
            return std::future::pending().await;
        }
        loop {
            if let Some(why) = self.rooms.engine.lost() {
                return why;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until another host has taken over: it accepts, this one does not any more and is to be drained.
    pub async fn handed_over(&self) {
        // Fails only without a sender, which this host is.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Leaving).await;
    }
}
