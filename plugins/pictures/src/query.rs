//! What a caller asks in the query string, and in `accept`.
//!
//! Owns reading numbers, choices and names, each refusal a 400 that names the parameter. A name that is not known is
//! refused, not passed over: a threshold that was mistyped would give a wrong answer without a word.

use std::ops::RangeInclusive;
use std::str::FromStr;

use tenon_sdk::{Rejection, Request};

const MAX_SHOWN_CHARS: usize = 40;

/// The query's names and values.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query; `known` are the names that mean something.
    pub fn read(request: &Request, known: &[&str]) -> Result<Query, Rejection> {
        let pairs = request.query();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = format!("`{}` means nothing here; known are {}", shown(name), known.join(", "));
                return Err(Rejection::bad_request("unknown-parameter", detail));
            }
            if pairs[..index].iter().any(|(before, _)| before == name) {
                return Err(wrong(name, "is there twice"));
            }
        }
        Ok(Query(pairs))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// A number within bounds.
    pub fn number<T>(&self, name: &str, default: T, bounds: RangeInclusive<T>) -> Result<T, Rejection>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = text.trim().parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| {
            let detail = format!("is a number from {} to {}, not `{}`", bounds.start(), bounds.end(), shown(text));
            wrong(name, &detail)
        })
    }

    /// One of these words.
    pub fn choice<'a>(&self, name: &str, default: &'a str, words: &[&'a str]) -> Result<&'a str, Rejection> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let found = words.iter().find(|word| **word == text).copied();
        found.ok_or_else(|| wrong(name, &format!("is one of {}, not `{}`", words.join(", "), shown(text))))
    }

    /// Which image an answer is to be about, if it can be about one only.
    pub fn index(&self) -> Result<Option<usize>, Rejection> {
        self.get("index").map(|_| self.number("index", 0, 0..=usize::MAX)).transpose()
    }

    /// Which of the classes are wanted, by name or number: `circle,star`. None: all of them.
    pub fn classes(&self, names: &[String]) -> Result<Option<Vec<bool>>, Rejection> {
        let Some(text) = self.get("classes") else { return Ok(None) };
        let mut wanted = vec![false; names.len()];
        for word in text.split(',').map(str::trim) {
            let number = word.parse().ok().filter(|number: &usize| *number < names.len());
            let Some(class) = names.iter().position(|name| name == word).or(number) else {
                return Err(wrong("classes", &format!("names `{}`; there are {}", shown(word), names.join(", "))));
            };
            wanted[class] = true;
        }
        Ok(Some(wanted))
    }

    /// The format of a picture: `format`, or what `accept` prefers, or JPEG.
    pub fn format(&self, request: &Request) -> Result<&'static str, Rejection> {
        if self.get("format").is_some() {
            return Ok(if self.choice("format", "jpeg", &["jpeg", "jpg", "png"])? == "png" { "png" } else { "jpeg" });
        }
        let accept = request.header("accept").unwrap_or_default();
        Ok(if preference(&accept, "image/png") > preference(&accept, "image/jpeg") { "png" } else { "jpeg" })
    }
}

/// How much `accept` wants this media type, in thousandths. Wildcards say nothing: they want everything alike.
pub fn preference(accept: &str, kind: &str) -> u16 {
    let quality = |entry: &str| -> Option<u16> {
        let mut parts = entry.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(kind) {
            return None;
        }
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        Some((quality.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u16)
    };
    accept.split(',').find_map(quality).unwrap_or(0)
}

fn wrong(name: &str, detail: &str) -> Rejection {
    Rejection::bad_request("invalid-parameter", format!("`{name}` {detail}"))
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Result<Query, Rejection> {
        let query = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Query::read(&Request { query, ..Request::default() }, &["confidence", "classes", "index", "format"])
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        let confidence = |text: &str| query(&[("confidence", text)])?.number("confidence", 0.25, 0.0..=1.0);
        assert_eq!(confidence("0.5"), Ok(0.5));
        assert_eq!(confidence(" 1 "), Ok(1.0));
        assert_eq!(query(&[]).unwrap().number("confidence", 0.25, 0.0..=1.0), Ok(0.25));
        for wrong in ["", "NaN", "inf", "-0.1", "1.01", "a", "0,5"] {
            let rejection = confidence(wrong).unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (400, "invalid-parameter"), "{wrong}");
            assert!(rejection.detail.contains("from 0 to 1"), "{}", rejection.detail);
        }
        assert!(query(&[("index", "-1")]).unwrap().index().is_err());
        assert_eq!(query(&[("index", "2")]).unwrap().index(), Ok(Some(2)));
    }

    #[test]
    fn what_is_mistyped_or_repeated_is_refused() {
        assert_eq!(query(&[("confidense", "0.5")]).unwrap_err().code, "unknown-parameter");
        assert_eq!(query(&[("index", "1"), ("index", "2")]).unwrap_err().code, "invalid-parameter");
        let long = query(&[(&"x".repeat(10_000), "")]).unwrap_err();
        assert!(long.detail.len() < 200);
    }

    #[test]
    fn classes_by_name_or_number() {
        let names = ["circle".to_owned(), "star".to_owned()];
        let classes = |text: &str| query(&[("classes", text)]).unwrap().classes(&names);
        assert_eq!(classes("star"), Ok(Some(vec![false, true])));
        assert_eq!(classes("0, star"), Ok(Some(vec![true, true])));
        for wrong in ["", "moon", "2", "star,"] {
            assert!(classes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(query(&[]).unwrap().classes(&names), Ok(None));
    }

    #[test]
    fn pictures_come_as_they_are_wanted() {
        let format = |accept: &str, query: &Query| {
            let request = Request { headers: vec![("accept".into(), accept.into())], ..Request::default() };
            query.format(&request)
        };
        let plain = query(&[]).unwrap();
        for (accept, wanted) in [
            ("", "jpeg"),
            ("*/*", "jpeg"),
            ("image/png", "png"),
            ("image/jpeg, image/png", "jpeg"),
            ("image/jpeg;q=0.5, image/png;q=0.9", "png"),
            ("text/html,image/png;q=0.1", "png"),
            ("image/png;q=nonsense", "jpeg"),
        ] {
            assert_eq!(format(accept, &plain), Ok(wanted), "{accept}");
        }
        assert_eq!(format("image/jpeg", &query(&[("format", "png")]).unwrap()), Ok("png"));
        assert!(format("", &query(&[("format", "gif")]).unwrap()).is_err());
    }
}
