//! Shares of traffic as people write them, and as the host takes and tells them.
//!
//! `latest` is looked up here, because a host takes numbers alone: what gets traffic is to be known to who orders it.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::HeaderName;

use crate::client::Question;
use crate::control::Control;
use crate::failure::{Exit, Failure};
use crate::output::{MISSING, cell};
use crate::target::Name;

/// As large as a weight may be; shares are told in percent.
const WEIGHT_MAX: u64 = 10_000;
/// Revisions that share the traffic of one function.
const SHARES_MAX: usize = 4;
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// A revision by number, or the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revision {
    Number(u64),
    Latest,
}

/// Revisions and their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares(Vec<(Revision, u64)>);

/// What always meets the same revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sticky {
    None,
    Request,
    Key,
    Header(HeaderName),
}

impl Revision {
    /// Reads `3`, `@3` or `latest`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        match text.trim_start_matches('@').parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(format!("`{text}` is no revision; write its number, or latest")),
        }
    }
}

impl Shares {
    /// One revision alone.
    pub(super) fn of(revision: Revision, weight: u64) -> Self {
        Self(vec![(revision, weight)])
    }

    /// Reads `2=90,3=10`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut shares: Vec<(Revision, u64)> = Vec::new();
        for share in text.split(',') {
            let (revision, weight) =
                share.split_once('=').ok_or(format!("`{share}`: write REVISION=WEIGHT, as 2=90"))?;
            let revision = Revision::parse(revision.trim())?;
            let number = weight.trim().trim_end_matches('%').parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let weight = number.ok_or(format!("the weight `{weight}` is not a whole number up to {WEIGHT_MAX}"))?;
            if shares.iter().any(|(known, _)| *known == revision) {
                return Err(format!("`{share}`: this revision has a weight already"));
            }
            shares.push((revision, weight));
        }
        if shares.len() > SHARES_MAX {
            return Err(format!("at most {SHARES_MAX} revisions share traffic"));
        }
        if shares.iter().all(|(_, weight)| *weight == 0) {
            return Err("no revision has a weight: nobody would answer".to_owned());
        }
        Ok(Self(shares))
    }

    /// As the host takes them, by number.
    pub(super) fn resolved(&self, control: &Control, name: &Name) -> Result<Value, Failure> {
        let mut latest = None;
        if self.0.iter().any(|(revision, _)| *revision == Revision::Latest) {
            let function = control.json(Question { timeout: LOOK_TIMEOUT, ..Question::get(&name.path("")) })?;
            latest = function["latest"].as_u64().filter(|number| *number > 0);
            if latest.is_none() {
                return Err(Failure::new(Exit::Request, format!("{name} has no revision"))
                    .hint(format!("deploy one: `tenon deploy {name} PLUGIN.wasm -f function.toml`")));
            }
        }
        self.numbered(latest).map_err(|why| Failure::new(Exit::Usage, why))
    }

    fn numbered(&self, latest: Option<u64>) -> Result<Value, String> {
        let mut shares: Vec<(u64, u64)> = Vec::new();
        for (revision, weight) in &self.0 {
            let number = match (*revision, latest) {
                (Revision::Number(number), _) | (Revision::Latest, Some(number)) => number,
                (Revision::Latest, None) => return Err("the latest revision is not known".to_owned()),
            };
            if shares.iter().any(|(known, _)| *known == number) {
                return Err(format!("revision {number} is the latest, and has two weights"));
            }
            shares.push((number, *weight));
        }
        let shares = shares.into_iter().filter(|(_, weight)| *weight > 0);
        Ok(shares.map(|(revision, weight)| json!({ "revision": revision, "weight": weight })).collect())
    }
}

impl Sticky {
    /// Reads `none`, `request`, `key` or `header:NAME`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("header:")) {
            ("none", _) => Ok(Self::None),
            ("request", _) => Ok(Self::Request),
            ("key", _) => Ok(Self::Key),
            (_, Some(name)) => name.parse().map(Self::Header).map_err(|error| format!("`{name}`: {error}")),
            _ => Err("write none, request, key or header:NAME".to_owned()),
        }
    }

    /// As the host takes it.
    pub(super) fn as_json(&self) -> Value {
        match self {
            Self::None => json!({ "by": "none" }),
            Self::Request => json!({ "by": "request" }),
            Self::Key => json!({ "by": "key" }),
            Self::Header(name) => json!({ "by": "header", "header": name.as_str() }),
        }
    }
}

/// `revision 2 has 90 %, revision 3 has 10 %, the same for each x-user`.
pub(super) fn text(split: &Value) -> String {
    let shares: Vec<_> = split["shares"].as_array().into_iter().flatten().collect();
    let total: f64 = shares.iter().filter_map(|share| share["weight"].as_f64()).sum();
    let parts: Vec<_> = shares
        .iter()
        .map(|share| format!("revision {} has {}", cell(share, "revision"), percent(share["weight"].as_f64(), total)))
        .collect();
    let sticky = match (parts.len(), split["sticky"]["by"].as_str()) {
        (2.., Some("request")) => ", the same for each method, path and query".to_owned(),
        (2.., Some("key")) => ", the same for each key".to_owned(),
        (2.., Some("header")) => format!(", the same for each {}", cell(&split["sticky"], "header")),
        _ => String::new(),
    };
    format!("{}{sticky}", parts.join(", "))
}

/// A weight's share of all.
pub(crate) fn percent(weight: Option<f64>, total: f64) -> String {
    match weight {
        Some(weight) if total > 0.0 => {
            let percent = format!("{:.1}", weight / total * 100.0);
            format!("{} %", percent.trim_end_matches(".0"))
        }
        _ => MISSING.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_numbered() {
        let shares = Shares::parse("2=90, latest=10%,1=0").unwrap();
        let expected = json!([{ "revision": 2, "weight": 90 }, { "revision": 5, "weight": 10 }]);
        assert_eq!(shares.numbered(Some(5)).unwrap(), expected);
        assert!(shares.numbered(Some(2)).is_err(), "two weights for one revision");
        assert!(shares.numbered(None).is_err());
        for wrong in ["", "2", "2=", "2=x", "0=1", "x=1", "2=-1", "2=1,2=3", "2=0", "2=1000001", "2=1,,3=1"] {
            assert!(Shares::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_sticky_is_read() {
        assert_eq!(Sticky::parse("key").unwrap().as_json(), json!({ "by": "key" }));
        let header = json!({ "by": "header", "header": "x-user" });
        assert_eq!(Sticky::parse("header:X-User").unwrap().as_json(), header);
        for wrong in ["", "header:", "header:a b", "cookie"] {
            assert!(Sticky::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_split_is_told_in_percent() {
        let mut split = json!({ "shares": [{ "revision": 2, "weight": 2 }, { "revision": 3, "weight": 1 }],
            "sticky": { "by": "header", "header": "x-user" } });
        assert_eq!(text(&split), "revision 2 has 66.7 %, revision 3 has 33.3 %, the same for each x-user");
        split["shares"] = json!([{ "revision": 3, "weight": 7 }]);
        assert_eq!(text(&split), "revision 3 has 100 %");
    }
}
