//! Who says how a function's answers are remembered: its `function.toml`, its plugin, or nobody. Owns what is found out
//! once for a revision.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::super::Manifest;
use crate::{
    cache::{Cache, Tally},
    caching::{KeyOf, Policy},
    sandbox::StageName,
};

/// Who says it.
#[derive(Debug)]
enum Said {
    /// No answer is remembered.
    No,
    /// The same for every request.
    Stated(Arc<Policy>),
    /// The plugin is asked.
    Asked,
}

/// How the answers of a revision are remembered.
#[derive(Debug)]
pub(in crate::function) struct Rule {
    said: Said,
    most: Option<Duration>,
    tally: OnceLock<Arc<Tally>>,
}

impl Rule {
    /// Of a manifest, and of a plugin that has these stages.
    pub(in crate::function) fn new(manifest: &Manifest, stages: &[StageName]) -> Self {
        let most = manifest.cache.max_ttl_s.map(Duration::from_secs);
        let said = match (manifest.cache.policy(), manifest.cache.key) {
            (Some(policy), _) => Said::Stated(Arc::new(policy)),
            (None, Some(KeyOf::None)) => Said::No,
            (None, _) if stages.contains(&StageName::Policy) => Said::Asked,
            (None, _) => Said::No,
        };
        Self { said, most, tally: OnceLock::new() }
    }

    /// Whether an answer may be remembered at all.
    pub(in crate::function) fn remembers(&self) -> bool {
        !matches!(self.said, Said::No)
    }

    /// What holds for every request, where the plugin need not be asked.
    pub(in crate::function) fn stated(&self) -> Option<&Arc<Policy>> {
        match &self.said {
            Said::Stated(policy) => Some(policy),
            Said::No | Said::Asked => None,
        }
    }

    /// What a plugin's policy comes to here.
    pub(in crate::function) fn capped(&self, policy: Policy) -> Policy {
        match self.most {
            Some(most) => policy.within(most),
            None => policy,
        }
    }

    /// Where it is counted what the cache does for the function.
    pub(super) fn tally(&self, cache: &Cache, (tenant, function): (&str, &str)) -> &Arc<Tally> {
        self.tally.get_or_init(|| cache.tally(tenant, function))
    }
}
