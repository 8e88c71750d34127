//! Settings of the cache, section `[cache]`. Owns their defaults and what makes sense; refuses to know how Redis is
//! spoken to. Secrets come from files only: what stands in an address ends up in logs and process lists.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

#[cfg(test)]
mod tests;

/// What an address of Redis may begin with; those with `cluster` name any nodes of one, with commas between.
const SCHEMES: [&str; 4] = ["redis://", "rediss://", "redis+cluster://", "rediss+cluster://"];
/// Of these, the ones with TLS.
const TLS_SCHEMES: [&str; 2] = ["rediss://", "rediss+cluster://"];
/// A prefix is part of every key in Redis: short, and nothing that means something there (braces are hash tags).
const PREFIX_BYTES: usize = 64;

/// How much is remembered, for how long, and where Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What entries in memory may take; 0 for none there.
    pub memory_bytes: u64,
    /// What one tenant's entries in memory may take, if nothing else was said for it.
    pub tenant_bytes: u64,
    /// What one tenant's entries in Redis may take, as far as this host wrote them.
    pub tenant_redis_bytes: u64,
    /// The longest entry that is kept.
    pub max_entry_bytes: u64,
    /// The longest row that is kept.
    pub max_row_bytes: u64,
    /// Caps each of the durations that an entry is kept for: fresh, stale while it is computed again, stale on errors.
    pub max_ttl_s: u64,
    /// `redis://host:port/0`, `rediss://…` with TLS, `redis+cluster://host:port,host:port`; memory alone if there is
    /// none.
    pub redis_url: Option<String>,
    /// The user that Redis knows this host as; its default user if there is none.
    pub redis_user: Option<String>,
    /// A file with the password.
    pub redis_password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that Redis' own is checked against, instead of those that the web trusts.
    pub redis_ca_file: Option<PathBuf>,
    /// What all keys in Redis begin with: hosts with the same one share their entries.
    pub redis_prefix: String,
    /// How long an answer from Redis is waited for: the most that a slow Redis costs a request.
    pub lookup_timeout_ms: u64,
    /// How long a connection to Redis may take to come about.
    pub connect_timeout_ms: u64,
    /// How long a write may take.
    pub write_timeout_ms: u64,
    /// How many writes wait for Redis; beyond them new ones are dropped.
    pub write_queue_entries: usize,
    /// What the writes that wait may hold in memory.
    pub write_queue_bytes: u64,
    /// After how many failed lookups in a row Redis is left alone.
    pub breaker_failures: u32,
    /// For how long, before it is tried again.
    pub breaker_rest_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            tenant_bytes: 64 << 20,
            tenant_redis_bytes: 1 << 30,
            max_entry_bytes: 8 << 20,
            max_row_bytes: 64 << 10,
            max_ttl_s: 86_400,
            redis_url: None,
            redis_user: None,
            redis_password_file: None,
            redis_ca_file: None,
            redis_prefix: "tenon".into(),
            lookup_timeout_ms: 5,
            connect_timeout_ms: 500,
            write_timeout_ms: 500,
            write_queue_entries: 4096,
            write_queue_bytes: 64 << 20,
            breaker_failures: 5,
            breaker_rest_ms: 500,
        }
    }
}

impl Config {
    /// What is wrong with it, naming the setting.
    pub fn validate(&self) -> Result<(), String> {
        let ranges = [
            ("memory_bytes", self.memory_bytes, 0..=1 << 44),
            ("tenant_bytes", self.tenant_bytes, 0..=1 << 44),
            ("tenant_redis_bytes", self.tenant_redis_bytes, 0..=1 << 50),
            // Redis takes no value beyond 512 MiB; with what is around the payload, half of that is far from it.
            ("max_entry_bytes", self.max_entry_bytes, 1..=256 << 20),
            ("max_row_bytes", self.max_row_bytes, 1..=256 << 20),
            ("max_ttl_s", self.max_ttl_s, 1..=31_536_000),
            ("lookup_timeout_ms", self.lookup_timeout_ms, 1..=10_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 1..=60_000),
            ("write_timeout_ms", self.write_timeout_ms, 1..=60_000),
            ("write_queue_entries", self.write_queue_entries as u64, 1..=1 << 20),
            ("write_queue_bytes", self.write_queue_bytes, 1..=1 << 40),
            ("breaker_failures", u64::from(self.breaker_failures), 1..=1000),
            ("breaker_rest_ms", self.breaker_rest_ms, 10..=60_000),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                return Err(format!("cache.{name} must be {} to {}, not {value}", range.start(), range.end()));
            }
        }
        self.validate_redis()
    }

    fn validate_redis(&self) -> Result<(), String> {
        let prefix = self.redis_prefix.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES || !prefix.chars().all(plain) {
            return Err(format!(
                "cache.redis_prefix must be 1 to {PREFIX_BYTES} letters, digits, '-', '_', '.' or ':'"
            ));
        }
        match &self.redis_url {
            Some(url) => self.validate_url(url),
            None if self.redis_password_file.is_some() || self.redis_ca_file.is_some() || self.redis_user.is_some() => {
                Err("cache.redis_user, cache.redis_password_file and cache.redis_ca_file need cache.redis_url".into())
            }
            None => Ok(()),
        }
    }

    /// The messages do not repeat the address: there may be a secret in it.
    fn validate_url(&self, url: &str) -> Result<(), String> {
        let Some(scheme) = SCHEMES.iter().find(|scheme| url.starts_with(**scheme)) else {
            return Err(format!("cache.redis_url must begin with one of {}", SCHEMES.join(", ")));
        };
        // Credentials stand before the last `@`, wherever a slash or a question mark in a password may have put it.
        if url.contains('@') || url.contains("password=") || url.contains("pass=") {
            return Err("cache.redis_url must not hold a user or a password: put them into cache.redis_user and the \
                        file that cache.redis_password_file names"
                .into());
        }
        let authority = url[scheme.len()..].split(['/', '?', '#']).next().unwrap_or_default();
        if authority.split(',').any(|node| node.is_empty() || node.starts_with(':')) {
            return Err("cache.redis_url names no host".into());
        }
        if authority.contains(',') && !scheme.contains("cluster") {
            return Err("cache.redis_url names several nodes, which only redis+cluster:// takes".into());
        }
        if self.redis_ca_file.is_some() && !TLS_SCHEMES.contains(scheme) {
            return Err("cache.redis_ca_file needs a cache.redis_url with TLS, rediss://".into());
        }
        if self.redis_user.is_some() && self.redis_password_file.is_none() {
            return Err("cache.redis_user needs cache.redis_password_file".into());
        }
        Ok(())
    }

    /// How long an answer from Redis is waited for.
    pub fn lookup_timeout(&self) -> Duration {
        Duration::from_millis(self.lookup_timeout_ms)
    }

    /// The cap on each of an entry's durations.
    pub fn max_ttl(&self) -> Duration {
        Duration::from_secs(self.max_ttl_s)
    }
}
