//! Which revisions of a function serve, and by what shares. Owns the form of a split; refuses to know which revisions
//! there are and how a request is told apart: the state checks the one, the caller of the other knows requests.

use serde::{Deserialize, Serialize};

/// Revisions that may serve at once; a canary needs two.
const SHARES: std::ops::RangeInclusive<usize> = 1..=4;
/// Shares are counted against each other; hundredths of a percent are fine enough.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Names of headers in use are shorter.
const HEADER_BYTES: usize = 64;

/// Revisions that serve together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Who serves how much.
    pub shares: Vec<Share>,
    /// What keeps to one revision.
    #[serde(default)]
    pub sticky: Sticky,
}

/// One revision's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The revision's number.
    pub revision: u64,
    /// Its part, against the other weights.
    pub weight: u32,
}

/// What keeps to one revision while the split stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", deny_unknown_fields)]
pub enum Sticky {
    /// Nothing: each request is drawn for itself.
    #[default]
    None,
    /// Requests with the same method, path and query.
    Request,
    /// Whoever calls with the same key.
    Key,
    /// Requests with the same value of a header.
    Header {
        /// Its name, in lower case.
        header: String,
    },
}

impl Split {
    /// All for one revision.
    pub fn all(revision: u64) -> Self {
        Self { shares: vec![Share { revision, weight: 1 }], sticky: Sticky::None }
    }

    /// The same with the smallest weights that say it, so that what serves alike is alike.
    pub fn reduced(mut self) -> Self {
        let common = self.shares.iter().fold(0, |common, share| gcd(common, share.weight)).max(1);
        self.shares.iter_mut().for_each(|share| share.weight /= common);
        self
    }

    /// The revisions' numbers.
    pub fn revisions(&self) -> impl Iterator<Item = u64> + '_ {
        self.shares.iter().map(|share| share.revision)
    }

    /// Whether a revision has a share.
    pub fn names(&self, revision: u64) -> bool {
        self.revisions().any(|named| named == revision)
    }

    /// What is left without a revision; none if that is nothing.
    pub(super) fn without(&self, revision: u64) -> Option<Self> {
        let shares: Vec<Share> = self.shares.iter().copied().filter(|share| share.revision != revision).collect();
        (!shares.is_empty()).then(|| Self { shares, sticky: self.sticky.clone() })
    }

    /// For the history: `3`, or `3 by 90, 4 by 10`.
    pub(super) fn in_words(&self) -> String {
        match &self.shares[..] {
            [only] => only.revision.to_string(),
            shares => {
                let parts: Vec<_> =
                    shares.iter().map(|share| format!("{} by {}", share.revision, share.weight)).collect();
                parts.join(", ")
            }
        }
    }

    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if !SHARES.contains(&self.shares.len()) {
            return Err(format!("traffic has {} to {} shares", SHARES.start(), SHARES.end()));
        }
        for (i, share) in self.shares.iter().enumerate() {
            if !WEIGHTS.contains(&share.weight) {
                return Err(format!("a weight is {} to {}, not {}", WEIGHTS.start(), WEIGHTS.end(), share.weight));
            }
            if self.shares[..i].iter().any(|other| other.revision == share.revision) {
                return Err(format!("revision {} has two shares", share.revision));
            }
        }
        match &self.sticky {
            Sticky::Header { header } if !is_header(header) => {
                Err(format!("a sticky header's name has 1 to {HEADER_BYTES} of a-z, 0-9, - and _"))
            }
            _ => Ok(()),
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn is_header(name: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=HEADER_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(shares: &[(u64, u32)]) -> Split {
        let shares = shares.iter().map(|&(revision, weight)| Share { revision, weight }).collect();
        Split { shares, sticky: Sticky::None }
    }

    #[test]
    fn splits_that_make_no_sense_are_refused() {
        for good in [&[(1, 1)][..], &[(1, 9000), (2, 1000)], &[(4, 1), (3, 1), (2, 1), (1, 10_000)]] {
            assert_eq!(split(good).validate(), Ok(()));
        }
        for bad in [&[][..], &[(1, 0)], &[(1, 10_001)], &[(1, 1), (1, 2)], &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]] {
            assert!(split(bad).validate().is_err(), "{bad:?}");
        }
        for name in ["", "X-User", "a b", &"h".repeat(65)] {
            let sticky = Sticky::Header { header: name.to_owned() };
            assert!(Split { sticky, ..Split::all(1) }.validate().is_err(), "{name}");
        }
    }

    #[test]
    fn what_serves_alike_is_alike() {
        assert_eq!(split(&[(1, 100)]).reduced(), Split::all(1));
        assert_eq!(split(&[(1, 90), (2, 10)]).reduced(), split(&[(1, 9), (2, 1)]));
        assert_eq!(split(&[(1, 3), (2, 2)]).reduced(), split(&[(1, 3), (2, 2)]));
        assert_eq!(split(&[(1, 0)]).reduced().validate(), split(&[(1, 0)]).validate(), "refused as it is");
    }

    #[test]
    fn the_form_in_records_stays() {
        let text = r#"{"shares":[{"revision":1,"weight":90},{"revision":2,"weight":10}],"sticky":{"by":"header","header":"x-user"}}"#;
        let split: Split = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&split).unwrap(), text);
        assert_eq!(split.in_words(), "1 by 90, 2 by 10");
        let short: Split = serde_json::from_str(r#"{"shares":[{"revision":1,"weight":1}]}"#).unwrap();
        assert_eq!(short, Split::all(1));
    }

    #[test]
    fn a_revision_leaves_a_split() {
        let both = split(&[(1, 90), (2, 10)]);
        assert_eq!(both.without(2), Some(split(&[(1, 90)])));
        assert_eq!(both.without(3), Some(both.clone()));
        assert_eq!(Split::all(1).without(1), None);
    }
}
