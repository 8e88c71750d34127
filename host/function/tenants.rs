//! Tenants as the host knows them while it runs: what each holds in bytes and places, how it stands among others, and
//! what it may use.
//!
//! Owns the table, whose entries are made when a tenant is first seen and live as long as the process; what it may use
//! changes meanwhile. Refuses to know who somebody is: a name is given. Rates count on this host alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{DeployError, InvokeError, Manifest, line::Line};
use crate::{
    account::{Account, Holder, Place, Places},
    cache::Cache,
    rate::{Allowance, Bucket, Budget, Rate},
    registry::TenantSettings,
    tenant::Standing,
};

/// Processor time that may be used at once after a pause, in seconds of what a tenant may use.
const CPU_BURST_S: f64 = 1.0;
/// When to come again where rows of its own are in the way: as soon as some have ended.
const ROWS_RETRY: Duration = Duration::from_secs(1);

/// A tenant, as all its functions share it.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// What its invocations hold together.
    pub account: Arc<Account>,
    places: Places,
    rows: Arc<AtomicU64>,
    allowed: ArcSwap<Allowed>,
    /// The lines before its functions, by their names.
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

/// What it may use, as it was said last.
#[derive(Debug)]
struct Allowed {
    standing: Standing,
    settings: TenantSettings,
    requests: Option<Arc<Bucket>>,
    cpu: Option<Arc<Budget>>,
}

/// Rows that count as in flight until this is dropped.
pub(super) struct RowsInFlight {
    rows: Arc<AtomicU64>,
    count: u64,
}

impl Drop for RowsInFlight {
    fn drop(&mut self) {
        self.rows.fetch_sub(self.count, Relaxed);
    }
}

impl Tenant {
    /// How it stands among others.
    pub fn standing(&self) -> Standing {
        self.allowed.load().standing
    }

    /// Whether its functions may ask these models.
    pub(super) fn may_use(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let refused = manifest.models.iter().find(|(_, bound)| !self.may_ask(&bound.model));
        match refused {
            Some((alias, bound)) => Err(DeployError::NotGranted { alias: alias.clone(), model: bound.model.clone() }),
            None => Ok(()),
        }
    }

    /// Whether it may ask a model, named with or without a version.
    pub(super) fn may_ask(&self, model: &str) -> bool {
        let name = model.split('@').next().unwrap_or_default();
        self.allowed.load().settings.models.as_ref().is_none_or(|granted| granted.iter().any(|it| it == name))
    }

    /// Whether it may ask every model.
    pub(super) fn may_ask_all(&self) -> bool {
        self.allowed.load().settings.models.is_none()
    }

    /// The longest body that it may send.
    pub(super) fn body_bytes(&self, limit: u64) -> u64 {
        self.allowed.load().settings.limits.body_bytes.map_or(limit, |own| own.min(limit))
    }

    /// A place for one of its requests while so many are free in all, or how many it holds and may hold.
    pub(super) fn place(&self, free: usize) -> Result<Place, (usize, Option<u32>)> {
        let most = self.allowed.load().settings.limits.concurrency;
        self.places.take(free, most.map_or(usize::MAX, |most| most as usize)).map_err(|held| (held, most))
    }

    /// One request more: what it may send and use for a second is not used up.
    pub(super) fn request(&self, now: Instant) -> Result<(), InvokeError> {
        let allowed = self.allowed.load();
        let limited = |what: &str, retry_after| InvokeError::RateLimited {
            what: format!("the tenant `{}` has used {what}", self.name),
            retry_after,
        };
        if let Some(cpu) = &allowed.cpu {
            cpu.check(now).map_err(|wait| limited("the processor time that it may use for now", wait))?;
        }
        if let Some(requests) = &allowed.requests {
            requests.take(now, 1).map_err(|wait| limited("up the requests that it may send for now", wait))?;
        }
        Ok(())
    }

    /// Processor time that was used for it.
    pub(super) fn used_cpu(&self, time: Duration) {
        if let Some(cpu) = &self.allowed.load().cpu {
            cpu.spend(Instant::now(), time);
        }
    }

    /// So many rows more in queues and on lanes.
    pub(super) fn rows(&self, count: u64) -> Result<RowsInFlight, InvokeError> {
        let most = self.allowed.load().settings.limits.rows_in_flight.unwrap_or(u64::MAX);
        if count > most {
            return Err(InvokeError::TooManyRows { rows: count, limit: most });
        }
        let fits = |held: u64| held.checked_add(count).filter(|sum| *sum <= most);
        self.rows.try_update(Relaxed, Relaxed, fits).map_err(|held| InvokeError::RateLimited {
            what: format!("the tenant `{}` has {held} rows in flight and may have {most}", self.name),
            retry_after: ROWS_RETRY,
        })?;
        Ok(RowsInFlight { rows: self.rows.clone(), count })
    }

    /// The line before a function that runs so many invocations at once.
    pub(super) fn line(&self, function: &str, manifest: &Manifest) -> Option<Arc<Line>> {
        let wanted = Line::of(&manifest.limits)?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Revisions that say the same share one; else the sum of both runs while the old one's invocations end.
        match lines.get(function) {
            Some(line) if line.is_like(&wanted) => Some(line.clone()),
            _ => {
                let line = Arc::new(wanted);
                lines.insert(function.to_owned(), line.clone());
                Some(line)
            }
        }
    }

    fn allow(&self, settings: TenantSettings, most_memory_bytes: u64) {
        let (before, now, limits) = (self.allowed.load(), Instant::now(), &settings.limits);
        if before.settings == settings {
            return;
        }
        let requests = limits.requests_per_second.map(|per_second| {
            let rate = Rate { per_second, burst: limits.burst.map(f64::from) };
            match &before.requests {
                Some(bucket) => {
                    bucket.set(now, rate);
                    bucket.clone()
                }
                None => Arc::new(Bucket::new(rate, now)),
            }
        });
        let cpu = limits.cpu_seconds_per_second.map(|cpus| {
            let allowance = Allowance { cpus, burst_s: cpus * CPU_BURST_S };
            match &before.cpu {
                Some(budget) => {
                    budget.set(now, allowance);
                    budget.clone()
                }
                None => Arc::new(Budget::new(allowance, now)),
            }
        });
        let memory_bytes = limits.memory_bytes.map_or(most_memory_bytes, |own| own.min(most_memory_bytes));
        self.account.set_limit(memory_bytes);
        let standing = Standing { weight: settings.weight, exclusive: settings.exclusive };
        self.allowed.store(Arc::new(Allowed { standing, settings, requests, cpu }));
    }
}

/// All tenants that were seen.
pub struct Tenants {
    host: Arc<Account>,
    memory_bytes: u64,
    /// What the configuration says of some, where the registry says nothing.
    standings: BTreeMap<String, Standing>,
    /// What was said last of all tenants, seen or not.
    said: Mutex<Option<Said>>,
    seen: Mutex<HashMap<String, Arc<Tenant>>>,
    /// Where what is remembered of them is kept, which holds to their quotas.
    cache: OnceLock<Arc<Cache>>,
}

/// What tenants may use, by their names.
pub(super) type Said = Arc<dyn Fn(&str) -> Option<TenantSettings> + Send + Sync>;

impl std::fmt::Debug for Tenants {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Tenants").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Tenants {
    /// None yet; each may hold `memory_bytes` of what the host may.
    pub fn new(host: Arc<Account>, memory_bytes: u64, standings: BTreeMap<String, Standing>) -> Self {
        let (said, seen, cache) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { host, memory_bytes, standings, said, seen, cache }
    }

    /// Has this cache know from now on what each tenant may have remembered.
    pub(super) fn remembered_in(&self, cache: Arc<Cache>) {
        // One cache in a host; a second would be a second host.
        let _ = self.cache.set(cache);
        self.seen().iter().for_each(|tenant| self.remember(tenant));
    }

    /// Tells the cache what a tenant may have remembered.
    fn remember(&self, tenant: &Tenant) {
        if let Some(cache) = self.cache.get() {
            let most = tenant.allowed.load().settings.limits.cache_bytes;
            cache.set_quota(&tenant.name, most, most);
        }
    }

    fn seen(&self) -> Vec<Arc<Tenant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The tenant of this name.
    pub fn get(&self, name: &str) -> Arc<Tenant> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let allowed = Allowed {
                standing: Standing::default(),
                settings: TenantSettings::default(),
                requests: None,
                cpu: None,
            };
            let tenant = Tenant {
                name: name.into(),
                account: self.host.child(Holder::Tenant, self.memory_bytes),
                places: Places::default(),
                rows: Arc::default(),
                allowed: ArcSwap::from_pointee(allowed),
                lines: Mutex::default(),
            };
            tenant.allow(self.settings(name), self.memory_bytes);
            self.remember(&tenant);
            Arc::new(tenant)
        };
        seen.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// What a tenant may use: as was said of it, else as the configuration says.
    fn settings(&self, name: &str) -> TenantSettings {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.and_then(|said| said(name)).unwrap_or_else(|| {
            let Standing { weight, exclusive } = self.standings.get(name).copied().unwrap_or_default();
            TenantSettings { weight, exclusive, ..TenantSettings::default() }
        })
    }

    /// What tenants may use from now on; those that are not named may use what anybody may.
    pub(super) fn allow(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        for tenant in self.seen() {
            tenant.allow(self.settings(&tenant.name), self.memory_bytes);
            self.remember(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Said {
        let settings: TenantSettings = serde_json::from_str(text).unwrap();
        Arc::new(move |name| (name == "shop").then(|| settings.clone()))
    }

    #[test]
    fn what_is_said_holds_for_tenants_seen_before_and_after() {
        let standings = BTreeMap::from([("other".to_owned(), Standing { weight: 3.0, exclusive: true })]);
        let tenants = Tenants::new(Account::host(1000), 500, standings);
        let before = tenants.get("other");
        tenants.allow(settings(r#"{"weight":2,"models":["m"],"limits":{"memory_bytes":100,"requests_per_second":1}}"#));
        let shop = tenants.get("shop");
        assert_eq!((shop.standing().weight, shop.account.limit_bytes()), (2.0, 100));
        assert!(shop.may_ask("m@3") && !shop.may_ask("n@serving"));
        assert!(shop.request(Instant::now()).is_ok() && shop.request(Instant::now()).is_err());
        assert_eq!((before.standing().weight, before.account.limit_bytes()), (3.0, 500));
        // Said anew, the bucket stays as empty as it is.
        tenants.allow(settings(r#"{"limits":{"memory_bytes":5000,"requests_per_second":1}}"#));
        assert_eq!((shop.standing().weight, shop.account.limit_bytes()), (1.0, 500), "never more than a host gives");
        assert!(shop.may_ask("n") && shop.request(Instant::now()).is_err());
        tenants.allow(Arc::new(|_| None));
        assert!(shop.request(Instant::now()).is_ok());
    }

    #[test]
    fn rows_in_flight_are_counted_until_they_are_dropped() {
        let tenants = Tenants::new(Account::host(1000), 500, BTreeMap::new());
        tenants.allow(settings(r#"{"limits":{"rows_in_flight":4}}"#));
        let shop = tenants.get("shop");
        let held = shop.rows(3).unwrap();
        assert!(shop.rows(2).is_err() && shop.rows(1).is_ok());
        drop(held);
        assert!(shop.rows(4).is_ok() && shop.rows(u64::MAX).is_err());
    }
}
