//! The caller's key, as the environment has it: what functions and the control plane are asked with.
//!
//! It reads a variable and makes a header of it; where that header may go is decided by who asks. A secret comes from
//! the environment and not from a flag, which everybody on the machine can read.

use std::env;

use ureq::http::HeaderValue;

use crate::failure::{Exit, Failure};

/// A tenant's key, or an operator's.
pub(crate) const KEY_VARIABLE: &str = "TENON_KEY";

/// The key of the environment, where there is one.
pub(crate) fn given() -> Result<Option<String>, Failure> {
    let Some(key) = env::var_os(KEY_VARIABLE).filter(|key| !key.is_empty()) else { return Ok(None) };
    let garbled = |_| Failure::new(Exit::Usage, format!("{KEY_VARIABLE} is not text"));
    let key = key.into_string().map_err(garbled)?;
    Ok(Some(key.trim().to_owned()).filter(|key| !key.is_empty()))
}

/// The value of an `authorization` header, which no log shows.
pub(crate) fn bearer(key: &str) -> Result<HeaderValue, Failure> {
    let garbled = |_| Failure::new(Exit::Usage, "the key is not text that a header can carry");
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.trim())).map_err(garbled)?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_header_that_is_not_shown() {
        let value = bearer("tnk_1\n").unwrap();
        assert_eq!((value.to_str().unwrap(), value.is_sensitive()), ("Bearer tnk_1", true));
        assert_eq!(bearer("a\nb").unwrap_err().exit, Exit::Usage);
    }
}
