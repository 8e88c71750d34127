//! Times as people write and read them: durations of flags, instants of a host, and the pauses between two looks.
//!
//! It knows nothing of what is waited for.

use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;

use crate::output::MISSING;

/// Looks follow each other faster at first: most things are done soon.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest time that a flag may name: ten years, which is what a key may want.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads `30s`, `10m` or `90d`; nothing is no time.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text.trim()).map_err(|error| format!("{error}; write 30s, 10m or 90d"))?;
    match time {
        time if time.is_zero() => Err("must be more than nothing".into()),
        time if time > DURATION_MAX => Err("at most ten years".into()),
        time => Ok(time),
    }
}

/// Milliseconds since 1970 as an instant of UTC, to the second.
pub(crate) fn instant(ms: &Value) -> String {
    instant_of(ms, |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// The same to the millisecond.
pub(crate) fn instant_ms(ms: &Value) -> String {
    instant_of(ms, |time| humantime::format_rfc3339_millis(time).to_string())
}

fn instant_of(ms: &Value, text: impl Fn(std::time::SystemTime) -> String) -> String {
    // Beyond the year 9999 there is no such text, and writing it would panic.
    const MS_MAX: u64 = 253_402_300_799_000;
    let time = ms.as_u64().filter(|ms| *ms <= MS_MAX).map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    time.map_or_else(|| MISSING.to_owned(), text)
}

/// Looks again and again until a time is over.
pub(crate) struct Patience {
    end: Instant,
    pause: Duration,
}

impl Patience {
    /// Begins now.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { end: Instant::now() + longest, pause: PAUSE_MIN }
    }

    /// Waits for the next look; false when the time is over.
    pub(crate) fn wait(&mut self) -> bool {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Nobody unparks this thread, and if somebody did, a look would come early.
        thread::park_timeout(self.pause.min(left));
        // An eighth longer each time: whoever waits learns of the end an eighth of the time too late at most.
        self.pause = (self.pause * 9 / 8).min(PAUSE_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instants_are_read_and_what_is_none_is_missing() {
        assert_eq!(instant(&json!(1_784_980_803_123_u64)), "2026-07-25T12:00:03Z");
        assert_eq!(instant_ms(&json!(1_784_980_803_123_u64)), "2026-07-25T12:00:03.123Z");
        for none in [json!(null), json!("x"), json!(-1), json!(u64::MAX)] {
            assert_eq!(instant(&none), "-");
        }
    }

    #[test]
    fn durations_have_bounds() {
        assert_eq!(parse("90d"), Ok(Duration::from_secs(90 * 24 * 3600)));
        for text in ["0s", "11years", "soon", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new(Duration::from_millis(20));
        let began = Instant::now();
        while patience.wait() {}
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
