//! How a function's answers and rows are remembered: what `function.toml` says of it, and what a policy comes to for one
//! request.
//!
//! Vocabulary, because the manifest reads it, guests make policies, and the function's room keeps to both.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;

/// Tags of one answer.
pub const MAX_TAGS: usize = 16;
/// Headers that tell answers apart.
pub const MAX_HEADERS: usize = 16;
/// The longest name of a tag, a class or a header.
pub const MAX_NAME_BYTES: usize = 128;
/// The longest that anything may be kept for: a year.
const MAX_TTL_S: u64 = 366 * 86_400;

/// What makes two requests of a function the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyOf {
    /// Method, path, query, the named headers and the body. The plugin's policy is not asked.
    Request,
    /// Nothing: no answer is remembered, whatever the plugin's policy would say.
    None,
}

/// Whether rows are remembered apart from answers, and what names one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowsBy {
    /// They are not.
    #[default]
    Off,
    /// What the model reads.
    Input,
    /// What the plugin calls it, in `inference.reuse`.
    Key,
}

/// `[cache]` of `function.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caching {
    /// `"request"`: answers are remembered as the keys below say, and a hit starts no guest. `"none"`: they are not. Left
    /// out: the plugin's policy says, if it has one.
    pub key: Option<KeyOf>,
    /// Request headers that tell answers apart.
    pub headers: Vec<String>,
    /// Seconds that an answer is fresh.
    pub ttl_s: u64,
    /// Seconds after that in which the old answer is given while a new one is computed.
    pub stale_while_revalidate_s: u64,
    /// Seconds after that in which the old answer is given where computing fails.
    pub stale_if_error_s: u64,
    /// Seconds that the plugin's own refusals are remembered.
    pub negative_ttl_s: u64,
    /// Names under which answers can be invalidated.
    pub tags: Vec<String>,
    /// Revisions of the same class share what is remembered.
    pub class: Option<String>,
    /// Caps each of the times that the plugin's policy asks for.
    pub max_ttl_s: Option<u64>,
    /// Whether rows are remembered, and what names one.
    pub rows: RowsBy,
}

impl Caching {
    /// Names the first value that makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let is_static = self.key == Some(KeyOf::Request);
        let times = [
            ("ttl_s", self.ttl_s),
            ("stale_while_revalidate_s", self.stale_while_revalidate_s),
            ("stale_if_error_s", self.stale_if_error_s),
            ("negative_ttl_s", self.negative_ttl_s),
        ];
        let others = [("headers", !self.headers.is_empty()), ("tags", !self.tags.is_empty())];
        let said = times.iter().map(|(key, value)| (*key, *value > 0)).chain(others).find(|(_, said)| *said);
        if let Some((key, _)) = said.filter(|_| !is_static) {
            return Err(format!("{key} says nothing without key = \"request\": the plugin's policy decides"));
        }
        if is_static && self.ttl_s == 0 && self.negative_ttl_s == 0 {
            return Err("key = \"request\" needs ttl_s (or negative_ttl_s): how long an answer is fresh".into());
        }
        let most = self.max_ttl_s.map(|seconds| ("max_ttl_s", seconds));
        if let Some((key, value)) = times.into_iter().chain(most).find(|(_, value)| *value > MAX_TTL_S) {
            return Err(format!("{key} must be at most {MAX_TTL_S}, not {value}"));
        }
        if self.tags.len() > MAX_TAGS || self.headers.len() > MAX_HEADERS {
            return Err(format!("at most {MAX_TAGS} tags and {MAX_HEADERS} headers"));
        }
        self.headers.iter().try_for_each(|name| check_header(name))?;
        self.tags.iter().chain(&self.class).try_for_each(|name| check_name(name))
    }

    /// What it says for every request, where it says it all by itself.
    pub fn policy(&self) -> Option<Policy> {
        (self.key == Some(KeyOf::Request)).then(|| Policy {
            material: None,
            headers: self.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            ttl: Duration::from_secs(self.ttl_s),
            stale_while_revalidate: Duration::from_secs(self.stale_while_revalidate_s),
            stale_if_error: Duration::from_secs(self.stale_if_error_s),
            negative_ttl: Duration::from_secs(self.negative_ttl_s),
            tags: self.tags.iter().cloned().collect(),
            class: self.class.clone(),
            bypass: false,
        })
    }
}

/// How the answer to one request may be remembered. The default remembers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What makes two requests the same; `None` for method, path, query and body.
    pub material: Option<Vec<Vec<u8>>>,
    /// Headers that tell answers apart, in lower case.
    pub headers: BTreeSet<String>,
    /// How long an answer is fresh.
    pub ttl: Duration,
    /// How long after that the old one is given while a new one is computed.
    pub stale_while_revalidate: Duration,
    /// How long after that the old one is given where computing fails.
    pub stale_if_error: Duration,
    /// How long the plugin's own refusals are remembered.
    pub negative_ttl: Duration,
    /// Names under which the answer can be invalidated.
    pub tags: BTreeSet<String>,
    /// Revisions of the same class share answers.
    pub class: Option<String>,
    /// Neither look up nor remember.
    pub bypass: bool,
}

impl Policy {
    /// Whether it lets anything be remembered.
    pub fn remembers(&self) -> bool {
        !self.bypass && (self.ttl > Duration::ZERO || self.negative_ttl > Duration::ZERO)
    }

    /// The same with no time longer than this.
    #[must_use]
    pub fn within(mut self, most: Duration) -> Self {
        let times = [&mut self.ttl, &mut self.stale_while_revalidate, &mut self.stale_if_error, &mut self.negative_ttl];
        times.into_iter().for_each(|time| *time = (*time).min(most));
        self
    }
}

/// Whether something can be the name of a tag or a class; if not, why.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!("a tag or a class has 1 to {MAX_NAME_BYTES} bytes and no control characters"));
    }
    Ok(())
}

/// Whether something can be the name of a header; if not, why.
pub fn check_header(name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(token) {
        return Err(format!(
            "`{}` is not the name of a header",
            name.escape_debug().take(MAX_NAME_BYTES).collect::<String>()
        ));
    }
    // Guests do not see these either: an answer must not depend on who asks.
    if ["authorization", "cookie", "proxy-authorization"].contains(&&*name.to_ascii_lowercase()) {
        return Err(format!("`{name}` is a credential: functions never see it, so answers cannot depend on it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Caching, String> {
        let caching = toml::from_str::<Caching>(text).map_err(|error| error.message().to_owned())?;
        caching.check().map(|()| caching)
    }

    #[test]
    fn what_is_said_for_every_request_is_a_policy() {
        let said = read("key = \"request\"\nttl_s = 60\nheaders = [\"Accept-Language\"]\ntags = [\"a\"]").unwrap();
        let policy = said.policy().unwrap();
        assert_eq!((policy.ttl, policy.remembers(), policy.material.is_none()), (Duration::from_secs(60), true, true));
        assert!(policy.headers.contains("accept-language") && policy.tags.contains("a"));
        assert!(policy.clone().within(Duration::from_secs(9)).ttl == Duration::from_secs(9));
        assert!(!Policy { bypass: true, ..policy }.remembers());
        assert!(read("rows = \"input\"").unwrap().policy().is_none() && read("key = \"none\"").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            ("key = \"request\"", "needs ttl_s"),
            ("ttl_s = 3", "ttl_s says nothing"),
            ("tags = [\"a\"]", "tags says nothing"),
            ("key = \"body\"", "unknown variant"),
            ("rows = \"yes\"", "unknown variant"),
            ("ttl = 3", "unknown field"),
            ("key = \"request\"\nttl_s = 99999999999", "at most"),
            ("key = \"request\"\nttl_s = 1\nheaders = [\"a b\"]", "not the name of a header"),
            ("key = \"request\"\nttl_s = 1\nheaders = [\"Authorization\"]", "credential"),
            ("key = \"request\"\nttl_s = 1\ntags = [\"\"]", "1 to"),
            ("class = \"a\\nb\"", "no control characters"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(named), "{text:?} gave {said}");
        }
    }
}
