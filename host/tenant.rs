//! How a tenant stands among others, and how urgent a request is: what decides who goes first where tenants share.
//!
//! Vocabulary: the engine and the gate for guest code both ask it. Refuses to know where it is configured.

use serde::Deserialize;

/// Weights beyond these are taken for slips of the pen.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// How a tenant stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Standing {
    /// Its share of instances and of the processor, against the weights of the others who want some.
    pub weight: f64,
    /// Whether its rows never share a batch with another tenant's, so that neither learns from how long a batch takes
    /// what the other sends.
    pub exclusive: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self { weight: 1.0, exclusive: false }
    }
}

impl Standing {
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if WEIGHTS.contains(&self.weight) {
            return Ok(());
        }
        Err(format!("weight must be {} to {}, not {}", WEIGHTS.start(), WEIGHTS.end(), self.weight))
    }
}

/// How urgent a request is. Between tenants it changes nothing but this: rows of the lower one yield.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// It may wait for what is interactive.
    Batch,
}

impl Priority {
    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_makes_no_sense_is_refused() {
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1001.0] {
            assert!(Standing { weight, exclusive: false }.validate().is_err(), "{weight}");
        }
        assert_eq!(Standing::default().validate(), Ok(()));
    }
}
