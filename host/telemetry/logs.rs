//! The log: where lines go, how they look, how long one may be.
//!
//! Owns the process's subscriber. Refuses to know what is logged; texts of guests are bounded where they come in, and what
//! is too long all the same is cut here, because a log that fills a disk takes the host with it.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::config::LogFormat;

/// Says what is logged; `info` without it.
const FILTER: &str = "TENON_LOG";
/// The longest line. A guest's may have 8 KiB of text by default, twice that with all of it escaped.
const MAX_LINE_BYTES: usize = 64 << 10;
/// What of a longer line is kept in JSON, where a cut object would be none.
const KEPT_BYTES: usize = 4096;

/// Starts logging to standard error. Called once, by `main`.
pub fn start(format: LogFormat) {
    let asked = std::env::var(FILTER).unwrap_or_default();
    let read = EnvFilter::try_new(if asked.is_empty() { "info" } else { &asked });
    let wrong = read.as_ref().err().map(ToString::to_string);
    let filter = read.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines { format, out: io::stderr });
    match format {
        LogFormat::Pretty => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
    }
    if let Some(wrong) = wrong {
        tracing::warn!("{FILTER} is `{asked}`: {wrong}; `info` is in force");
    }
}

/// Writes each event as one line of bounded length.
struct Lines<F> {
    format: LogFormat,
    out: F,
}

impl<'a, W: Write, F: Fn() -> W> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { format: self.format, out: (self.out)() }
    }
}

struct Line<W> {
    format: LogFormat,
    out: W,
}

impl<W: Write> Write for Line<W> {
    /// The subscriber writes an event in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.format {
            _ if line.len() <= MAX_LINE_BYTES => self.out.write_all(line)?,
            LogFormat::Pretty => {
                self.out.write_all(&line[..MAX_LINE_BYTES])?;
                self.out.write_all(b" [cut]\n")?;
            }
            LogFormat::Json => {
                let (length, kept) = (line.len(), String::from_utf8_lossy(&line[..KEPT_BYTES]));
                let message = format!("a line of {length} bytes was cut: {kept}");
                let cut = serde_json::json!({ "level": "WARN", "target": "tenon::logs", "message": message });
                self.out.write_all(format!("{cut}\n").as_bytes())?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, line: &str) -> String {
        let mut out = Vec::new();
        Line { format, out: &mut out }.write_all(line.as_bytes()).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_line_is_cut_and_stays_one() {
        for format in [LogFormat::Pretty, LogFormat::Json] {
            assert_eq!(written(format, "{}\n"), "{}\n");
            let long = written(format, &format!("{{\"message\":\"{}\"}}\n", "ä".repeat(MAX_LINE_BYTES)));
            assert!(
                long.len() <= MAX_LINE_BYTES + 16 && long.lines().count() == 1 && long.contains("cut"),
                "{long:.99}"
            );
        }
        let long = written(LogFormat::Json, &"\u{1}".repeat(MAX_LINE_BYTES + 1));
        let read: serde_json::Value = serde_json::from_str(&long).unwrap();
        assert_eq!(read["level"], "WARN");
        assert!(long.len() <= MAX_LINE_BYTES);
    }
}
