//! What a person sees while a cell is driven: a bar on standard error, and nothing where that is no terminal.
//!
//! It shows counters that others keep, and costs the measurement ten looks a second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::window::Window;

const TEMPLATE: &str = "{prefix} {bar:30} {msg}";

/// The bar of one cell.
pub(super) struct Bar {
    bar: ProgressBar,
    name: String,
    requests: Option<u64>,
}

impl Bar {
    /// For the cell of this name; it fills by time, or by requests where a number of them ends it.
    pub(super) fn new(name: &str, warm_up: Duration, duration: Option<Duration>, requests: Option<u64>) -> Self {
        let length = requests.unwrap_or_else(|| (warm_up + duration.unwrap_or_default()).as_millis() as u64);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        Self { bar, name: name.to_owned(), requests }
    }

    /// Draws what is known now.
    pub(super) fn show(&self, window: &Window, done: u64, errors: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let counted = now.saturating_duration_since(window.start).as_secs_f64();
        let elapsed = now.saturating_duration_since(window.origin).as_millis() as u64;
        self.bar.set_prefix(self.name.clone());
        self.bar.set_position(if self.requests.is_some() { done } else { elapsed });
        let message = if counted == 0.0 {
            "warming up".to_owned()
        } else {
            let waiting = if window.is_over(now) { ", waiting for the last answers" } else { "" };
            format!("{:.0} requests/s, {errors} errors{waiting}", done as f64 / counted)
        };
        self.bar.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
