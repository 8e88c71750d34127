//! Deploying: component and manifest become a revision, checked against the contract and the models before it may serve.
//!
//! Owns the checks and their order, and how plugins are bound to models. Refuses to know where content comes from and
//! which revisions serve.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Config, Functions, Manifest, ManifestError, Revision, Tenant, Tenants, Traffic, binding,
    manifest::is_name,
    snapshot::{Models, Snapshot},
    tenants::Said,
};
use crate::{
    account::Account,
    cache::Cache,
    engine::{Engine, EngineError, Model, ModelReference, Version},
    registry::Sticky,
    sandbox::{Plugin, Refusal, Sandbox, TextModel, Tokenizers},
    telemetry::Telemetry,
    tenant::Standing,
};

/// What of a wrong name is said back.
const MAX_SHOWN_CHARS: usize = 80;

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
    #[error("models.{alias}: the tenant may not use the model `{model}`; an operator grants it")]
    NotGranted { alias: String, model: String },
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

/// Everything of a revision but its number.
pub(super) struct Prepared {
    pub(super) manifest: Manifest,
    pub(super) digest: String,
    pub(super) plugin: Arc<Plugin>,
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

    /// What `function.toml` says, bound to the models of this moment: all that can be refused without compiling.
    pub(super) fn check(&self, (tenant, function): (&str, &str), manifest: &str) -> Result<Manifest, DeployError> {
        names((tenant, function))?;
        let manifest = Manifest::read(manifest, &self.config)?;
        self.tenant(tenant).may_use(&manifest)?;
        self.bind(&manifest)?;
        Ok(manifest)
    }

    /// Everything of a revision but its number. Blocks while the component compiles.
    pub(super) fn prepare(
        &self,
        names: (&str, &str),
        manifest: &str,
        component: &[u8],
    ) -> Result<Prepared, DeployError> {
        let read = self.check(names, manifest)?;
        let plugin = Arc::new(self.sandbox.compile_for(component, read.passes_through())?);
        Ok(Prepared { manifest: read, digest: digest(manifest, component), plugin })
    }

    /// A revision of what was prepared, on the models of this moment.
    pub(super) fn snapshot(
        &self,
        (tenant, function, number): (&str, &str, u64),
        prepared: &Prepared,
    ) -> Result<Snapshot, DeployError> {
        let models = Arc::new(self.bind(&prepared.manifest)?);
        Ok(Snapshot { revision: Revision::new((tenant, function, number), prepared, self), models })
    }

    /// Makes a revision, or says what is wrong with it. Blocks while the component compiles.
    pub fn deploy(
        &self,
        (tenant, function, number): (&str, &str, u64),
        manifest: &str,
        component: &[u8],
    ) -> Result<Snapshot, DeployError> {
        let prepared = self.prepare((tenant, function), manifest, component)?;
        self.snapshot((tenant, function, number), &prepared)
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
        (models.identified(), missing)
    }

    /// Lets a snapshot serve, on the models of this moment: they may have changed while its component was compiled.
    pub(super) fn publish(&self, functions: &Functions, snapshot: Snapshot) -> Result<(), DeployError> {
        let _together = functions.together();
        let models = Arc::new(self.bind(&snapshot.revision.manifest)?);
        functions.publish(&Snapshot { models, ..snapshot });
        Ok(())
    }

    /// Keeps a revision at hand that is out of traffic, likewise on the models of this moment.
    pub(super) fn keep(&self, functions: &Functions, snapshot: Snapshot) -> Result<Snapshot, DeployError> {
        let _together = functions.together();
        let models = Arc::new(self.bind(&snapshot.revision.manifest)?);
        let snapshot = Snapshot { models, ..snapshot };
        functions.keep(&snapshot);
        Ok(snapshot)
    }

    /// The same for revisions that share a function's requests; what served before stays at hand.
    pub(super) fn publish_shares(
        &self,
        functions: &Functions,
        shares: Vec<(Snapshot, u32)>,
        sticky: Sticky,
    ) -> Result<(), DeployError> {
        let _together = functions.together();
        let rebound = shares.into_iter().map(|(snapshot, weight)| {
            let models = Arc::new(self.bind(&snapshot.revision.manifest)?);
            Ok((Snapshot { models, ..snapshot }, weight))
        });
        functions.serve(Traffic::shared(rebound.collect::<Result<_, DeployError>>()?, sticky), true);
        Ok(())
    }

    /// Another number whenever models have changed: what was refused for a model is worth another try.
    pub(super) fn model_changes(&self) -> u64 {
        self.engine.changes()
    }

    /// Whether a component need not be compiled.
    pub(super) fn is_compiled(&self, component: &[u8]) -> bool {
        self.sandbox.is_compiled(component)
    }

    /// Where everything is told.
    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Has this cache know from now on what each tenant may have remembered.
    pub fn remembered_in(&self, cache: Arc<Cache>) {
        self.tenants.remembered_in(cache);
    }

    /// What tenants may use from now on.
    pub(super) fn allow(&self, said: Said) {
        self.tenants.allow(said);
    }

    /// What is known of a tenant.
    pub fn tenant(&self, tenant: &str) -> Arc<Tenant> {
        self.tenants.get(tenant)
    }
}

/// Whether these can be names of a tenant and a function.
pub(super) fn names((tenant, function): (&str, &str)) -> Result<(), DeployError> {
    match [tenant, function].into_iter().find(|name| !is_name(name)) {
        Some(wrong) => Err(DeployError::Name(wrong.chars().take(MAX_SHOWN_CHARS).collect())),
        None => Ok(()),
    }
}

/// Names a deployment's content.
pub(super) fn digest(manifest: &str, component: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    // The length keeps the two apart.
    hasher.update(&(manifest.len() as u64).to_le_bytes()).update(manifest.as_bytes()).update(component);
    hasher.finalize().to_hex().to_string()
}
