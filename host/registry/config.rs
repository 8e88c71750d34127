//! Settings of the registry. Owns their defaults and what makes sense; refuses to know the store behind the address.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::bounds;

/// What an address of a shared store begins with.
const S3: &str = "s3://";
/// Polls more often than this would be most of what a store does.
const POLLS_MS: std::ops::RangeInclusive<u64> = 50..=60_000;
/// Sweeps list the whole store.
const SWEEPS_S: std::ops::RangeInclusive<u64> = 10..=86_400;
/// A blob is put before the record that names it: between the two lies a whole deployment.
const GRACES_S: std::ops::RangeInclusive<u64> = 300..=604_800;

/// Where the registry lies and how it is followed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `s3://bucket/prefix` for a store that hosts share; the folder `registry` below the host's data if there is none.
    pub url: Option<String>,
    /// How often the host asks for changes made by others.
    pub poll_ms: u64,
    /// How often it looks for what nothing names any more.
    pub sweep_interval_s: u64,
    /// How old that must be before it goes.
    pub sweep_grace_s: u64,
    /// What this host is called among others.
    pub host_name: Option<String>,
    /// How the shared store is reached.
    pub s3: S3Config,
}

/// How an S3-compatible store is reached. What is not set comes from the usual `AWS_` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The store's address, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// A file with two lines: the access key's id and its secret.
    pub access_key_file: Option<PathBuf>,
    /// Whether an address without TLS is right.
    pub allow_http: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            poll_ms: 2000,
            sweep_interval_s: 600,
            sweep_grace_s: 3600,
            host_name: None,
            s3: S3Config::default(),
        }
    }
}

impl Config {
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(url) = &self.url {
            bucket(url)?;
        }
        let ranges = [
            ("poll_ms", self.poll_ms, POLLS_MS),
            ("sweep_interval_s", self.sweep_interval_s, SWEEPS_S),
            ("sweep_grace_s", self.sweep_grace_s, GRACES_S),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                return Err(format!("{name} must be {} to {}, not {value}", range.start(), range.end()));
            }
        }
        self.host_name.as_ref().map_or(Ok(()), |name| bounds::label("host_name", name, bounds::LABEL_BYTES))
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(super) fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_interval_s)
    }

    pub(super) fn sweep_grace(&self) -> Duration {
        Duration::from_secs(self.sweep_grace_s)
    }
}

/// The bucket and the prefix in an address.
pub(super) fn bucket(url: &str) -> Result<(&str, &str), String> {
    let place = url.strip_prefix(S3).ok_or_else(|| format!("url must begin with {S3}, or be left out for a folder"))?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() || bucket.contains(|letter: char| letter.is_whitespace() || "?#@:".contains(letter)) {
        return Err(format!("url must read {S3}bucket or {S3}bucket/prefix"));
    }
    Ok((bucket, prefix.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let config = Config::default;
        assert_eq!(config().validate(), Ok(()));
        let good = Config { url: Some("s3://tenon/eu".into()), host_name: Some("gpu-1".into()), ..config() };
        assert_eq!(good.validate(), Ok(()));
        for bad in [
            Config { url: Some("http://x".into()), ..config() },
            Config { url: Some("s3:///x".into()), ..config() },
            Config { poll_ms: 0, ..config() },
            Config { sweep_interval_s: 1, ..config() },
            Config { sweep_grace_s: 0, ..config() },
            Config { host_name: Some(String::new()), ..config() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        assert_eq!(bucket("s3://tenon"), Ok(("tenon", "")));
        assert_eq!(bucket("s3://tenon/a/b/"), Ok(("tenon", "a/b")));
        assert!(bucket("s3://key:secret@tenon/a").is_err());
    }
}
