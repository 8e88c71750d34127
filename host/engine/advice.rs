//! What follows from a model's figures: sentences for the operator who asks why it does not batch, or why callers wait.
//!
//! Pure: a list of rules, each a threshold with a reason and a text with numbers and a next step. Refuses to know where
//! figures come from, and to change anything: which way is better may depend on what only the operator knows.

use serde::Serialize;

use super::figures::Figures;

/// Below this many batches nothing is usual yet.
const FEW_BATCHES: usize = 8;
/// Where never more rows wait than this, no policy could have put more together than one or two.
const NOTHING_TO_CHOOSE_FROM: usize = 2;
/// A further row that costs this much of a first one: company saves a tenth, which is within what batches vary by.
const NO_GAIN_COST: f64 = 0.9;
/// A cause is named when it closed at least half of the batches.
const MOST_BATCHES: f64 = 0.5;
/// Beyond a quarter of the work, padding is worth a look: 1.33 times the time that the rows themselves need.
const MUCH_PADDING: f64 = 0.25;
/// Lanes that work nine tenths of the time have no reserve for two callers who come at once.
const BUSY_LANES: f64 = 0.9;
/// Lanes that work less than a tenth of the time are not what callers wait for.
const IDLE_LANES: f64 = 0.1;
/// Rows that wait longer than two batches take wait for a lane, not for the batch before theirs.
const LONG_WAIT_BATCHES: f64 = 2.0;
/// One tenant's share of the rows beyond which what happens here is its doing.
const ONE_TENANT: f64 = 0.9;
/// A profile is off when batches take half as long again as it says: the policy then lets too many rows in.
const SLOWER_THAN_PREDICTED: f64 = 1.5;
/// Below a millisecond, clocks and wake-ups are as large as what is measured.
const COMPARABLE_MS: f64 = 1.0;

/// What bounds a model's batches, as `model.toml` states it.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rows of a batch.
    pub max_batch_size: usize,
    /// Padded elements of a batch, where they are bounded.
    pub max_batch_elements: Option<u64>,
    /// Predicted time of a batch.
    pub max_batch_ms: f64,
    /// How long a free lane waits for company.
    pub max_queue_delay_ms: f64,
    /// Rows that may wait.
    pub max_queue_size: usize,
    /// How long a request may wait for a lane.
    pub queue_timeout_ms: f64,
    /// Lanes that take batches.
    pub lanes: usize,
}

/// One thing that follows from the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// For programs: which rule spoke.
    pub code: &'static str,
    /// What is so, with numbers.
    pub says: String,
    /// What to do about it, or why nothing.
    pub next: String,
}

type Rule = fn(&Figures, &Settings) -> Option<Advice>;

/// What hurts first comes first.
const RULES: [Rule; 13] = [
    ran_again,
    saturated,
    refused,
    slower_than_predicted,
    padding,
    delay,
    no_gain,
    closed_by_time,
    closed_by_elements,
    closed_by_rows,
    closed_for_neighbours,
    never_waits,
    one_tenant,
];

/// What follows from these figures; never nothing.
pub(super) fn advice(figures: &Figures, settings: &Settings) -> Vec<Advice> {
    if figures.batches == 0 {
        let next = "Invoke a function that is bound to it, then ask again: the last batches are kept.";
        return vec![new("no-batches", "no batch has run since this version came up.".into(), next)];
    }
    let mut advice: Vec<_> = RULES.iter().filter_map(|rule| rule(figures, settings)).collect();
    advice.extend(idle(figures, settings));
    if advice.is_empty() {
        let says = format!(
            "batches have {:.1} rows, callers wait {} (p95) and lanes are busy {}: nothing stands out.",
            figures.rows_mean,
            time(figures.queue_p95_ms),
            percent(figures.busy_share)
        );
        advice.push(new("fine", says, "Nothing is to be done."));
    }
    if figures.batches < FEW_BATCHES {
        let says = format!("these are only {} batches.", figures.batches);
        advice.push(new("few-batches", says, "Ask again under the load that you care about."));
    }
    advice
}

fn new(code: &'static str, says: String, next: impl Into<String>) -> Advice {
    Advice { code, says: capital(&says), next: next.into() }
}

fn ran_again(figures: &Figures, _: &Settings) -> Option<Advice> {
    let says = format!(
        "batches threw, and rows were run again in parts {} times among the last {} batches.",
        figures.repeated_runs, figures.batches
    );
    let next = "The log says what the model threw (`rows failed`) and for which request. Rows that it cannot take \
                should be kept out by a range or a maximum in model.toml; out of memory, lower max_batch_elements.";
    (figures.repeated_runs > 0).then(|| new("ran-again", says, next))
}

fn saturated(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let waits = figures.queue_p95_ms > LONG_WAIT_BATCHES * figures.instance_mean_ms;
    let says = format!(
        "rows wait {} (p95) while {} busy {}: the model is saturated.",
        time(figures.queue_p95_ms),
        lanes(settings),
        percent(figures.busy_share)
    );
    let next = if gains(figures) && !settings.is_full(figures) {
        "Further lanes help only where cores are free (instances.count). Otherwise: larger batches (what closes them \
         is below), shorter rows, or another host."
    } else {
        "Batches are as large as they help to be. Further lanes help only where cores are free (instances.count); \
         otherwise shorter rows, fewer of them, or another host."
    };
    (figures.busy_share >= BUSY_LANES && waits).then(|| new("saturated", says, next))
}

fn refused(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says = format!(
        "{} requests were refused with `queue-full` meanwhile: {} rows may wait.",
        figures.refused, settings.max_queue_size
    );
    let next = if figures.busy_share < BUSY_LANES {
        "The lanes had time left, so these are bursts: a larger max_queue_size takes them in."
    } else {
        "A larger max_queue_size would only let callers wait longer; clients should heed `Retry-After`."
    };
    (figures.refused > 0).then(|| new("refused", says, next))
}

fn slower_than_predicted(figures: &Figures, _: &Settings) -> Option<Advice> {
    let ratio = figures.instance_mean_ms / figures.predicted_mean_ms.max(COMPARABLE_MS);
    let comparable = figures.predicted_mean_ms >= COMPARABLE_MS;
    let says = format!(
        "batches take {} where the profile says {} ({ratio:.1} times as long).",
        time(figures.instance_mean_ms),
        time(figures.predicted_mean_ms)
    );
    let next = "It was measured on a quieter machine: lanes and guests share its cores. If that lasts, fewer lanes \
                (instances.count) run faster each; if the machine has changed, remove data/profiles and restart.";
    (comparable && ratio >= SLOWER_THAN_PREDICTED).then(|| new("slower-than-predicted", says, next))
}

fn padding(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says =
        format!("{} of the work is padding: rows that share a batch differ in length.", percent(figures.padding_share));
    let lower = match settings.max_batch_elements {
        Some(elements) => format!("lower max_batch_elements ({elements})"),
        None => "set max_batch_elements".into(),
    };
    let next = format!("Send rows of similar length together, or {lower}, so that long rows go with fewer others.");
    (figures.padding_share >= MUCH_PADDING).then(|| new("padding", says, next))
}

fn delay(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says = format!(
        "{} of the batches were closed by max_queue_delay_ms and {} had one row: each of those callers waited {} for \
         nobody.",
        percent(figures.closed("deadline")),
        percent(figures.alone_share),
        time(settings.max_queue_delay_ms)
    );
    let next = "Set max_queue_delay_ms = 0: batches still form under load, while lanes are busy.";
    let alone = figures.closed("deadline") >= MOST_BATCHES && figures.alone_share >= MOST_BATCHES;
    (alone && settings.max_queue_delay_ms > 0.0).then(|| new("delay", says, next))
}

/// Whether a further row is worth having in a batch.
fn gains(figures: &Figures) -> bool {
    figures.further_row_cost.is_none_or(|cost| cost < NO_GAIN_COST)
}

fn no_gain(figures: &Figures, _: &Settings) -> Option<Advice> {
    let cost = figures.further_row_cost.filter(|cost| *cost >= NO_GAIN_COST)?;
    let says = format!(
        "batches bring next to nothing on this device: at the usual length a further row costs {cost:.2} of a first one."
    );
    let next = "Small batches are right here: they let callers go sooner at the same throughput. Further lanes use \
                further cores.";
    Some(new("no-gain", says, next))
}

fn closed_by_time(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says = format!(
        "{} of the batches are closed at a predicted {} (max_batch_ms), with {:.1} rows.",
        percent(figures.closed("time")),
        time(settings.max_batch_ms),
        figures.rows_mean
    );
    let next = "If callers can wait longer, raise max_batch_ms; each batch then holds its lane for as long.";
    (gains(figures) && figures.closed("time") >= MOST_BATCHES).then(|| new("closed-by-time", says, next))
}

fn closed_by_elements(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let most = settings.max_batch_elements?;
    let says = format!(
        "{} of the batches are closed because one more row would pad them beyond {most} elements \
         (max_batch_elements), with {:.1} rows.",
        percent(figures.closed("elements")),
        figures.rows_mean
    );
    let next = "If the device has memory for it, raise max_batch_elements; shorter rows do the same.";
    (gains(figures) && figures.closed("elements") >= MOST_BATCHES).then(|| new("closed-by-elements", says, next))
}

fn closed_by_rows(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says = format!(
        "{} of the batches are full (max_batch_size = {}), and {:.0} rows wait when one is formed.",
        percent(figures.closed("full")),
        settings.max_batch_size,
        figures.waiting_mean
    );
    let next = match figures.further_row_cost {
        Some(cost) => format!("A further row costs {cost:.2} of a first one: raise max_batch_size."),
        None => "Raise max_batch_size if the device has memory for it.".into(),
    };
    let more_wait = figures.waiting_mean > settings.max_batch_size as f64;
    (gains(figures) && more_wait && settings.is_full(figures)).then(|| new("closed-by-rows", says, next))
}

fn closed_for_neighbours(figures: &Figures, _: &Settings) -> Option<Advice> {
    let says = format!(
        "{} of the batches ended early, with {:.1} rows, because their tenants ask for much while another asks for little.",
        percent(figures.closed("neighbour")),
        figures.rows_mean
    );
    let next = "That keeps the other one's waits short, and a row costs up to a third more. If the other one can wait, let \
                it send `x-tenon-priority: batch`: then nobody's batches end for its sake.";
    (figures.closed("neighbour") >= MOST_BATCHES).then(|| new("closed-for-neighbours", says, next))
}

fn never_waits(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let rows = if figures.waiting_most == 1 { "row waits" } else { "rows wait" };
    let says =
        format!("never more than {} {rows} when a batch is formed: batching cannot help here.", figures.waiting_most);
    let next = if settings.lanes > 1 && figures.busy_share > IDLE_LANES {
        format!(
            "{} lanes take rows as they come. Fewer (instances.count) would let rows meet, and so would more callers at \
             once.",
            settings.lanes
        )
    } else {
        "Rows meet when more callers are there at once than lanes are free; until then each is served at once, which \
         is the fastest there is."
            .to_owned()
    };
    (figures.waiting_most <= NOTHING_TO_CHOOSE_FROM).then(|| new("never-waits", says, next))
}

fn one_tenant(figures: &Figures, _: &Settings) -> Option<Advice> {
    let tenant = figures.top_tenant.as_deref()?;
    let says = format!(
        "one of {} tenants, `{tenant}`, brings {} of the rows.",
        figures.tenants,
        percent(figures.top_tenant_share)
    );
    let next = "What this model does is mostly its doing: ask it first, if that is more than it should be.";
    (figures.tenants > 1 && figures.top_tenant_share >= ONE_TENANT).then(|| new("one-tenant", says, next))
}

fn idle(figures: &Figures, settings: &Settings) -> Option<Advice> {
    let says = format!("{} idle {} of the time.", lanes(settings), percent(1.0 - figures.busy_share));
    let next = "If callers wait, it is not for this model: `server-timing` of an answer and tenon_stage_duration_seconds \
                say for what.";
    (figures.busy_share <= IDLE_LANES && figures.batches >= FEW_BATCHES).then(|| new("idle", says, next))
}

impl Settings {
    fn is_full(&self, figures: &Figures) -> bool {
        figures.closed("full") >= MOST_BATCHES
    }
}

fn lanes(settings: &Settings) -> String {
    match settings.lanes {
        1 => "the lane is".into(),
        lanes => format!("the {lanes} lanes are"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.0} s", ms / 1e3),
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1e3),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests;
