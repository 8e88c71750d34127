//! Models that change while functions use them: prepared beside what serves, checked against every function that is
//! bound, then published at once for all of them.
//!
//! Owns the order of a change and who may refuse it. Refuses to know how a model comes up (that is `engine`) and who
//! asked. What is in flight ends on the snapshot that it has; there is no moment at which a function has no model,
//! unless an operator insists.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Deployer, Functions, deployer::Missing, snapshot::Snapshot};
use crate::engine::{Change, ChangeError, Engine, EngineError, ModelStatus, Version};

/// How long a change waits for the one before it: operators want an answer, and loading may take minutes.
const TURN: Duration = Duration::from_secs(10);

/// Why models were not changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ModelError {
    #[error("{0}")]
    NotFound(ChangeError),
    #[error("{0}")]
    Refused(ChangeError),
    #[error("nothing was changed: {0}")]
    Misfit(String),
    #[error("{0}")]
    Stopped(ChangeError),
    #[error("nothing was changed: functions would be left without `{model}`: {}", functions.join(", "))]
    InUse { model: String, functions: Vec<String> },
    #[error("another change is in progress ({0}); come again when it has ended")]
    Busy(String),
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<ChangeError> for ModelError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound { .. } | ChangeError::NoVersion { .. } => Self::NotFound(error),
            ChangeError::Stopped => Self::Stopped(error),
            error => Self::Refused(error),
        }
    }
}

/// Changes the models of a running host.
pub struct ModelControl {
    engine: Arc<Engine>,
    deployer: Arc<Deployer>,
    functions: Arc<Functions>,
    /// One change at a time: two of one model would each undo the other's work.
    turn: Arc<tokio::sync::Mutex<()>>,
    in_progress: Mutex<String>,
}

impl ModelControl {
    /// Over the host's models and functions.
    pub fn new(engine: Arc<Engine>, deployer: Arc<Deployer>, functions: Arc<Functions>) -> Arc<Self> {
        let (turn, in_progress) = (Arc::default(), Mutex::default());
        Arc::new(Self { engine, deployer, functions, turn, in_progress })
    }

    /// Brings a model, or one version of it, to what the repository says.
    pub async fn load(self: &Arc<Self>, name: &str, version: Option<u64>) -> Result<Vec<ModelStatus>, ModelError> {
        let prepare = {
            let name = name.to_owned();
            move |engine: &Engine| engine.prepare_load(&name, version)
        };
        self.change(("load", name), false, prepare).await
    }

    /// Takes a model, or one version of it, out of service. Where functions would be left without a model, only by
    /// `force`: then they answer that it is not available, until it is loaded again.
    pub async fn unload(
        self: &Arc<Self>,
        name: &str,
        version: Option<u64>,
        force: bool,
    ) -> Result<Vec<ModelStatus>, ModelError> {
        let prepare = {
            let name = name.to_owned();
            move |engine: &Engine| engine.prepare_unload(&name, version)
        };
        self.change(("unload", name), force, prepare).await
    }

    /// A task of its own: a change that was begun is ended, whether or not whoever asked for it still waits.
    async fn change(
        self: &Arc<Self>,
        (what, name): (&str, &str),
        force: bool,
        prepare: impl FnOnce(&Engine) -> Result<Change, ChangeError> + Send + 'static,
    ) -> Result<Vec<ModelStatus>, ModelError> {
        let Ok(turn) = tokio::time::timeout(TURN, self.turn.clone().lock_owned()).await else {
            return Err(ModelError::Busy(self.in_progress().clone()));
        };
        *self.in_progress() = format!("{what} {name}");
        let (control, name) = (self.clone(), name.to_owned());
        let change = move || {
            let _turn = turn;
            control.publish(prepare(&control.engine)?, force)?;
            Ok(control.engine.models().into_iter().filter(|model| model.name == name).collect())
        };
        // It runs to its end even where this future is dropped.
        let changed = tokio::task::spawn_blocking(change).await;
        changed.unwrap_or_else(|panicked| Err(ModelError::Internal(panicked.to_string())))
    }

    fn in_progress(&self) -> std::sync::MutexGuard<'_, String> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every function that is bound to the model, then exchanges the model and all their snapshots.
    fn publish(&self, change: Change, force: bool) -> Result<(), ModelError> {
        // No function is deployed meanwhile, so none misses the change.
        let _together = self.functions.together();
        let bound = self.functions.ready().into_iter().filter(|it| it.asks(change.name()));
        let mut changed = Vec::new();
        let (mut misfits, mut left) = (Vec::new(), Vec::new());
        for snapshot in bound {
            let resolve = |name: &str, version: Version| -> Result<_, EngineError> {
                if name == change.name() { change.model(version) } else { self.engine.model(name, version) }
            };
            let function = name_of(&snapshot);
            let (models, missing) = self.deployer.rebind(&snapshot.revision.manifest, resolve);
            for Missing { alias, model, reason, misfit } in missing {
                if !snapshot.models.by_alias.contains_key(&alias) {
                    // What was missing before is nobody's loss now, and must not keep the model from others.
                    tracing::warn!(function, alias, model, reason, "still without its model");
                } else if misfit {
                    misfits.push(format!("{function}: models.{alias}: {reason}"));
                } else {
                    left.push(format!("{function} ({model})"));
                }
            }
            changed.push(Snapshot { revision: snapshot.revision.clone(), models: Arc::new(models) });
        }
        if !force && let Some(error) = refusal(&change, misfits, left) {
            self.engine.refuse(change, &error.to_string());
            return Err(error);
        }
        let model = change.name().to_owned();
        self.engine.publish(change)?;
        self.functions.exchange(&model, &changed);
        Ok(())
    }
}

fn refusal(change: &Change, misfits: Vec<String>, left: Vec<String>) -> Option<ModelError> {
    if !misfits.is_empty() {
        return Some(ModelError::Misfit(misfits.join("; ")));
    }
    (!left.is_empty()).then(|| ModelError::InUse { model: change.name().into(), functions: left })
}

fn name_of(snapshot: &Snapshot) -> String {
    format!("{}/{}", snapshot.revision.tenant, snapshot.revision.function)
}
