//! Changes at run time: versions come up beside those that serve, and the map is exchanged when all of them did.
//!
//! Owns what a change is made of and when it is refused. Refuses to know who is bound to a model: whoever publishes a
//! change asks those first, which is why preparing and publishing are two steps. Preparing blocks for as long as loading
//! and measuring take; the caller sees to it that there is one change at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    time::Instant,
};

use super::{
    Engine,
    catalogue::{Catalogue, Failure, Slot, Versions},
    error::{ChangeError, EngineError},
    model::{self, DeviceShare, Model},
    reference::{ModelReference, Version},
    repository::{self, Found},
};

/// What a model is to be, ready to be published. Dropping it takes down what was brought up.
#[derive(Debug)]
pub struct Change {
    name: String,
    versions: Versions,
}

impl Change {
    /// Which model it is about.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model that `version` will mean.
    pub fn model(&self, version: Version) -> Result<Arc<Model>, EngineError> {
        let gone = || EngineError::NotFound {
            model: ModelReference { name: self.name.clone(), version }.to_string(),
            known: format!("{} has {}", self.name, numbers(&self.versions)),
        };
        self.versions.find(&self.name, version).map_err(|error| error.unwrap_or_else(gone))
    }
}

fn numbers(versions: &Versions) -> String {
    let numbers: Vec<_> = versions.0.keys().map(u64::to_string).collect();
    if numbers.is_empty() { "no version".into() } else { numbers.join(", ") }
}

impl Engine {
    /// Brings up what the repository has of a model, or one version of it. What serves and has not changed stays as it
    /// is. If one version fails nothing changes, but its reason is listed.
    pub fn prepare_load(&self, name: &str, version: Option<u64>) -> Result<Change, ChangeError> {
        let found = repository::scan(&self.config.models)?.into_iter().find(|found| found.name == name);
        let before = self.catalogue.load().0.get(name).cloned();
        let (found, before) = match (found, before) {
            (None, None) => return Err(self.unknown(name)),
            // What is gone is to leave.
            (None, Some(_)) if version.is_none() => {
                return Ok(Change { name: name.into(), versions: Versions::default() });
            }
            (None, Some(before)) => return Err(no_version(name, version.unwrap_or(0), &before)),
            (Some(found), before) => (found, before.unwrap_or_default()),
        };
        let wanted = match version {
            Some(version) if !found.versions.contains(&version) => {
                let there = found.versions.iter().map(|version| (*version, Slot::default())).collect();
                return Err(no_version(name, version, &Versions(there)));
            }
            Some(version) => vec![version],
            None => found.versions.clone(),
        };
        let mut versions = match version {
            Some(_) => Versions::clone(&before),
            None => Versions::default(),
        };
        let mut failures = BTreeMap::new();
        if wanted.is_empty() {
            let error = super::LoadError::NoVersion { folder: found.folder.clone() };
            failures.insert(0, Failure::of(&error, false));
        }
        // Versions whose folders are gone leave with this change, and those that are replaced.
        let stay = |number: &u64| version.is_some() || found.versions.contains(number);
        let mut leaving: Vec<_> =
            before.models().filter(|(number, _)| !stay(number)).flat_map(|(_, model)| model.shares()).collect();
        for version in wanted {
            let old = before.0.get(&version);
            match self.bring_up(&found, version, (old, &leaving)) {
                Ok(model) => {
                    let old = old.and_then(|slot| slot.model.as_ref()).filter(|old| !Arc::ptr_eq(old, &model));
                    leaving.extend(old.into_iter().flat_map(|old| old.shares()));
                    versions.0.insert(version, Slot::of(model));
                }
                Err(failure) => drop(failures.insert(version, failure)),
            }
        }
        if failures.is_empty() {
            versions.0.remove(&0);
            return Ok(Change { name: name.into(), versions });
        }
        let said = failures.iter().map(|(version, failure)| format!("{name}@{version}: {}", failure.detail)).collect();
        self.note(name, failures);
        Err(ChangeError::Failed { failures: said })
    }

    /// The version that serves if its files are as they were, else one made of them.
    fn bring_up(
        &self,
        found: &Found,
        version: u64,
        (before, leaving): (Option<&Slot>, &[DeviceShare]),
    ) -> Result<Arc<Model>, Failure> {
        let failed = |error| {
            tracing::error!(model = found.name, version, %error, "model failed");
            Failure::of(&error, false)
        };
        let before = before.and_then(|slot| slot.model.as_ref());
        if let Some(model) = before
            && model::digests(found, version).map_err(failed)? == model.digests()
        {
            return Ok(model.clone());
        }
        let leaving: Vec<_> =
            leaving.iter().copied().chain(before.into_iter().flat_map(|model| model.shares())).collect();
        self.start_version(found, version, &leaving).map_err(failed)
    }

    /// Brings one version up, in the place of models with these shares of memory.
    pub(super) fn start_version(
        &self,
        found: &Found,
        version: u64,
        instead_of: &[DeviceShare],
    ) -> Result<Arc<Model>, super::LoadError> {
        let (begun, name) = (Instant::now(), &found.name);
        let device = (&*self.backend, (&self.budgets, instead_of));
        let model = Model::start(found, version, &self.config, device, self.telemetry.model(name))?;
        tracing::info!(model = name, version, seconds = begun.elapsed().as_secs_f64(), "model ready");
        Ok(model)
    }

    /// Takes versions out of service although their files are there.
    pub fn prepare_unload(&self, name: &str, version: Option<u64>) -> Result<Change, ChangeError> {
        let catalogue = self.catalogue.load();
        let before = catalogue.0.get(name).ok_or_else(|| self.unknown(name))?;
        let chosen: Vec<u64> = match version {
            Some(version) if !before.0.contains_key(&version) => return Err(no_version(name, version, before)),
            Some(version) => vec![version],
            None => before.0.keys().copied().collect(),
        };
        // What failed is listed as unloaded from then on: its operator has given it up.
        let is_in = |slot: &Slot| slot.model.is_some() || slot.failure.is_some();
        if !chosen.iter().any(|version| is_in(&before.0[version])) {
            let version = version.map_or(Version::Serving, Version::Number);
            return Err(ChangeError::NotLoaded { model: ModelReference { name: name.into(), version }.to_string() });
        }
        let mut versions = Versions::clone(before);
        versions.0.extend(chosen.into_iter().map(|version| (version, Slot::default())));
        Ok(Change { name: name.into(), versions })
    }

    /// Lets a change be what serves, unless the engine has been stopped: nobody would stop what comes up then. Versions that
    /// are no longer in the map live until their last user lets go.
    pub fn publish(&self, change: Change) -> Result<(), ChangeError> {
        let Change { name, versions } = change;
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(SeqCst) {
            return Err(ChangeError::Stopped);
        }
        let before = self.exchange(&name, |_| (!versions.0.is_empty()).then(|| versions.clone()));
        leaving.retain(|model| model.strong_count() > 0);
        for (version, model) in before.iter().flat_map(|before| before.models()) {
            if !versions.models().any(|(_, kept)| Arc::ptr_eq(kept, model)) {
                tracing::info!(model = name, version, "model leaves when its last invocation ends");
                model.retire();
                leaving.push(Arc::downgrade(model));
            }
        }
        versions.models().for_each(|(_, model)| model.serve());
        Ok(())
    }

    /// Notes that a change was refused by those who are bound to the model; what was brought up for it goes.
    pub fn refuse(&self, change: Change, why: &str) {
        let before = self.catalogue.load().0.get(&change.name).cloned().unwrap_or_default();
        let is_new = |version: u64, model: &Arc<Model>| {
            let old = before.0.get(&version).and_then(|slot| slot.model.as_ref());
            old.is_none_or(|old| !Arc::ptr_eq(old, model))
        };
        let new = change.versions.models().filter(|(version, model)| is_new(*version, model));
        let failure =
            Failure { detail: why.into(), reason: "functions that are bound to it refuse it", at_start: false };
        let failures = new.map(|(version, _)| (version, failure.clone())).collect();
        self.note(&change.name, failures);
    }

    /// Lists why versions were not loaded. What serves goes on.
    fn note(&self, name: &str, failures: BTreeMap<u64, Failure>) {
        self.exchange(name, |before| {
            let mut versions = before.cloned().unwrap_or_default();
            for (version, mut failure) in failures.clone() {
                let slot = versions.0.entry(version).or_default();
                // A start that went wrong is not made up for by another failure.
                failure.at_start = slot.failure.as_ref().is_some_and(|before| before.at_start);
                slot.failure = Some(failure);
            }
            Some(versions)
        });
    }

    /// Exchanges one model's versions; gives back those before.
    fn exchange(&self, name: &str, make: impl Fn(Option<&Versions>) -> Option<Versions>) -> Option<Arc<Versions>> {
        let before = self.catalogue.rcu(|catalogue| {
            let mut catalogue = Catalogue::clone(catalogue);
            match make(catalogue.0.get(name).map(|versions| &**versions)) {
                Some(versions) => drop(catalogue.0.insert(name.into(), Arc::new(versions))),
                None => drop(catalogue.0.remove(name)),
            }
            catalogue
        });
        self.changes.fetch_add(1, SeqCst);
        before.0.get(name).cloned()
    }

    fn unknown(&self, name: &str) -> ChangeError {
        ChangeError::NotFound { model: name.into(), known: self.catalogue.load().names() }
    }
}

fn no_version(name: &str, version: u64, known: &Versions) -> ChangeError {
    ChangeError::NoVersion { model: name.into(), version, known: numbers(known) }
}
