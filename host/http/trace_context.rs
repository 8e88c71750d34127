//! W3C trace context: the caller's `traceparent` goes on with a span of ours, or a new trace begins.

/// `00-<trace id>-<span id>-<flags>` for the answer to a request that came with `incoming`.
pub(super) fn answer(incoming: Option<&str>) -> String {
    // The random half of a version 7 UUID.
    let random = || uuid::Uuid::now_v7().as_u64_pair().1;
    let (trace, flags) = match incoming.and_then(parse) {
        Some((trace, flags)) => (trace.to_owned(), flags.to_owned()),
        None => (uuid::Uuid::now_v7().simple().to_string(), "00".to_owned()),
    };
    format!("00-{trace}-{:016x}-{flags}", random().max(1))
}

/// Trace id and flags of a well-formed header; a malformed one is as good as none.
fn parse(header: &str) -> Option<(&str, &str)> {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    // Later versions may have more parts; version 00 has exactly four, and ff is forbidden.
    let length = version != "ff" && (version != "00" || parts.next().is_none());
    let zero = trace.bytes().all(|byte| byte == b'0') || span.bytes().all(|byte| byte == b'0');
    (whole && length && !zero).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn a_trace_goes_on_or_begins() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let on = answer(Some(&format!("00-{trace}-00f067aa0ba902b7-01")));
        assert!(on.starts_with(&format!("00-{trace}-")) && on.ends_with("-01") && !on.contains("00f067aa0ba902b7"));
        let zeros = "0".repeat(32);
        for malformed in
            ["", "00", "x", &format!("00-{zeros}-00f067aa0ba902b7-01"), &format!("ff-{trace}-00f067aa0ba902b7-01")]
        {
            let begun = answer(Some(malformed));
            assert_eq!(begun.len(), 55);
            assert!(!begun.contains(trace));
        }
    }
}
