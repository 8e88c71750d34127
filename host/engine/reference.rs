//! How models are named in `function.toml` and on command lines: `minilm`, `minilm@serving`, `minilm@3`. Owns the
//! notation; refuses to know whether there is such a model.

use std::{fmt, str::FromStr};

use super::{error::EngineError, repository};

/// The longest reference that is repeated in an error.
const MAX_TEXT_CHARACTERS: usize = 64;

/// Which version is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Whichever serves: the highest.
    Serving,
    /// This one.
    Number(u64),
}

/// A model and a version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelReference {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: Version,
}

impl FromStr for ModelReference {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || EngineError::Reference(text.chars().take(MAX_TEXT_CHARACTERS).collect());
        let (name, version) = match text.split_once('@') {
            None => (text, Version::Serving),
            Some((name, "serving")) => (name, Version::Serving),
            Some((name, number)) => (name, Version::Number(repository::version_number(number).ok_or_else(wrong)?)),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            return Err(wrong());
        }
        Ok(Self { name: name.into(), version })
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Serving => f.write_str(&self.name),
            Version::Number(number) => write!(f, "{}@{number}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_three_forms() {
        let reference =
            |text: &str| text.parse::<ModelReference>().map(|reference| (reference.name, reference.version));
        assert_eq!(reference("minilm").unwrap(), ("minilm".into(), Version::Serving));
        assert_eq!(reference("minilm@serving").unwrap(), ("minilm".into(), Version::Serving));
        assert_eq!(reference("mini-lm_2.1@3").unwrap(), ("mini-lm_2.1".into(), Version::Number(3)));
        for wrong in ["", "@3", "a@", "a@0", "a@03", "a@-1", "a@latest", "a@3@4", "../a", "a/b", ".hidden", "ä"] {
            let error = reference(wrong).unwrap_err().to_string();
            assert!(error.contains("write `name`, `name@serving` or `name@3`"), "{wrong}: {error}");
        }
    }
}
