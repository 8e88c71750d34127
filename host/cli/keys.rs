//! `tenon keys`: the keys of a tenant, or of operators: listed, made, replaced, ended.
//!
//! A key is shown once, by the command that makes it, and kept nowhere: on standard output alone, so that it can go
//! straight to where secrets are kept, with everything else beside it.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::client::{Host, Question};
use crate::control::{Control, ControlFlags, delete, post};
use crate::failure::{Exit, Failure, Stop, printable};
use crate::output::{self, MISSING, cell};
use crate::target::{encode_value, parse_tenant};
use crate::times::{self, instant};

/// Flags of `tenon keys`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tenon keys acme\n  tenon keys acme create --name ci --scope deploy --expires 90d > ci.key\n  \
    tenon keys acme rotate 7f3a --grace 1h\n  tenon keys --operator create --name night-shift"
)]
pub(crate) struct KeysFlags {
    /// The tenant whose keys they are
    #[arg(value_parser = parse_tenant, required_unless_present = "operator", conflicts_with = "operator")]
    tenant: Option<String>,
    /// Operators' keys instead of a tenant's
    #[arg(long)]
    operator: bool,
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    control: ControlFlags,
    /// Print the host's JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the keys, without what is secret of them
    List,
    /// Make a key and print it, this once
    Create(CreateFlags),
    /// Make a key in place of another one
    Rotate(RotateFlags),
    /// End a key at once
    Revoke(KeyFlags),
}

#[derive(Args, Debug)]
struct CreateFlags {
    /// Whose or what it is for, for people
    #[arg(long)]
    name: String,
    /// What it may: invoke, deploy, admin (manages keys); may be repeated [default: invoke; of operators: admin]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<String>,
    /// It ends after this time, such as 90d
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    expires: Option<Duration>,
    /// A sentence for the host's history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

#[derive(Args, Debug)]
struct RotateFlags {
    #[command(flatten)]
    key: KeyFlags,
    /// The old key goes on working for this time, such as 1h [default: it ends at once]
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    grace: Option<Duration>,
}

#[derive(Args, Debug)]
struct KeyFlags {
    /// The key's id, as the list has it
    #[arg(value_name = "ID")]
    id: String,
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &KeysFlags) -> Result<(), Stop> {
    let control = flags.control.open_with_key(host)?;
    let path = flags.path();
    match &flags.action {
        None | Some(Action::List) => list(&control, flags),
        Some(Action::Create(create)) => made(&control, flags, post(&path, &create.order(flags.operator))),
        Some(Action::Rotate(rotate)) => {
            let order = json!({ "grace_s": rotate.grace.map_or(0, |grace| grace.as_secs()) });
            made(&control, flags, post(&format!("{}/rotate", rotate.key.path(&path)?), &order))
        }
        Some(Action::Revoke(key)) => {
            control.ask(delete(&key.path(&path)?))?;
            if flags.json {
                return Ok(output::json(&json!({ "id": key.id, "revoked": true }))?);
            }
            Ok(output::line(&printable(&format!("key {} has ended", key.id)))?)
        }
    }
}

impl KeysFlags {
    fn path(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("/admin/v1/tenants/{tenant}/keys"),
            None => "/admin/v1/keys".to_owned(),
        }
    }

    fn owner(&self) -> &str {
        self.tenant.as_deref().unwrap_or("operators")
    }
}

impl CreateFlags {
    fn order(&self, operator: bool) -> Value {
        let default = if operator { "admin" } else { "invoke" };
        let scopes = if self.scope.is_empty() { json!([default]) } else { json!(self.scope) };
        let mut order = json!({ "name": self.name, "scopes": scopes });
        if let Some(expires) = self.expires {
            order["expires_in_s"] = expires.as_secs().into();
        }
        if let Some(why) = &self.why {
            order["why"] = why.as_str().into();
        }
        order
    }
}

impl KeyFlags {
    fn path(&self, keys: &str) -> Result<String, Failure> {
        // Whoever pastes the key itself must not find it in a host's log.
        let path = format!("{keys}/{}", encode_value(&self.id));
        if self.id.is_empty() || self.id.starts_with("tnk_") || path.parse::<Uri>().is_err() {
            return Err(Failure::new(Exit::Usage, "that is not the id of a key")
                .hint("`tenon keys` lists ids; the key itself is none"));
        }
        Ok(path)
    }
}

fn list(control: &Control, flags: &KeysFlags) -> Result<(), Stop> {
    let document = control.get(&flags.path())?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    let keys = output::list(&document, "keys", control.base())?;
    if keys.is_empty() {
        let owner = flags.tenant.as_deref().unwrap_or("--operator");
        return Ok(output::line(&format!("no keys: `tenon keys {owner} create --name NAME` makes one"))?);
    }
    let rows: Vec<_> = keys.iter().map(row).collect();
    Ok(output::line(&output::table(&["id", "name", "scopes", "created", "ends"], &rows))?)
}

fn row(key: &Value) -> Vec<String> {
    vec![cell(key, "id"), cell(key, "name"), scopes(key), instant(&key["created_ms"]), ends(key)]
}

fn scopes(key: &Value) -> String {
    let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if scopes.is_empty() { MISSING.to_owned() } else { scopes.join(", ") }
}

fn ends(key: &Value) -> String {
    if key["expires_ms"].is_null() { "never".to_owned() } else { instant(&key["expires_ms"]) }
}

/// Shows a new key.
fn made(control: &Control, flags: &KeysFlags, question: Question) -> Result<(), Stop> {
    let key = control.json(question)?;
    let Some(secret) = key["key"].as_str() else {
        return Err(Failure::new(Exit::Environment, "the host made a key and did not tell it").into());
    };
    output::aside(&format!(
        "key {} ({}) of {}: {}, ends {}",
        cell(&key, "id"),
        cell(&key, "name"),
        flags.owner(),
        scopes(&key),
        ends(&key)
    ));
    output::warning("this is the only time that the key is shown: keep it where secrets are kept");
    if flags.json { Ok(output::json(&key)?) } else { Ok(output::line(&printable(secret))?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_what_was_given() {
        let bare = CreateFlags { name: "ci".into(), scope: vec![], expires: None, why: None };
        assert_eq!(bare.order(false), json!({ "name": "ci", "scopes": ["invoke"] }));
        assert_eq!(bare.order(true)["scopes"], json!(["admin"]));
        let scope = vec!["deploy".to_owned(), "invoke".to_owned()];
        let whole = CreateFlags { scope, expires: Some(Duration::from_secs(60)), why: Some("x".into()), ..bare };
        let expected = json!({ "name": "ci", "scopes": ["deploy", "invoke"], "expires_in_s": 60, "why": "x" });
        assert_eq!(whole.order(false), expected);
    }

    #[test]
    fn a_secret_is_not_taken_for_an_id() {
        for id in ["", "tnk_abc"] {
            assert!(KeyFlags { id: id.into() }.path("/admin/v1/keys").is_err(), "{id}");
        }
        assert_eq!(KeyFlags { id: "7f/a".into() }.path("/k").unwrap(), "/k/7f%2Fa");
    }
}
