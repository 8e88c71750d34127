//! How long names and texts may be and how much the registry holds. One place, so that what a record, a snapshot or a
//! note of a host can come to is known; refuses to know what the texts mean.

/// Names of tenants, functions and keys' ids.
const NAME_BYTES: usize = 64;
/// Names that people choose for keys and hosts, names of models, digests of revisions.
pub(super) const LABEL_BYTES: usize = 128;
/// Who made a change.
pub(super) const BY_BYTES: usize = 128;
/// Why, and reasons of quarantine; longer ones are cut.
pub(super) const REASON_BYTES: usize = 512;
/// Tenants with settings of their own.
pub(super) const TENANTS: usize = 10_000;
/// Functions of all tenants together.
pub(super) const FUNCTIONS: usize = 100_000;
/// Names of functions that one tenant may use, those of removed ones included.
pub(super) const TENANT_NAMES: usize = 2000;
/// Names of functions in all, those of removed ones included: their numbers are remembered.
pub(super) const FUNCTION_NAMES: usize = 2 * FUNCTIONS;
/// Keys of one tenant, and of the operators.
pub(super) const KEYS_PER_TENANT: usize = 1_000;
/// Keys altogether.
pub(super) const KEYS: usize = 100_000;
/// One blob; a component is a few megabytes.
pub(super) const BLOB_BYTES: u64 = 256 << 20;
/// One record. An ordinary one has less than 4 KiB; settings may name many models.
pub(super) const RECORD_BYTES: u64 = 64 << 10;

/// Lower-case letters, digits, `-` and `_`, beginning with a letter or a digit: it is part of paths and headers.
pub(super) fn name(what: &str, name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.len() <= NAME_BYTES && name.bytes().all(allowed) && name.as_bytes().first().is_some_and(first) {
        return Ok(());
    }
    Err(format!("the name of a {what} has 1 to {NAME_BYTES} of a-z, 0-9, - and _, and begins with a letter or a digit"))
}

/// A text that is not empty, not too long and printable.
pub(super) fn label(what: &str, text: &str, most_bytes: usize) -> Result<(), String> {
    if !text.is_empty() && text.len() <= most_bytes && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("{what} must have 1 to {most_bytes} bytes without control characters"))
}

/// A BLAKE3 digest in lower-case hexadecimal.
pub(super) fn digest(what: &str, text: &str) -> Result<(), String> {
    if text.len() == blake3::OUT_LEN * 2 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(format!("{what} must be a BLAKE3 digest: {} hexadecimal digits in lower case", blake3::OUT_LEN * 2))
}

/// As much of a text as fits, without control characters: they would swell in JSON and forge lines in logs.
pub(super) fn clipped(text: &str, most_bytes: usize) -> String {
    let mut end = most_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths() {
        for good in ["a", "0", "acme-1_x", &"n".repeat(NAME_BYTES)] {
            assert_eq!(name("tenant", good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a/b", "..", "a b", "é", &"n".repeat(NAME_BYTES + 1)] {
            assert!(name("tenant", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_have_one_spelling() {
        let good = blake3::hash(b"x").to_hex().to_string();
        assert_eq!(digest("hash", &good), Ok(()));
        for bad in [&good[1..], &good.to_uppercase(), &format!("{good}0"), &"g".repeat(64)] {
            assert!(digest("hash", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(clipped("aéé", 4), "aé");
        assert_eq!(clipped("a\nb", 10), "a b");
        assert_eq!(clipped("", 10), "");
        assert_eq!(label("by", "", 3), Err("by must have 1 to 3 bytes without control characters".into()));
        assert!(label("by", "a\tb", 3).is_err() && label("by", "abcd", 3).is_err() && label("by", "abc", 3).is_ok());
    }
}
