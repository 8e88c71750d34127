//! A revision: the immutable content of one deployment of a function, and what is learnt of it while it serves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    Manifest, Tenant,
    deployer::{Deployer, Prepared},
    health::Health,
    line::Line,
    remembered::Rule,
};
use crate::{
    account::Used,
    engine::Model,
    invocation::Invocation,
    sandbox::{Assignment, Plugin, Resting, Running, SandboxError},
    telemetry::{FunctionLog, FunctionMetrics},
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
    /// Instances between invocations, where `reuse` asks for that.
    resting: Option<Resting>,
    pub(super) metrics: FunctionMetrics,
    /// What its guests say and how they fail.
    pub(super) log: Arc<FunctionLog>,
    pub(super) owner: Arc<Tenant>,
    /// Where invocations wait that come beyond `limits.max_concurrency`.
    pub(super) line: Option<Arc<Line>>,
    /// Whether its invocations trap.
    pub(super) health: Health,
    mean_time: MeanTime,
    /// How its answers are remembered.
    pub(super) remembers: Rule,
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

    /// An instance for one invocation.
    pub(super) async fn start(&self, assignment: Assignment) -> Result<Running, SandboxError> {
        match &self.resting {
            Some(resting) => resting.start(assignment).await,
            None => self.plugin.start(assignment).await,
        }
    }

    /// An invocation has ended well: its instance rests, or goes.
    pub(super) fn ended_well(&self, instance: Running) {
        if let Some(resting) = &self.resting {
            resting.rest(instance);
        }
    }

    /// Lets go of instances that have rested for long enough.
    pub(super) fn expire_resting(&self, now: Instant) {
        if let Some(resting) = &self.resting {
            resting.expire(now);
        }
    }

    /// The stages that the plugin has.
    pub fn stages(&self) -> Vec<&'static str> {
        self.plugin.stages().into_iter().map(|stage| stage.name()).collect()
    }
}

impl Revision {
    /// Revision `number` of a function, of what was prepared.
    pub(super) fn new((tenant, function, number): (&str, &str, u64), prepared: &Prepared, of: &Deployer) -> Arc<Self> {
        let (manifest, owner) = (prepared.manifest.clone(), of.tenant(tenant));
        let (tenant_name, name): (Arc<str>, Arc<str>) = (tenant.into(), function.into());
        let names = (tenant_name.clone(), name.clone());
        let resting = |rule| Resting::new(prepared.plugin.clone(), rule, names, &owner.account);
        Arc::new(Self {
            tenant: tenant_name,
            function: name,
            resting: manifest.reuse.map(resting),
            number,
            digest: prepared.digest.clone(),
            config: Arc::new(manifest.config.clone()),
            metrics: of.telemetry().function(tenant, function),
            log: of.telemetry().guest_logs().of(tenant, function),
            line: owner.line(function, &manifest),
            owner,
            health: Health::default(),
            mean_time: MeanTime::default(),
            remembers: Rule::new(&manifest, &prepared.plugin.stages()),
            asks: manifest.models.keys().map(|alias| (alias.clone(), AtomicU64::new(0))).collect(),
            manifest,
            plugin: prepared.plugin.clone(),
        })
    }
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
