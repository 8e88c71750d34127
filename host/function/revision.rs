//! Deploying: component and manifest become a revision, checked against the contract and the models before it may serve.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Config, Manifest, ManifestError, binding,
    manifest::is_name,
    snapshot::{Models, Snapshot},
};
use crate::{
    account::{Account, Holder},
    engine::{Engine, EngineError, ModelReference},
    sandbox::{Plugin, Refusal, Sandbox, TextModel, TokenizerError, Tokenizers},
    telemetry::{FunctionMetrics, Telemetry},
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
    pub(super) tenant_account: Arc<Account>,
    lately_long: LatelyLong,
}

/// After a long invocation of a revision so many more begin where long ones belong.
const AFTER_A_LONG_ONE: u32 = 32;

/// How many invocations are still to begin where long ones belong.
#[derive(Debug, Default)]
struct LatelyLong(AtomicU32);

impl LatelyLong {
    fn expects(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn learn(&self, long: bool) {
        if long {
            self.0.store(AFTER_A_LONG_ONE, Relaxed);
        } else if self.expects() {
            // Two at once may both take one off the last; the next long one sets it right.
            let _ = self.0.try_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        }
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
        self.lately_long.expects()
    }

    /// Learns from an invocation that has ended.
    pub(super) fn learn(&self, long: bool) {
        self.lately_long.learn(long);
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
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Makes revisions.
pub struct Deployer {
    sandbox: Arc<Sandbox>,
    engine: Arc<Engine>,
    telemetry: Arc<Telemetry>,
    config: Config,
    host: Arc<Account>,
    tokenizers: Tokenizers,
    tenants: Mutex<HashMap<String, Arc<Account>>>,
}

impl Deployer {
    /// Everything a revision is made with.
    pub fn new(sandbox: Arc<Sandbox>, engine: Arc<Engine>, telemetry: Arc<Telemetry>, config: Config) -> Self {
        let host = Account::host(config.host_memory_bytes);
        Self { sandbox, engine, telemetry, config, host, tokenizers: Tokenizers::default(), tenants: Mutex::default() }
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
        let plugin = Arc::new(self.sandbox.compile(component)?);
        let revision = Revision {
            tenant: tenant.into(),
            function: function.into(),
            number,
            digest: digest(manifest, component),
            config: Arc::new(read.config.clone()),
            metrics: self.telemetry.function(tenant, function),
            tenant_account: self.tenant_account(tenant),
            lately_long: LatelyLong::default(),
            manifest: read,
            plugin,
        };
        Ok(Snapshot { revision: Arc::new(revision), models: Arc::new(models) })
    }

    /// Resolves every bound model and checks that plugin and model fit.
    fn bind(&self, manifest: &Manifest) -> Result<Models, DeployError> {
        let mut models = BTreeMap::new();
        let mut text = BTreeMap::new();
        for (alias, bound) in &manifest.models {
            let refused = |reason: String| DeployError::Model { alias: alias.clone(), reason };
            let reference: ModelReference =
                bound.model.parse().map_err(|error: EngineError| refused(error.to_string()))?;
            let model = self.engine.model(&reference.name, reference.version);
            let model = model.map_err(|error| refused(error.to_string()))?;
            binding::fits(bound, model.signature()).map_err(refused)?;
            let tokenizer = self.tokenizers.load(&model.file("tokenizer.json"))?;
            let max_tokens = model.signature().dimensions.iter().map(|(_, max)| *max).min();
            text.insert(alias.clone(), TextModel { tokenizer, max_tokens });
            models.insert(alias.clone(), model);
        }
        Ok(Models { by_alias: models, text: Arc::new(text) })
    }

    fn tenant_account(&self, tenant: &str) -> Arc<Account> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || self.host.child(Holder::Tenant, self.config.tenant_memory_bytes);
        tenants.entry(tenant.to_owned()).or_insert_with(make).clone()
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
        let lately = LatelyLong::default();
        lately.learn(false);
        assert!(!lately.expects(), "short ones teach nothing");
        lately.learn(true);
        for left in (0..AFTER_A_LONG_ONE).rev() {
            assert!(lately.expects());
            lately.learn(false);
            assert_eq!(lately.expects(), left > 0);
        }
        lately.learn(true);
        lately.learn(false);
        lately.learn(true);
        assert_eq!(lately.0.load(Relaxed), AFTER_A_LONG_ONE, "a long one counts anew");
    }
}
