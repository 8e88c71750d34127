//! A tenant's settings as flags: each changes one member of the host's document, `none` takes a limit away.
//!
//! It knows names and units, and leaves to the host which values make sense together.

use clap::Args;
use serde_json::{Value, json};

use crate::output::{cell, size};

/// Models that are named for one tenant.
const MODELS_MAX: usize = 1000;

/// Settings to be changed.
#[derive(Args, Debug, Default)]
pub(super) struct SettingFlags {
    /// Its share of instances and processor against the others' weights
    #[arg(long, value_name = "N", value_parser = number)]
    weight: Option<Number>,
    /// Whether its rows never share a batch with another tenant's
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exclusive: Option<bool>,
    /// Models that it may use, or `all`
    #[arg(long, value_name = "A,B|all", value_parser = parse_models)]
    models: Option<Models>,
    /// Requests per second, on each host; this and what follows can be `none`, for no limit of the tenant's own
    #[arg(long, value_name = "N", value_parser = number)]
    requests_per_second: Option<Number>,
    /// Requests that may come at once before the rate holds
    #[arg(long, value_name = "N", value_parser = whole)]
    burst: Option<Number>,
    /// Requests in flight
    #[arg(long, value_name = "N", value_parser = whole)]
    concurrency: Option<Number>,
    /// Rows with models, waiting or computed
    #[arg(long, value_name = "N", value_parser = whole)]
    rows_in_flight: Option<Number>,
    /// Memory of its invocations, such as 512MiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<Number>,
    /// Processor, in cores
    #[arg(long, value_name = "CORES", value_parser = number)]
    cpu: Option<Number>,
    /// The largest request, such as 4MiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    body: Option<Number>,
    /// Functions that it may have
    #[arg(long, value_name = "N", value_parser = whole)]
    functions: Option<Number>,
    /// Bytes of its components in the store, such as 1GiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    stored: Option<Number>,
    /// Bytes remembered for it in each host's memory, and as much in Redis, such as 256MiB; 0: nothing
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    cache: Option<Number>,
}

/// A number for the host, or null to take a limit away.
#[derive(Clone, Debug, PartialEq)]
struct Number(Value);

/// The models' list, or null for all.
#[derive(Clone, Debug, PartialEq)]
struct Models(Value);

/// Names in the host's document, and as people see them.
const LIMITS: [(&str, &str); 10] = [
    ("requests_per_second", "requests per second"),
    ("burst", "burst"),
    ("concurrency", "concurrency"),
    ("rows_in_flight", "rows in flight"),
    ("memory_bytes", "memory"),
    ("cpu_seconds_per_second", "cpu"),
    ("body_bytes", "body"),
    ("functions", "functions"),
    ("stored_bytes", "stored"),
    ("cache_bytes", "remembered"),
];

impl SettingFlags {
    /// Changes what was named.
    pub(super) fn apply(&self, settings: &mut Value) {
        if !settings.is_object() {
            *settings = json!({});
        }
        if let Some(Number(weight)) = &self.weight {
            settings["weight"] = weight.clone();
        }
        if let Some(exclusive) = self.exclusive {
            settings["exclusive"] = exclusive.into();
        }
        if let Some(Models(models)) = &self.models {
            put(settings, "models", models);
        }
        let given = [
            &self.requests_per_second,
            &self.burst,
            &self.concurrency,
            &self.rows_in_flight,
            &self.memory,
            &self.cpu,
            &self.body,
            &self.functions,
            &self.stored,
            &self.cache,
        ];
        for (value, (name, _)) in given.into_iter().zip(LIMITS) {
            if let Some(Number(value)) = value {
                if !settings["limits"].is_object() {
                    settings["limits"] = json!({});
                }
                put(&mut settings["limits"], name, value);
            }
        }
    }
}

fn put(object: &mut Value, name: &str, value: &Value) {
    if let Some(members) = object.as_object_mut() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), value.clone());
        }
    }
}

/// The limits that are set.
pub(super) fn limits(settings: &Value) -> Vec<(&'static str, String)> {
    let limits = &settings["limits"];
    let set = LIMITS.iter().filter(|(name, _)| !limits[*name].is_null());
    set.map(|(name, shown)| {
        let value = match limits[*name].as_u64() {
            Some(bytes) if name.ends_with("_bytes") => size(bytes),
            _ if *name == "cpu_seconds_per_second" => format!("{} cores", cell(limits, name)),
            _ => cell(limits, name),
        };
        (*shown, value)
    })
    .collect()
}

/// The models that may be used.
pub(super) fn models(settings: &Value) -> String {
    match settings["models"].as_array() {
        None => "all".to_owned(),
        Some(models) if models.is_empty() => "none".to_owned(),
        Some(models) => models.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn number(text: &str) -> Result<Number, String> {
    unless_none(text, || {
        let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
        if !number.is_finite() || number <= 0.0 {
            return Err("must be more than nothing".to_owned());
        }
        // A whole number stays one in JSON.
        Ok(text.parse::<u64>().map_or_else(|_| json!(number), |whole| json!(whole)))
    })
}

fn whole(text: &str) -> Result<Number, String> {
    unless_none(text, || text.parse::<u64>().map(Value::from).map_err(|_| format!("`{text}` is not a whole number")))
}

/// `512MiB`, `4 MB`, `1024`.
fn bytes(text: &str) -> Result<Number, String> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("b", 1),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
    ];
    unless_none(text, || {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit = unit.trim().to_ascii_lowercase();
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let number: Option<u64> = digits.parse().ok();
        let bytes = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        bytes.map(Value::from).ok_or_else(|| format!("`{text}` is no size; write 512MiB, or a number of bytes"))
    })
}

fn unless_none(text: &str, read: impl FnOnce() -> Result<Value, String>) -> Result<Number, String> {
    if text == "none" { Ok(Number(Value::Null)) } else { read().map(Number) }
}

fn parse_models(text: &str) -> Result<Models, String> {
    match text {
        "all" => return Ok(Models(Value::Null)),
        "none" => return Ok(Models(json!([]))),
        _ => {}
    }
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    if names.len() > MODELS_MAX || names.iter().any(|name| name.is_empty()) {
        return Err("write the models' names with commas between, or all, or none".to_owned());
    }
    Ok(Models(json!(names)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: SettingFlags,
    }

    #[test]
    fn flags_change_what_they_name_and_nothing_else() {
        let mut settings = json!({ "weight": 1.0, "colour": "new", "models": ["a"],
            "limits": { "burst": 5, "body_bytes": 7, "new_limit": 3 } });
        let given = "x --weight 2 --exclusive --models all --memory 512MiB --cpu 1.5 --burst none --concurrency 32";
        Line::parse_from(given.split(' ')).flags.apply(&mut settings);
        let expected = json!({ "weight": 2, "exclusive": true, "colour": "new", "limits": { "memory_bytes": 536_870_912,
            "cpu_seconds_per_second": 1.5, "concurrency": 32, "body_bytes": 7, "new_limit": 3 } });
        assert_eq!(settings, expected);
        let mut new = json!({});
        Line::parse_from(["x", "--models", "a,b", "--exclusive=false"]).flags.apply(&mut new);
        assert_eq!(new, json!({ "models": ["a", "b"], "exclusive": false }));
    }

    #[test]
    fn values_are_checked() {
        for (text, expected) in [("1024", 1024), ("4 MB", 4_000_000), ("1gib", 1 << 30), ("8B", 8)] {
            assert_eq!(bytes(text), Ok(Number(json!(expected))), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1TiB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(number("0").is_err() && number("nan").is_err() && number("-1").is_err() && whole("1.5").is_err());
        assert!(parse_models("a,,b").is_err() && parse_models("").is_err());
    }
}
