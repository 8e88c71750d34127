//! W3C trace context: the caller's trace goes on with a span of ours, or a new trace begins.
//!
//! Owns the reading and writing of `traceparent` and the drawing of ids. Refuses to know who exports spans: whether a new
//! trace is sampled is told to it.

use std::fmt;

/// The flag by which a caller says that it keeps this trace.
const SAMPLED: u8 = 1;

/// A span, as another one names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanLink {
    /// The trace's id.
    pub trace: u128,
    /// The span's.
    pub span: u64,
}

/// Where a request stands in its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, and our span in it: what the answer tells.
    pub own: SpanLink,
    /// The caller's span; 0 where the trace begins here.
    pub parent: u64,
    flags: u8,
}

impl TraceContext {
    /// From a request's `traceparent`. A malformed one is as good as none, and then a trace begins here.
    pub fn of(traceparent: Option<&str>) -> Self {
        match traceparent.and_then(parse) {
            Some((trace, parent, flags)) => Self { own: SpanLink { trace, span: random().1 }, parent, flags },
            None => Self::begin(),
        }
    }

    /// A trace of its own, not sampled yet.
    pub fn begin() -> Self {
        // The halves come from two draws, so that the span tells nothing about the trace.
        let (high, low) = random();
        let trace = u128::from(high) << 64 | u128::from(low);
        Self { own: SpanLink { trace, span: random().1 }, parent: 0, flags: 0 }
    }

    /// Whether whoever began the trace keeps it.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Decides for a trace that begins here; the caller's decision about its own stands. `share` of all trace ids are
    /// sampled, the same ones on every host.
    pub(super) fn sample(&mut self, share: f64) {
        if self.parent == 0 {
            // 63 random bits against a share of their range, as other implementations of OpenTelemetry do it.
            let bound = share * (1_u64 << 63) as f64;
            let sampled = ((self.own.trace as u64) >> 1) as f64 <= bound && share > 0.0;
            self.flags = if sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        }
    }

    /// `traceparent` for the answer.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.own.trace, self.own.span, self.flags)
    }

    /// The trace's id as logs write it: 32 hexadecimal digits, or nothing where there is no trace.
    pub fn id(&self) -> impl fmt::Display + use<> {
        Id(self.own.trace)
    }
}

struct Id(u128);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "{:032x}", self.0) }
    }
}

/// 58 and 64 random bits, never zero.
fn random() -> (u64, u64) {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // The two topmost bits of the lower half are the variant's; random ones take their place.
    (high, (low << 2 | high >> 62).max(1))
}

/// Trace, span and flags of a well-formed header.
fn parse(header: &str) -> Option<(u128, u64, u8)> {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    // Later versions may have more parts; version 00 has exactly four, and ff is forbidden.
    let length = version != "ff" && (version != "00" || parts.next().is_none());
    if !whole || !length {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
    Some((trace, span, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_goes_on_or_begins() {
        let on = TraceContext::of(Some(&format!("00-{TRACE}-00f067aa0ba902b7-01")));
        let answer = on.traceparent();
        assert!(answer.starts_with(&format!("00-{TRACE}-")) && answer.ends_with("-01"), "{answer}");
        assert_eq!((on.parent, on.id().to_string()), (0x00f0_67aa_0ba9_02b7, TRACE.to_owned()));
        assert_ne!(on.own.span, on.parent);
        let zeros = "0".repeat(32);
        for malformed in [
            "",
            "00",
            "x",
            &format!("00-{zeros}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-x"),
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
        ] {
            let begun = TraceContext::of(Some(malformed));
            assert_eq!((begun.traceparent().len(), begun.parent), (55, 0), "{malformed}");
            assert!(!begun.traceparent().contains(TRACE));
        }
        assert_eq!(TraceContext::default().id().to_string(), "");
    }

    #[test]
    fn the_callers_decision_stands_and_ours_is_by_share() {
        for (flags, kept) in [("01", true), ("00", false), ("03", true)] {
            let mut followed = TraceContext::of(Some(&format!("00-{TRACE}-00f067aa0ba902b7-{flags}")));
            followed.sample(if kept { 0.0 } else { 1.0 });
            assert_eq!(followed.is_sampled(), kept, "{flags}");
        }
        let sampled = |share: f64| {
            let mut begun = [(); 4000].map(|()| TraceContext::begin());
            begun.iter_mut().for_each(|trace| trace.sample(share));
            begun.iter().filter(|trace| trace.is_sampled()).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        // Six standard deviations wide.
        assert!((836..=1164).contains(&sampled(0.25)), "{}", sampled(0.25));
    }
}
