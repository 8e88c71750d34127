//! Curves as inline SVG: axes, lines and their names, and nothing that has to be fetched.
//!
//! It knows numbers and no bench. Colours are the page's (`report`), which knows light and dark.

use std::fmt::Write as _;

/// The drawing, in its own units; pages scale it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 88.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// Names at the ends of lines are this far apart at least.
const NAME_HEIGHT: f64 = 13.0;
/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

/// The vertical axis.
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

/// A line and its name. `shade` is 0 to 1, from the page's first colour to its second.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) shade: f64,
    /// Across, 0 to 1, and the value; with what is shown where a pointer rests.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether each point is a measurement of its own, and not one of a curve.
    pub(super) dots: bool,
}

impl Axis {
    /// From nothing to the largest value.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(0.0, f64::max);
        Self { low: 0.0, high: if high > 0.0 { high * 1.05 } else { 1.0 }, log: false }
    }

    /// Over whole powers of ten: latencies of one server differ by thousands.
    pub(super) fn log(values: impl Iterator<Item = f64> + Clone) -> Self {
        let positive = || values.clone().filter(|value| *value > 0.0);
        let (low, high) = (positive().fold(f64::MAX, f64::min), positive().fold(f64::MIN, f64::max));
        if low > high {
            return Self { low: 1.0, high: 10.0, log: true };
        }
        let low = 10_f64.powf(low.log10().floor());
        Self { low, high: 10_f64.powf(high.log10().ceil()).max(low * 10.0), log: true }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        TOP + (1.0 - share.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10_f64.powi(decade)).collect();
        }
        let rough = self.high / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * power).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.high).collect()
    }
}

/// Draws lines over named places.
pub(super) fn draw(title: &str, axis: &Axis, places: &[(f64, String)], lines: &[Line]) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(title));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in axis.ticks() {
        let y = axis.at(tick);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        let _ = write!(svg, "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, y + 4.0, short(tick));
    }
    for (place, name) in places {
        let x = across(*place);
        let _ = write!(svg, "<path class=\"tick\" d=\"M{x:.1} {bottom}v5\"/>");
        let _ = write!(svg, "<text class=\"x\" x=\"{x:.1}\" y=\"{}\">{}</text>", bottom + 18.0, escape(name));
    }
    let _ = write!(svg, "<path class=\"tick\" d=\"M{LEFT} {bottom}H{right}\"/>");
    lines.iter().for_each(|line| line.draw(axis, &mut svg));
    names(lines, axis, &mut svg);
    svg.push_str("</svg>");
    svg
}

impl Line {
    fn draw(&self, axis: &Axis, svg: &mut String) {
        let shade = self.shade * 100.0;
        let _ = write!(svg, "<path class=\"line\" style=\"--s:{shade:.0}%\" d=\"");
        for (n, (x, value)) in self.points.iter().enumerate() {
            let _ = write!(svg, "{}{:.1} {:.1}", if n == 0 { 'M' } else { 'L' }, across(*x), axis.at(*value));
        }
        let _ = write!(svg, "\"><title>{}</title></path>", escape(&self.name));
        for (x, value) in self.points.iter().filter(|_| self.dots) {
            let (x, y, name) = (across(*x), axis.at(*value), escape(&self.name));
            let _ = write!(svg, "<circle class=\"dot\" style=\"--s:{shade:.0}%\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\">");
            let _ = write!(svg, "<title>{name}: {}</title></circle>", short(*value));
        }
    }
}

/// Each line's name at its end, from the top down, moved apart where lines end close together.
fn names(lines: &[Line], axis: &Axis, svg: &mut String) {
    let ends = lines.iter().filter_map(|line| Some((axis.at(line.points.last()?.1), line)));
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let spare = (HEIGHT - BOTTOM - TOP) - NAME_HEIGHT * ends.len() as f64;
    // One line alone is what the title says.
    if spare < 0.0 || lines.len() < 2 {
        return;
    }
    let mut lowest = TOP;
    let count = ends.len();
    for (n, (y, line)) in ends.into_iter().enumerate() {
        // Room is left for the names that follow.
        let y = y.max(lowest).min(HEIGHT - BOTTOM - NAME_HEIGHT * (count - 1 - n) as f64);
        lowest = y + NAME_HEIGHT;
        let shade = line.shade * 100.0;
        let (x, y) = (WIDTH - RIGHT + 6.0, y + 4.0);
        let _ = write!(svg, "<text class=\"name\" style=\"--s:{shade:.0}%\" x=\"{x}\" y=\"{y:.1}\">");
        let _ = write!(svg, "{}</text>", escape(&line.name));
    }
}

fn across(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

/// A tick as few characters.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{}", (v * 1e4).round() / 1e4),
    }
}

/// Text as HTML takes it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_they_are_made_for() {
        let values = [0.02, 3.0, 700.0];
        let axis = Axis::log(values.into_iter());
        assert_eq!(axis.ticks().len(), 6, "0.01 to 1000");
        assert!(values.iter().all(|value| (TOP..=HEIGHT - BOTTOM).contains(&axis.at(*value))));
        let axis = Axis::linear([41_000.0].into_iter());
        assert_eq!(axis.ticks(), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0]);
        assert_eq!(Axis::log(std::iter::empty()).ticks().len(), 2);
        assert_eq!(short(20_000.0), "20k");
    }

    #[test]
    fn names_stay_inside_and_are_defused() {
        let line =
            |name: &str| Line { name: name.into(), shade: 0.5, points: vec![(0.0, 1.0), (1.0, 1.0)], dots: true };
        let lines: Vec<_> = (0..15).map(|_| line("<b>")).collect();
        let svg = draw("a \"b\"", &Axis::linear([1.0].into_iter()), &[(0.5, "&".into())], &lines);
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;") && svg.contains("a &quot;b&quot;"), "{svg}");
        let places = svg.match_indices("class=\"name\"").count();
        assert_eq!(places, 15);
    }
}
