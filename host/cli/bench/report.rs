//! `--report FILE.html`: a run as one page that needs nothing else, readable in light and dark and on paper.
//!
//! It draws saved figures; the drawing itself is `chart`'s.

use std::fmt::Write as _;

use super::chart::{Axis, Line, draw, escape};
use super::saved::{Latency, Saved, SavedCell};
use super::table::{bodies, figure};

/// Points of a curve for each power of ten of `1 / (1 - percentile)`.
const POINTS_PER_DECADE: usize = 40;
/// Curves end at 99.999 %, or before, where there are too few requests.
const DECADES_MAX: f64 = 5.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c2126;--dim:#5d6873;--back:#fff;--grid:#e3e7eb;--a:#0a7f76;--b:#b3246c}
@media(prefers-color-scheme:dark){:root{--text:#e6eaee;--dim:#98a3ad;--back:#14181c;--grid:#2b3238;--a:#4fd6c8;--b:#ff8fc0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .3rem}p{margin:.3rem 0;color:var(--dim)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem}
svg{width:100%;height:auto}.grid{stroke:var(--grid)}.tick{stroke:var(--dim);fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke:color-mix(in oklch,var(--b) var(--s),var(--a))}
.dot,.name{fill:color-mix(in oklch,var(--b) var(--s),var(--a))}
svg text{font-size:12px;fill:var(--dim)}svg .name{fill:color-mix(in oklch,var(--b) var(--s),var(--a))}
.two text{font-size:19px}.two .line{stroke-width:3}
.y{text-anchor:end}.x{text-anchor:middle}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--grid);white-space:nowrap}th{color:var(--dim);font-weight:500}
";

/// The whole page.
pub(super) fn page(saved: &Saved) -> String {
    let target = &saved.target;
    let title = format!("{} {}", target.method, target.url);
    let open = saved.settings.kind == "open";
    let load = if open { "requests per second asked for" } else { "clients" };
    let mut page = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    let _ = write!(page, "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>", escape(&title));
    let _ = write!(page, "<style>{STYLE}</style><h1>{}</h1>", escape(&title));
    let _ = write!(page, "<p>{}</p>", escape(&conditions(saved)));
    if saved.interrupted {
        page.push_str("<p>Interrupted: these are the figures up to then.</p>");
    }
    page.push_str("<h2>Latency by percentile, ms</h2>");
    page.push_str(&curves(saved));
    if saved.cells.len() > 1 {
        let _ = write!(page, "<div class=\"two\"><div><h2>Good answers per second, over {load}</h2>");
        page.push_str(&throughput(saved));
        let _ = write!(page, "</div><div><h2>p50 and p99 in ms, over {load}</h2>{}</div></div>", latencies(saved));
    }
    page.push_str(&table(saved, load));
    page.push_str("</html>\n");
    page
}

fn conditions(saved: &Saved) -> String {
    let (settings, machine, target) = (&saved.settings, &saved.machine, &saved.target);
    let long = match (settings.duration_s, settings.requests) {
        (Some(seconds), _) => format!("{seconds} s each"),
        (None, requests) => format!("{} requests each", requests.unwrap_or_default()),
    };
    let turns = if settings.repeat > 1 { format!(", {} turns", settings.repeat) } else { String::new() };
    format!(
        "{} loop, {long}{turns}, after {} s of warm-up; HTTP/{}{}. {}, driven from {} × {}. tenon {}.",
        settings.kind,
        settings.warm_up_s,
        target.http,
        bodies(target),
        saved.when,
        machine.cores,
        machine.cpu,
        saved.tenon,
    )
}

/// How far along the colours a cell is.
fn shade(n: usize, of: usize) -> f64 {
    if of > 1 { n as f64 / (of - 1) as f64 } else { 0.0 }
}

/// Across goes `1 / (1 - percentile)`, so that each further nine is as wide as the one before.
fn curves(saved: &Saved) -> String {
    let histograms: Vec<_> = saved.cells.iter().map(SavedCell::distribution).collect();
    let most = histograms.iter().flatten().map(|histogram| histogram.len()).max().unwrap_or_default();
    let decades = (most.max(10) as f64).log10().min(DECADES_MAX);
    let line = |(n, cell): (usize, &SavedCell)| {
        let histogram = histograms[n].as_ref().filter(|histogram| !histogram.is_empty())?;
        let end = (histogram.len() as f64).log10().min(decades);
        let steps = (end * POINTS_PER_DECADE as f64).ceil().max(1.0) as usize;
        let point = |step: usize| {
            let place = end * step as f64 / steps as f64;
            (place / decades, histogram.value_at_quantile(1.0 - 10_f64.powf(-place)) as f64 / 1e6)
        };
        let points = (0..=steps).map(point).collect();
        Some(Line { name: cell.name(), shade: shade(n, saved.cells.len()), points, dots: false })
    };
    let lines: Vec<_> = saved.cells.iter().enumerate().filter_map(line).collect();
    let values: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value)).collect();
    let half = 2.0_f64.log10();
    let places =
        [(half, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (DECADES_MAX, "99.999 %")];
    let shown = places.into_iter().filter(|(at, _)| *at <= decades);
    let places: Vec<_> = shown.map(|(at, name)| (at / decades, name.to_owned())).collect();
    draw("Latency by percentile", &Axis::log(values.into_iter()), &places, &lines)
}

/// Cells side by side, as far apart as their number allows: loads grow by factors.
fn places(saved: &Saved) -> Vec<(f64, String)> {
    let of = saved.cells.len();
    let load =
        |cell: &SavedCell| cell.clients.map_or_else(|| cell.rate.unwrap_or_default().to_string(), |n| n.to_string());
    saved.cells.iter().enumerate().map(|(n, cell)| (shade(n, of), load(cell))).collect()
}

fn throughput(saved: &Saved) -> String {
    let of = saved.cells.len();
    let points: Vec<_> =
        saved.cells.iter().enumerate().map(|(n, cell)| (shade(n, of), cell.requests_per_second)).collect();
    let axis = Axis::linear(points.iter().map(|(_, value)| *value));
    let line = Line { name: "answers/s".into(), shade: 0.0, points, dots: true };
    draw("Good answers per second", &axis, &places(saved), &[line])
}

fn latencies(saved: &Saved) -> String {
    let of = saved.cells.len();
    let line = |name: &str, shade_of: f64, figure: fn(&Latency) -> f64| {
        let points = saved.cells.iter().enumerate();
        let points = points.filter_map(|(n, cell)| Some((shade(n, of), figure(cell.latency_ms.as_ref()?))));
        Line { name: name.into(), shade: shade_of, points: points.collect(), dots: true }
    };
    let lines = [line("p50", 0.0, |latency| latency.p50), line("p99", 1.0, |latency| latency.p99)];
    let values: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value)).collect();
    draw("p50 and p99", &Axis::log(values.into_iter()), &places(saved), &lines)
}

fn table(saved: &Saved, load: &str) -> String {
    let mut table = String::from("<h2>Figures</h2><div class=\"wide\"><table><tr>");
    let names = [load, "answers/s", "p50", "p90", "p95", "p99", "p99.9", "max", "requests", "errors"];
    names.iter().for_each(|name| table.push_str(&format!("<th>{}</th>", escape(name))));
    for cell in &saved.cells {
        let latency = cell.latency_ms.as_ref();
        let ms = |of: fn(&Latency) -> f64| latency.map_or("-".to_owned(), |latency| figure(of(latency)));
        let cells = [
            cell.name(),
            figure(cell.requests_per_second),
            ms(|l| l.p50),
            ms(|l| l.p90),
            ms(|l| l.p95),
            ms(|l| l.p99),
            ms(|l| l.p999),
            ms(|l| l.max),
            cell.requests.to_string(),
            cell.errors.to_string(),
        ];
        table.push_str("<tr>");
        cells.iter().for_each(|cell| table.push_str(&format!("<td>{}</td>", escape(cell))));
    }
    table.push_str("</table></div>");
    table
}
