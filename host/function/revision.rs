//! Deploying: component and manifest become a revision, checked against the contract and the models before it may serve.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Config, Functions, Manifest, ManifestError, Tenant, Tenants, binding,
    manifest::is_name,
    snapshot::{Models, Snapshot},
};
use crate::{
    account::{Account, Used},
    engine::{Engine, EngineError, Model, ModelReference, Version},
    invocation::Invocation,
    sandbox::{Plugin, Refusal, Sandbox, TextModel, Tokenizers},
    telemetry::{FunctionMetrics, Telemetry},
    tenant::Standing,
};

/// The immutable content of one deployment of a function.
pub struct Revision {
    /// The owner.
    pub tenant: Arc<str>,
    /// The name.
    pub function: Arc<str>,
    /// 1, 2, …
    pub number: u64,
    /// BLAKE3 over component and manifest.
    pub digest: String,
    /// `function.toml`.
    pub manifest: Manifest,
    /// `[config]`, shared with guests.
    pub(super) config: Arc<BTreeMap<String, String>>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) metrics: FunctionMetrics,
    pub(super) owner: Arc<Tenant>,
    mean_time: MeanTime,
    /// How often an invocation asks each model first, by the plugin's name for it: a moving mean of 0 and `ALWAYS`.
    asks: BTreeMap<String, AtomicU64>,
}

/// From this mean on invocations begin where long ones belong: several times what handing them over and back costs.
const LONG_NS: u64 = 250_000;
/// The mean of a model that every invocation asks.
const ALWAYS: u64 = 1 << 20;
/// How much of the mean one invocation is.
const SHARE: u64 = 16;
/// The most that an invocation counts which was not found to be long on its way. Times of short stages are taken by the
/// wall clock, so some of it may be a thread that had to wait for a core.
const MOST_NS: u64 = 1_000_000;
/// What one counts that was: after it, some thirty short ones still begin where long ones belong.
const FOUND_LONG_NS: u64 = 32_000_000;

/// Processor time of a revision's latest invocations in nanoseconds, a moving mean.
#[derive(Debug, Default)]
struct MeanTime(AtomicU64);

impl MeanTime {
    fn is_long(&self) -> bool {
        self.0.load(Relaxed) > LONG_NS
    }

    fn learn(&self, found_long: bool, time: Duration) {
        let time = if found_long { FOUND_LONG_NS } else { (time.as_nanos() as u64).min(MOST_NS) };
        let mean = self.0.load(Relaxed);
        // Two at once may forget one of them: it is an estimate.
        self.0.store(mean - mean / SHARE + time / SHARE, Relaxed);
    }
}

impl Revision {
    /// Processor time that an invocation may use.
    pub(super) fn cpu_limit(&self) -> Duration {
        Duration::from_millis(self.manifest.limits.cpu_ms)
    }

    /// Whether its next invocation will probably hold a thread for long. Some of what makes it long (filling memory, one
    /// large copy) cannot be interrupted, so it must not begin beside connections.
    pub(super) fn expects_long(&self) -> bool {
        self.mean_time.is_long()
    }

    /// Learns from an invocation that has ended, wherever it ran.
    pub(super) fn learn(&self, invocation: &Invocation, models: &BTreeMap<String, Arc<Model>>) {
        let account = &invocation.account;
        self.mean_time.learn(invocation.is_long(), account.spent(Used::Guest) + account.spent(Used::HostCall));
        for (alias, model) in models {
            let Some(mean) = self.asks.get(alias) else { continue };
            let (before, asked) =
                (mean.load(Relaxed), u64::from(invocation.first_step.asked(model.arrivals())) * ALWAYS);
            // As with times, two at once may forget one of them.
            mean.store(before - before / SHARE + asked / SHARE, Relaxed);
        }
    }

    /// Whether its invocations mostly ask this model in their first step.
    pub(super) fn asks(&self, alias: &str) -> bool {
        self.asks.get(alias).is_some_and(|mean| mean.load(Relaxed) > ALWAYS / 2)
    }

    /// The stages that the plugin has.
    pub fn stages(&self) -> Vec<&'static str> {
        self.plugin.stages().into_iter().map(|stage| stage.name()).collect()
    }
}

/// Why a deployment was refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum DeployError {
    #[error("`{0}` is not a name: 1 to 64 of a-z, 0-9, `-`, `_`, beginning with a letter or digit")]
    Name(String),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error(transparent)]
    Component(#[from] Refusal),
    #[error("models.{alias}: {reason}")]
    Model { alias: String, reason: String },
}

/// A bound model that a function has not.
pub(super) struct Missing {
    pub(super) alias: String,
    /// As `function.toml` names it.
    pub(super) model: String,
    pub(super) reason: String,
    /// There is one, and it does not fit.
    pub(super) misfit: bool,
}

/// Makes revisions.
pub struct Deployer {
    sandbox: Arc<Sandbox>,
    engine: Arc<Engine>,
    telemetry: Arc<Telemetry>,
    config: Config,
    host: Arc<Account>,
    tokenizers: Tokenizers,
    tenants: Tenants,
}

impl Deployer {
    /// Everything a revision is made with.
    pub fn new(sandbox: Arc<Sandbox>, engine: Arc<Engine>, telemetry: Arc<Telemetry>, config: Config) -> Self {
        let host = Account::host(config.host_memory_bytes);
        let tenants = Tenants::new(host.clone(), config.tenant_memory_bytes, BTreeMap::new());
        Self { sandbox, engine, telemetry, config, host, tokenizers: Tokenizers::default(), tenants }
    }

    /// The same, where these tenants stand otherwise among others than by default.
    pub fn with_standings(self, standings: BTreeMap<String, Standing>) -> Self {
        let tenants = Tenants::new(self.host.clone(), self.config.tenant_memory_bytes, standings);
        Self { tenants, ..self }
    }

    /// The account of the whole host.
    pub fn host_account(&self) -> &Arc<Account> {
        &self.host
    }

    /// The host's limits.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes a revision, or says what is wrong with it. Blocks while the component compiles.
    pub fn deploy(
        &self,
        (tenant, function, number): (&str, &str, u64),
        manifest: &str,
        component: &[u8],
    ) -> Result<Snapshot, DeployError> {
        if let Some(wrong) = [tenant, function].into_iter().find(|name| !is_name(name)) {
            return Err(DeployError::Name(wrong.chars().take(80).collect()));
        }
        let read = Manifest::read(manifest, &self.config)?;
        let models = self.bind(&read)?;
        let plugin = Arc::new(self.sandbox.compile_for(component, read.passes_through())?);
        let revision = Revision {
            tenant: tenant.into(),
            function: function.into(),
            number,
            digest: digest(manifest, component),
            config: Arc::new(read.config.clone()),
            metrics: self.telemetry.function(tenant, function),
            owner: self.tenants.get(tenant),
            mean_time: MeanTime::default(),
            asks: read.models.keys().map(|alias| (alias.clone(), AtomicU64::new(0))).collect(),
            manifest: read,
            plugin,
        };
        Ok(Snapshot { revision: Arc::new(revision), models: Arc::new(models) })
    }

    /// Resolves every bound model and checks that plugin and model fit.
    fn bind(&self, manifest: &Manifest) -> Result<Models, DeployError> {
        let (models, missing) = self.rebind(manifest, |name, version| self.engine.model(name, version));
        match missing.into_iter().next() {
            Some(Missing { alias, reason, .. }) => Err(DeployError::Model { alias, reason }),
            None => Ok(models),
        }
    }

    /// The same against the models that `resolve` knows; what is missing is told, and noted for those who ask for it.
    pub(super) fn rebind(
        &self,
        manifest: &Manifest,
        resolve: impl Fn(&str, Version) -> Result<Arc<Model>, EngineError>,
    ) -> (Models, Vec<Missing>) {
        let (mut models, mut missing) = (Models::default(), Vec::new());
        let mut text = BTreeMap::new();
        for (alias, bound) in &manifest.models {
            let reference = bound.model.parse::<ModelReference>();
            let found = reference.and_then(|reference| resolve(&reference.name, reference.version));
            let fits = found.map_err(|error| (error.to_string(), false)).and_then(|model| {
                binding::fits(bound, model.signature()).map_err(|reason| (reason, true))?;
                let tokenizer = self.tokenizers.load(&model.file("tokenizer.json"));
                Ok((tokenizer.map_err(|error| (error.to_string(), true))?, model))
            });
            match fits {
                Ok((tokenizer, model)) => {
                    let max_tokens = model.signature().dimensions.iter().map(|(_, max)| *max).min();
                    text.insert(alias.clone(), TextModel { tokenizer, max_tokens });
                    models.by_alias.insert(alias.clone(), model);
                }
                Err((reason, misfit)) => {
                    let (alias, model) = (alias.clone(), bound.model.clone());
                    models.missing.push(model.clone());
                    missing.push(Missing { alias, model, reason, misfit });
                }
            }
        }
        models.text = Arc::new(text);
        (models, missing)
    }

    /// Lets a snapshot serve, on the models of this moment: they may have changed while its component was compiled.
    pub(super) fn publish(&self, functions: &Functions, snapshot: Snapshot) -> Result<(), DeployError> {
        let _together = functions.together();
        let models = Arc::new(self.bind(&snapshot.revision.manifest)?);
        functions.publish(&Snapshot { models, ..snapshot });
        Ok(())
    }

    /// Another number whenever models have changed: what was refused for a model is worth another try.
    pub(super) fn model_changes(&self) -> u64 {
        self.engine.changes()
    }

    /// What is known of a tenant.
    pub fn tenant(&self, tenant: &str) -> Arc<Tenant> {
        self.tenants.get(tenant)
    }
}

/// Names a deployment's content.
pub(super) fn digest(manifest: &str, component: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    // The length keeps the two apart.
    hasher.update(&(manifest.len() as u64).to_le_bytes()).update(manifest.as_bytes()).update(component);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_invocation_is_remembered_for_a_while() {
        let (mean, short) = (MeanTime::default(), Duration::from_micros(20));
        let after = |found_long, time: Duration, count: u32| {
            (0..count).for_each(|_| mean.learn(found_long, time));
            mean.is_long()
        };
        assert!(!after(false, short, 100), "short ones teach nothing");
        assert!(!after(false, Duration::from_secs(1), 1), "one may have waited for a core");
        assert!(!after(false, short, 100));
        assert!(after(true, short, 1) && after(false, short, 20), "one that was long on its way is remembered");
        assert!(!after(false, short, 30), "for a while");
        assert!(after(false, Duration::from_millis(1), 20), "many that are long together");
        assert!(after(false, Duration::from_micros(400), 100) && !after(false, Duration::from_micros(100), 100));
    }
}
