//! `tenon tenants`: who there is on a host, what each may use, and changes of that, for operators.
//!
//! It shows and changes settings one by one; the host is given them whole and decides. `settings` reads the flags.

mod settings;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Host, Question};
use crate::control::{Control, ControlFlags, delete, put};
use crate::failure::{Failure, Stop, printable};
use crate::output::{self, MISSING, cell, size};
use crate::problem::failure_of;
use crate::target::parse_tenant;
use settings::SettingFlags;

/// Flags of `tenon tenants`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  tenon tenants\n  tenon tenants show acme\n  \
    tenon tenants set acme --models minilm,detector --memory 512MiB --concurrency 32\n  tenon tenants remove acme")]
pub(crate) struct TenantsFlags {
    #[command(flatten)]
    list: CallFlags,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List all tenants
    List(CallFlags),
    /// Show what a tenant may use, and uses
    Show(OneFlags),
    /// Make a tenant, or change its settings; what no flag names stays as it is
    Set(Box<SetFlags>),
    /// Remove a tenant that has no functions, with its keys
    Remove(OneFlags),
}

/// Whom to ask, and how to print.
#[derive(Args, Debug)]
struct CallFlags {
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct OneFlags {
    /// The tenant
    #[arg(value_parser = parse_tenant)]
    tenant: String,
    #[command(flatten)]
    call: CallFlags,
}

#[derive(Args, Debug)]
struct SetFlags {
    #[command(flatten)]
    one: OneFlags,
    #[command(flatten)]
    settings: SettingFlags,
    /// A sentence for the host's history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

const EMPTY: &str = "no tenants: `tenon tenants set NAME` makes one";

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &TenantsFlags) -> Result<(), Stop> {
    match &flags.action {
        None => list(host, &flags.list),
        Some(Action::List(call)) => list(host, call),
        Some(Action::Show(one)) => {
            let tenant = one.control(host)?.get(&path(&one.tenant))?;
            show(&tenant, one.call.json)
        }
        Some(Action::Set(flags)) => set(host, flags),
        Some(Action::Remove(one)) => {
            one.control(host)?.ask(delete(&path(&one.tenant)))?;
            if one.call.json {
                return Ok(output::json(&json!({ "tenant": one.tenant, "removed": true }))?);
            }
            Ok(output::line(&format!("{} is gone", one.tenant))?)
        }
    }
}

fn path(tenant: &str) -> String {
    format!("/admin/v1/tenants/{tenant}")
}

impl OneFlags {
    fn control(&self, host: &Host) -> Result<Control, Failure> {
        self.call.control.open_with_key(host)
    }
}

fn list(host: &Host, flags: &CallFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let document = control.get("/admin/v1/tenants")?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    let tenants = output::list(&document, "tenants", control.base())?;
    if tenants.is_empty() {
        return Ok(output::line(EMPTY)?);
    }
    let rows: Vec<_> = tenants.iter().map(row).collect();
    Ok(output::line(&output::table(&["tenant", "weight", "models", "functions", "stored", "keys", "limits"], &rows))?)
}

fn row(tenant: &Value) -> Vec<String> {
    let limits = settings::limits(&tenant["settings"]);
    let limits: Vec<_> = limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let exclusive = if tenant["settings"]["exclusive"] == true { ", exclusive" } else { "" };
    vec![
        cell(tenant, "tenant"),
        format!("{}{exclusive}", cell(&tenant["settings"], "weight")),
        settings::models(&tenant["settings"]),
        cell(tenant, "functions"),
        stored(tenant),
        cell(tenant, "keys"),
        if limits.is_empty() { MISSING.to_owned() } else { limits.join("\n") },
    ]
}

fn stored(tenant: &Value) -> String {
    tenant["stored_bytes"].as_u64().map_or_else(|| MISSING.to_owned(), size)
}

fn show(tenant: &Value, json: bool) -> Result<(), Stop> {
    if json {
        return Ok(output::json(tenant)?);
    }
    Ok(output::line(&printable(&text(tenant)))?)
}

/// One fact to a line.
fn text(tenant: &Value) -> String {
    let settings = &tenant["settings"];
    let exclusive = if settings["exclusive"] == true { "yes: no batch with others" } else { "no" };
    let mut facts = vec![
        ("weight", cell(settings, "weight")),
        ("exclusive", exclusive.to_owned()),
        ("models", settings::models(settings)),
    ];
    facts.extend(settings::limits(settings));
    facts.extend([
        ("has functions", cell(tenant, "functions")),
        ("has stored", stored(tenant)),
        ("has keys", cell(tenant, "keys")),
    ]);
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = facts.iter().map(|(name, value)| format!("  {name:width$}  {value}")).collect();
    format!("{}\n{}", cell(tenant, "tenant"), lines.join("\n"))
}

/// Changes what is there; a tenant that is not there begins with the host's defaults.
fn set(host: &Host, flags: &SetFlags) -> Result<(), Stop> {
    let control = flags.one.control(host)?;
    let path = path(&flags.one.tenant);
    let (answer, refused) = control.try_ask(Question::get(&path))?;
    let mut settings = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(mut tenant) if answer.status.is_success() => tenant["settings"].take(),
        Ok(problem) if problem["code"] == "tenant-not-found" => json!({}),
        _ => return Err(refused.unwrap_or_else(|| failure_of(&answer)).into()),
    };
    flags.settings.apply(&mut settings);
    let mut order = json!({ "settings": settings });
    if let Some(why) = &flags.why {
        order["why"] = why.as_str().into();
    }
    show(&control.json(put(&path, &order))?, flags.one.call.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_told_fact_by_fact() {
        let tenant = json!({ "tenant": "acme", "functions": 2, "stored_bytes": 3 << 20, "keys": 1,
            "settings": { "weight": 2.5, "exclusive": true, "models": ["minilm"], "limits": { "memory_bytes": 512 << 20 } } });
        let expected = "acme\n  weight         2.5\n  exclusive      yes: no batch with others\n  models         minilm\n  \
            memory         512.0 MiB\n  has functions  2\n  has stored     3.0 MiB\n  has keys       1";
        assert_eq!(text(&tenant), expected);
        assert_eq!(row(&tenant), ["acme", "2.5, exclusive", "minilm", "2", "3.0 MiB", "1", "memory 512.0 MiB"]);
    }
}
