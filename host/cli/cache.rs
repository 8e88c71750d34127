//! `tenon cache`: what a host remembers and what came of it, and making it void.
//!
//! It shows the host's figures and adds none of its own; it does not know what is remembered, nor who else hears of an
//! order.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::client::Host;
use crate::control::{ControlFlags, post};
use crate::failure::{Stop, printable};
use crate::output::{self, MISSING, cell, size};
use crate::target::{Name, parse_tenant};
use crate::times::instant;

/// Flags of `tenon cache`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tenon cache stats\n  tenon cache stats --tenant acme --json\n  \
    tenon cache invalidate --tenant acme --function rerank\n  tenon cache invalidate --tenant acme --tag prices --tag de\n  \
    tenon cache invalidate --model minilm@3")]
pub(crate) struct CacheFlags {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show what is remembered on this host and what came of it since its start
    Stats(StatsFlags),
    /// Make answers and rows void that were remembered until now, on all hosts that share a Redis
    Invalidate(InvalidateFlags),
}

#[derive(Args, Debug)]
struct StatsFlags {
    /// The functions of this tenant alone
    #[arg(long, value_parser = parse_tenant)]
    tenant: Option<String>,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["everything", "tenant", "model"])))]
struct InvalidateFlags {
    /// All that is remembered of all tenants
    #[arg(long)]
    everything: bool,
    /// What is remembered of this tenant
    #[arg(long, value_parser = parse_tenant)]
    tenant: Option<String>,
    /// Of the tenant's, what came of requests to this function
    #[arg(long, value_parser = parse_function, requires = "tenant", conflicts_with = "tag")]
    function: Option<String>,
    /// Of the tenant's, answers with this tag; may be repeated, for answers with one of them
    #[arg(long, value_name = "TAG", requires = "tenant")]
    tag: Vec<String>,
    /// What depends on this model, of all tenants, or on one version of it
    #[arg(long, value_name = "MODEL[@VERSION]", value_parser = parse_model)]
    model: Option<Model>,
}

/// A model, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    name: String,
    version: Option<u64>,
}

/// A function's name, whose tenant is named beside it.
fn parse_function(text: &str) -> Result<String, String> {
    let named = Name::parse(&format!("tenant/{text}")).map(|name| name.function);
    named.map_err(|_| format!("`{text}` is not the name of a function; `tenon functions` lists them"))
}

fn parse_model(text: &str) -> Result<Model, String> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => {
            let number = version.parse().map_err(|_| format!("version `{version}` is not a number; write {name}@3"))?;
            (name, Some(number))
        }
        None => (text, None),
    };
    if name.is_empty() {
        return Err("the model is empty; `tenon models` lists them".to_owned());
    }
    Ok(Model { name: name.to_owned(), version })
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &CacheFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    match &flags.action {
        Action::Stats(StatsFlags { tenant }) => {
            let query = tenant.as_ref().map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
            let stats = control.get(&format!("/admin/v1/cache/stats{query}"))?;
            if flags.json {
                return Ok(output::json(&stats)?);
            }
            show(&stats, control.base())
        }
        Action::Invalidate(what) => {
            let done = control.json(post("/admin/v1/cache/invalidate", &what.order()))?;
            if flags.json {
                return Ok(output::json(&done)?);
            }
            output::line(&printable(&outcome(&what.subject(), &done)))?;
            if done["redis"] == "down" {
                output::warning("Redis did not take it: hosts that share it give what they have until it is back");
            }
            Ok(())
        }
    }
}

impl InvalidateFlags {
    fn order(&self) -> Value {
        let Self { everything, tenant, function, tag, model } = self;
        match (tenant, model) {
            (Some(tenant), _) => match (function, &tag[..]) {
                (Some(function), _) => json!({ "tenant": tenant, "function": function }),
                (None, []) => json!({ "tenant": tenant }),
                (None, [tag]) => json!({ "tenant": tenant, "tag": tag }),
                (None, tags) => json!({ "tenant": tenant, "tags": tags }),
            },
            (None, Some(Model { name, version: None })) => json!({ "model": name }),
            (None, Some(Model { name, version: Some(version) })) => json!({ "model": name, "version": version }),
            (None, None) => json!({ "everything": everything }),
        }
    }

    /// What is void, as a person says it.
    fn subject(&self) -> String {
        let Self { tenant, function, tag, model, .. } = self;
        match (tenant, model) {
            (Some(tenant), _) => match (function, &tag[..]) {
                (Some(function), _) => format!("what was remembered of {tenant}/{function}"),
                (None, []) => format!("what was remembered of {tenant}"),
                (None, tags) => format!("what {tenant} tagged {}", tags.join(" or ")),
            },
            (None, Some(Model { name, version: None })) => format!("what came of {name}"),
            (None, Some(Model { name, version: Some(version) })) => format!("what came of {name}@{version}"),
            (None, None) => "all that was remembered".to_owned(),
        }
    }
}

fn outcome(subject: &str, done: &Value) -> String {
    let (is_void, number) = (format!("{subject} is void"), cell(done, "seq"));
    match done["redis"].as_str() {
        _ if done["everywhere"] == true => format!("{is_void} on all hosts that share this Redis (number {number})"),
        Some("none") => format!("{is_void} on this host, which shares nothing with others: it has no Redis"),
        _ => format!("{is_void} on this host, and on others when Redis is back"),
    }
}

fn show(stats: &Value, base: &str) -> Result<(), Stop> {
    // One tenant's are without what concerns the host.
    if stats["memory"].is_object() {
        let tiers: Vec<_> = ["memory", "redis"].map(|name| tier(name, &stats[name])).into();
        output::line(&output::table(&["tier", "hits", "misses", "stale", "errors", "hit rate", "holds"], &tiers))?;
        output::line("")?;
    }
    let functions = output::list(stats, "functions", base)?;
    if functions.is_empty() {
        output::line(
            "no function has asked yet: [cache] in function.toml, or the plugin's policy, says what may be known",
        )?;
    } else {
        let rows: Vec<_> = functions.iter().map(function).collect();
        output::line(&output::table(&FUNCTION_HEADER, &rows))?;
    }
    for line in state(stats) {
        output::line(&printable(&line))?;
    }
    Ok(())
}

const FUNCTION_HEADER: [&str; 10] =
    ["function", "lookups", "memory", "redis", "stale", "coalesced", "bypassed", "hit rate", "rows known", "saved"];

fn tier(name: &str, tier: &Value) -> Vec<String> {
    if tier["state"] == "none" || tier["limit_bytes"] == 0 {
        return [name].into_iter().chain([MISSING; 5]).chain(["none"]).map(str::to_owned).collect();
    }
    let entries = tier["entries"].as_u64().map(|entries| format!(" in {entries}")).unwrap_or_default();
    let counts = ["hits", "misses", "stale", "errors"].map(|of| cell(tier, of));
    let holds = tier["bytes"].as_u64().map_or_else(|| MISSING.to_owned(), |bytes| size(bytes) + &entries);
    [name.to_owned()].into_iter().chain(counts).chain([rate(tier), holds]).collect()
}

fn function(function: &Value) -> Vec<String> {
    let known = match (function["rows_known"].as_u64(), function["rows_asked"].as_u64()) {
        (Some(known), Some(asked)) if asked > 0 => format!("{known} of {asked}"),
        _ => MISSING.to_owned(),
    };
    let counts =
        ["lookups", "memory_hits", "redis_hits", "stale", "coalesced", "bypassed"].map(|of| cell(function, of));
    let name = format!("{}/{}", cell(function, "tenant"), cell(function, "function"));
    let saved = function["saved_us"].as_f64().map_or_else(|| MISSING.to_owned(), |us| seconds(us / 1e6));
    [name].into_iter().chain(counts).chain([rate(function), known, saved]).collect()
}

fn rate(of: &Value) -> String {
    of["hit_ratio"].as_f64().map_or_else(|| MISSING.to_owned(), |ratio| format!("{:.0} %", 100.0 * ratio))
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// What there is to say below the tables.
fn state(stats: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(saved) = stats["saved_s"].as_f64() {
        lines.push(format!("\n{} on models were saved", seconds(saved)));
    }
    let redis = &stats["redis"];
    match redis["state"].as_str() {
        Some("none") => lines.push("no Redis is configured: memory alone, of this host alone".to_owned()),
        Some("up") => lines.push(format!("Redis answers; {} writes wait", cell(&redis["dealings"], "queue_entries"))),
        Some("down") => lines.push(format!(
            "Redis is down since {} ({}): what is asked of it is a miss",
            instant(&redis["since_ms"]),
            cell(redis, "reason")
        )),
        _ => {}
    }
    if let Some(why) = redis["dealings"]["writes_rest"].as_str() {
        lines.push(format!("nothing is written to Redis for now: {why}"));
    }
    let reasons = [
        ("too_large", "too large"),
        ("quota", "beyond a tenant's quota"),
        ("queue", "Redis did not keep up"),
        ("void", "void before they were kept"),
    ];
    let dropped = reasons.iter().filter_map(|(name, shown)| {
        let count = stats["dropped"][*name].as_u64().filter(|count| *count > 0)?;
        Some(format!("{count} {shown}"))
    });
    let dropped: Vec<_> = dropped.collect();
    if !dropped.is_empty() {
        lines.push(format!("not kept: {}", dropped.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: InvalidateFlags,
    }

    fn read(line: &str) -> Result<InvalidateFlags, clap::Error> {
        let words = ["x"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
        Line::try_parse_from(words).map(|line| line.flags)
    }

    #[test]
    fn flags_become_an_order_with_one_meaning() {
        for (line, order, subject) in [
            ("--everything", json!({ "everything": true }), "all that was remembered"),
            ("--tenant a", json!({ "tenant": "a" }), "what was remembered of a"),
            ("--tenant a --function f", json!({ "tenant": "a", "function": "f" }), "what was remembered of a/f"),
            ("--tenant a --tag x", json!({ "tenant": "a", "tag": "x" }), "what a tagged x"),
            ("--tenant a --tag x --tag y", json!({ "tenant": "a", "tags": ["x", "y"] }), "what a tagged x or y"),
            ("--model m", json!({ "model": "m" }), "what came of m"),
            ("--model m@3", json!({ "model": "m", "version": 3 }), "what came of m@3"),
        ] {
            let flags = read(line).unwrap();
            assert_eq!((flags.order(), &flags.subject()[..]), (order, subject), "{line}");
        }
        for wrong in [
            "",
            "--function f",
            "--tag x",
            "--everything --tenant a",
            "--tenant a --model m",
            "--tenant a --function f --tag x",
            "--tenant a/f",
            "--tenant a --function f/g",
            "--model m@serving",
            "--model @3",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_outcome_says_where_it_holds() {
        let say = |redis: &str, everywhere: bool| {
            outcome("what came of m", &json!({ "seq": 7, "everywhere": everywhere, "scopes": 1, "redis": redis }))
        };
        assert_eq!(say("up", true), "what came of m is void on all hosts that share this Redis (number 7)");
        assert!(say("none", false).ends_with("it has no Redis") && say("down", false).ends_with("when Redis is back"));
    }

    #[test]
    fn figures_become_rows_and_what_is_missing_stays_so() {
        let memory = json!({ "hits": 6, "misses": 3, "stale": 1, "errors": 0, "hit_ratio": 0.7, "bytes": 2048,
            "entries": 2, "limit_bytes": 4096 });
        assert_eq!(tier("memory", &memory), ["memory", "6", "3", "1", "0", "70 %", "2.0 KiB in 2"]);
        assert_eq!(tier("redis", &json!({ "state": "none" })), ["redis", "-", "-", "-", "-", "-", "none"]);
        let one = json!({ "tenant": "a", "function": "f", "lookups": 4, "memory_hits": 2, "redis_hits": 0, "stale": 0,
            "coalesced": 1, "bypassed": 5, "hit_ratio": 0.75, "rows_asked": 10, "rows_known": 8, "saved_us": 1_250_000 });
        assert_eq!(function(&one), ["a/f", "4", "2", "0", "0", "1", "5", "75 %", "8 of 10", "1.2 s"]);
        assert_eq!(function(&json!({}))[1..], ["-"; 9]);
        let told = json!({ "saved_s": 2, "dropped": { "quota": 3, "void": 0 },
            "redis": { "state": "down", "since_ms": 1_784_980_803_123_u64, "reason": "refused" } });
        let expected = [
            "\n2.0 s on models were saved",
            "Redis is down since 2026-07-25T12:00:03Z (refused): what is asked of it is a miss",
            "not kept: 3 beyond a tenant's quota",
        ];
        assert_eq!(state(&told), expected);
    }
}
