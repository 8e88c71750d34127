//! Whether an instance of a plugin serves one invocation after another: what `function.toml` says of it, and what it may say.
//!
//! Vocabulary, because the manifest reads it and the sandbox keeps to it.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of what `function.toml` may say.
const MAX_INVOCATIONS: u32 = 1_000_000;
const MAX_AGE_S: u64 = 24 * 3600;

/// `reuse` of `function.toml`: until when an instance is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reuse {
    /// Invocations that one instance serves.
    pub max_invocations: u32,
    /// Seconds from its start on.
    pub max_age_s: u64,
    /// Linear memory that it may hold while it rests.
    pub max_memory_bytes: u64,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { max_invocations: 1000, max_age_s: 300, max_memory_bytes: 64 << 20 }
    }
}

impl Reuse {
    /// Names the first value that makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("max_invocations", u64::from(self.max_invocations), u64::from(MAX_INVOCATIONS)),
            ("max_age_s", self.max_age_s, MAX_AGE_S),
            ("max_memory_bytes", self.max_memory_bytes, 4 << 30),
        ];
        match bounds.iter().find(|(_, value, most)| *value == 0 || value > most) {
            Some((key, value, most)) => Err(format!("{key} must be 1 to {most}, not {value}")),
            None => Ok(()),
        }
    }

    /// `max_age_s` as a duration.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_makes_no_sense_is_named() {
        assert!(Reuse::default().check().is_ok());
        assert!(Reuse { max_invocations: 0, ..Reuse::default() }.check().unwrap_err().contains("max_invocations"));
        assert!(Reuse { max_age_s: u64::MAX, ..Reuse::default() }.check().unwrap_err().contains("max_age_s"));
        assert!(toml::from_str::<Reuse>("max_age = 3").is_err());
    }
}
