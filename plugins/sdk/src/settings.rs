//! Values of `[config]` in `function.toml`, read as the type that the plugin needs.

use std::fmt::Display;
use std::str::FromStr;

use crate::config;

/// The value of a key, or `default` where `function.toml` does not set it.
///
/// A value that cannot be read is the fault of whoever deployed the function, not of the
/// caller: the plugin traps, and the log says which key and why.
#[track_caller]
pub fn setting<T>(key: &str, default: T) -> T
where
    T: FromStr,
    T::Err: Display,
{
    let Some(value) = config::get(key) else { return default };
    match value.parse() {
        Ok(parsed) => parsed,
        Err(error) => panic!("[config] {key} = \"{value}\" in function.toml: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;

    #[test]
    fn a_setting_is_read_and_a_missing_one_has_its_default() {
        native::configure(&[("max_documents", "12")]);
        assert_eq!(setting("max_documents", 1000_usize), 12);
        assert_eq!(setting("max_tokens", 256_u32), 256);
    }

    #[test]
    #[should_panic(expected = "[config] max_documents = \"many\" in function.toml: invalid digit")]
    fn a_setting_that_cannot_be_read_is_named() {
        native::configure(&[("max_documents", "many")]);
        setting("max_documents", 1000_usize);
    }
}
