//! Which headers a guest may set. Owns the rules of names and values, and the list of those that belong to the host.

/// Headers that one answer of a guest may carry.
pub(in crate::sandbox) const MAX_HEADERS: usize = 64;
/// The longest value.
const MAX_VALUE_BYTES: usize = 8 << 10;
/// The longest name.
const MAX_NAME_BYTES: usize = 128;

/// Names that the host writes itself, or that speak of the connection.
const RESERVED: [&str; 14] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "server-timing",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "x-process-time",
    "x-request-id",
];
/// The start of every name that is the host's.
const RESERVED_PREFIX: &str = "x-tenon-";

/// Refuses a header that is malformed, too long or the host's own; the text says which.
pub(in crate::sandbox) fn check(name: &str, value: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(token) {
        return Err("a header's name is 1 to 128 token characters".into());
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&&lower[..]) || lower.starts_with(RESERVED_PREFIX) {
        return Err(format!("the header `{lower}` is the host's own"));
    }
    let visible = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80;
    if value.len() > MAX_VALUE_BYTES || !value.bytes().all(visible) {
        return Err(format!("the value of header `{lower}` has control characters or over {MAX_VALUE_BYTES} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_splits_a_response_or_is_the_hosts_is_refused() {
        assert!(check("retry-after", "3").is_ok());
        assert!(check("X-Note", "grüße\tok").is_ok());
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("ä", "x"),
            ("a", "x\r\ninjected: 1"),
            ("a", "\0"),
            ("Content-Length", "1"),
            ("x-tenon-cache", "hit"),
            ("X-Request-Id", "1"),
        ] {
            assert!(check(name, value).is_err(), "{name:?}: {value:?}");
        }
        assert!(check(&"a".repeat(129), "").is_err());
        assert!(check("a", &"b".repeat(8193)).is_err());
    }
}
