//! What a tenant may have. Owns the form of the settings and what makes sense in them; refuses to enforce any: only
//! the quotas of functions and stored bytes concern the registry itself, and the state holds to those.

use serde::{Deserialize, Serialize};

use super::bounds;

/// Weights beyond these are taken for slips of the pen.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;
/// Rates beyond this are no limits.
const MAX_RATE: f64 = 1e9;
/// Models named in settings: more belong under a shorter list or under none, which means all.
const MODELS: usize = 256;

/// How a tenant stands and what it may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSettings {
    /// Its share against other tenants' weights.
    pub weight: f64,
    /// Whether its rows never share a batch with another tenant's.
    pub exclusive: bool,
    /// The models it may use; all if none are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// What it may take.
    pub limits: TenantLimits,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self { weight: 1.0, exclusive: false, models: None, limits: TenantLimits::default() }
    }
}

/// What a tenant may take; where nothing stands, the host's own limits hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Invocations begun per second, on each host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Invocations that may begin at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Invocations at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Rows with the engine at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_in_flight: Option<u64>,
    /// Memory of its invocations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time of its plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_per_second: Option<f64>,
    /// A request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Blobs of the revisions kept, each counted once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Answers and rows remembered for it: in the memory of each host, and as much in Redis as each host wrote there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
}

impl TenantSettings {
    /// What is wrong with them.
    pub fn validate(&self) -> Result<(), String> {
        if !WEIGHTS.contains(&self.weight) {
            return Err(format!("weight must be {} to {}, not {}", WEIGHTS.start(), WEIGHTS.end(), self.weight));
        }
        let models = self.models.as_deref().unwrap_or_default();
        if models.len() > MODELS {
            return Err(format!(
                "models names {}, and at most {MODELS} are allowed: leave it out for all",
                models.len()
            ));
        }
        for model in models {
            bounds::label("the name of a model", model, bounds::LABEL_BYTES)?;
        }
        self.limits.validate()
    }
}

impl TenantLimits {
    /// What is wrong with them.
    pub fn validate(&self) -> Result<(), String> {
        let rates = [
            ("requests_per_second", self.requests_per_second),
            ("cpu_seconds_per_second", self.cpu_seconds_per_second),
        ];
        for (name, rate) in rates {
            if let Some(rate) = rate.filter(|rate| !(*rate > 0.0 && *rate <= MAX_RATE)) {
                return Err(format!("limits.{name} must be more than 0 and at most {MAX_RATE}, not {rate}"));
            }
        }
        let counts = [
            ("burst", self.burst.map(u64::from)),
            ("concurrency", self.concurrency.map(u64::from)),
            ("rows_in_flight", self.rows_in_flight),
            ("memory_bytes", self.memory_bytes),
            ("body_bytes", self.body_bytes),
        ];
        // `functions` and `stored_bytes` may be 0: a tenant that must not deploy. So may `cache_bytes`: nothing is kept.
        match counts.iter().find(|(_, count)| *count == Some(0)) {
            Some((name, _)) => Err(format!("limits.{name} must be at least 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let settings = |text: &str| serde_json::from_str::<TenantSettings>(text).unwrap();
        for good in
            ["{}", r#"{"weight":2,"models":[],"limits":{"functions":0,"cache_bytes":0,"requests_per_second":0.5}}"#]
        {
            assert_eq!(settings(good).validate(), Ok(()), "{good}");
        }
        for bad in [
            r#"{"weight":0}"#,
            r#"{"models":[""]}"#,
            r#"{"limits":{"requests_per_second":0}}"#,
            r#"{"limits":{"cpu_seconds_per_second":1e300}}"#,
            r#"{"limits":{"burst":0}}"#,
            r#"{"limits":{"memory_bytes":0}}"#,
        ] {
            assert!(settings(bad).validate().is_err(), "{bad}");
        }
        assert!(TenantSettings { weight: f64::NAN, ..TenantSettings::default() }.validate().is_err());
        let many = Some(vec!["m".to_owned(); MODELS + 1]);
        assert!(TenantSettings { models: many, ..TenantSettings::default() }.validate().is_err());
        assert!(serde_json::from_str::<TenantSettings>(r#"{"wieght":2}"#).is_err());
    }

    #[test]
    fn what_is_not_set_is_not_written() {
        let text = serde_json::to_string(&TenantSettings::default()).unwrap();
        assert_eq!(text, r#"{"weight":1.0,"exclusive":false,"limits":{}}"#);
    }
}
