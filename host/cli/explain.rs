//! `tenon explain`: why a model batches as it does. Its last batches, what would run now, and what follows.
//!
//! It owns the flags and the question; `show` the words on a terminal. Figures and advice are the host's: nothing is
//! computed here, so that every program that asks is told the same.

mod show;

use clap::Args;

use crate::client::Host;
use crate::control::ControlFlags;
use crate::failure::{Exit, Failure, Stop};
use crate::output;

/// Flags of `tenon explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainFlags {
    /// The model: `minilm`, or one version of it, `minilm@3`
    #[arg(value_name = "MODEL[@VERSION]", value_parser = Model::parse)]
    model: Model,
    /// The version, where the one that serves is not meant
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// How many of the last batches are shown
    #[arg(long, value_name = "N", default_value_t = 12)]
    last: usize,
    /// Show whose rows each batch had and how long they waited
    #[arg(long)]
    rows: bool,
    /// Print the host's JSON, with all batches that it remembers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlFlags,
}

/// A model and perhaps its version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    name: String,
    version: Option<u64>,
}

impl Model {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            None | Some((_, "serving")) => (text.trim_end_matches("@serving"), None),
            Some((name, version)) => match version.parse() {
                Ok(number) if number > 0 => (name, Some(number)),
                _ => {
                    return Err(format!(
                        "`{version}` is no version: write {name}@3, or {name} for the one that serves"
                    ));
                }
            },
        };
        if name.is_empty() {
            return Err("the model's name is empty; `tenon models` lists them".into());
        }
        Ok(Self { name: name.to_owned(), version })
    }

    fn path(&self, version: Option<u64>) -> String {
        let version = version.or(self.version).map(|number| format!("?version={number}")).unwrap_or_default();
        format!("/admin/v1/models/{}/explain{version}", encode(&self.name))
    }
}

/// A name as one segment of a path: folders may be called what they like.
fn encode(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

/// Runs the command.
pub(crate) fn run(host: &Host, flags: &ExplainFlags) -> Result<(), Stop> {
    let Model { name, version } = &flags.model;
    if let (Some(named), Some(other)) = (version, flags.version.filter(|other| Some(*other) != *version)) {
        let message = format!("{name}@{named} and --version {other} name two versions");
        return Err(Failure::new(Exit::Usage, message).hint("give one of them").into());
    }
    let document = flags.control.open(host)?.get(&flags.model.path(flags.version))?;
    if flags.json {
        return Ok(output::json(&document)?);
    }
    show::lines(&document, flags.last, flags.rows).iter().try_for_each(|line| output::line(line))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_become_paths() {
        for (text, path) in [
            ("minilm", "/admin/v1/models/minilm/explain"),
            ("minilm@3", "/admin/v1/models/minilm/explain?version=3"),
            ("minilm@serving", "/admin/v1/models/minilm/explain"),
            ("a b/ü", "/admin/v1/models/a%20b%2F%C3%BC/explain"),
        ] {
            assert_eq!(Model::parse(text).expect(text).path(None), path);
        }
        assert_eq!(Model::parse("m").unwrap().path(Some(2)), "/admin/v1/models/m/explain?version=2");
        for text in ["", "@3", "m@", "m@latest", "m@0"] {
            assert!(Model::parse(text).is_err(), "{text}");
        }
    }
}
