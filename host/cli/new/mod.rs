//! `tenon new`: writes a plugin's project that builds with plain cargo, wherever it lies.
//!
//! It owns which files there are and that none is overwritten; what they hold is in `template/`, and the SDK in `sdk`.

mod sdk;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::failure::{Exit, Failure, Stop};
use crate::output;

/// As long as a name may be: it becomes a file's name and a part of URLs.
const NAME_CHARS_MAX: usize = 64;

/// Flags of `tenon new`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tenon new intent && cd intent && tenon dev")]
pub(crate) struct NewFlags {
    /// The plugin's name: small letters, digits, `-` and `_`
    #[arg(value_parser = parse_name)]
    name: String,
    /// The language to write it in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust", value_parser = ["rust"])]
    lang: String,
    /// The folder to write to [default: the name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the files as JSON
    #[arg(long)]
    json: bool,
}

/// What a project has beside the SDK.
const TEMPLATE: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/package.toml")),
    ("rust-toolchain.toml", include_str!("../../../rust-toolchain.toml")),
    ("src/lib.rs", include_str!("template/lib.rs")),
    ("function.toml", include_str!("template/function.toml")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore")),
];

/// Runs the command.
pub(crate) fn run(flags: &NewFlags) -> Result<(), Stop> {
    let folder = flags.dir.clone().unwrap_or_else(|| PathBuf::from(&flags.name));
    let files = files(&flags.name);
    write(&folder, &files)?;
    if flags.json {
        let paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
        let (name, language) = (&flags.name, &flags.lang);
        return Ok(output::json(&json!({ "name": name, "language": language, "folder": folder, "files": paths }))?);
    }
    let shown = folder.display();
    output::line(&format!("{shown} is a plugin in {}, with the SDK beside it", flags.lang))?;
    Ok(output::line(&format!(
        "next: `cd {shown}`, then `cargo test`, and `tenon dev` to have it built and served as you write"
    ))?)
}

/// All files of a project, by their paths in it.
fn files(name: &str) -> Vec<(String, String)> {
    let crate_name = name.replace('-', "_");
    // Only in the template: the SDK's sources have braces of their own.
    let filled = |text: &str| text.replace("{name}", name).replace("{crate}", &crate_name);
    let own = TEMPLATE.iter().map(|(path, text)| ((*path).to_owned(), filled(text)));
    own.chain(sdk::FILES.iter().map(|(path, text)| (format!("sdk/{path}"), (*text).to_owned()))).collect()
}

/// Writes all or, where one is there already, none.
fn write(folder: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    if let Some((path, _)) = files.iter().find(|(path, _)| folder.join(path).symlink_metadata().is_ok()) {
        let message = format!("{} is there already, and is not overwritten", folder.join(path).display());
        return Err(Failure::new(Exit::Usage, message).hint("choose another name, or another folder with --dir"));
    }
    for (path, text) in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent)
            .and_then(|()| File::create_new(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            Failure::new(Exit::Environment, format!("cannot write {}: {error}", path.display()))
                .hint("choose a folder that you may write to with --dir")
        })?;
    }
    Ok(())
}

fn parse_name(text: &str) -> Result<String, String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(letters) {
        return Err("a name begins with a small letter; small letters, digits, `-` and `_` follow".to_owned());
    }
    if text.len() > NAME_CHARS_MAX {
        return Err(format!("a name has at most {NAME_CHARS_MAX} letters"));
    }
    // What the dependencies are called, and what cannot be a crate.
    if matches!(text, "tenon-sdk" | "serde_json" | "test" | "core" | "std" | "alloc") {
        return Err("this name is taken in every project: choose another".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_crates() {
        assert_eq!(parse_name("my-words2"), Ok("my-words2".to_owned()));
        for wrong in ["", "2x", "-x", "Xy", "a b", "a/b", "..", "tenon-sdk", &"x".repeat(65)] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
        let files = files("my-words");
        let text = |path: &str| &files.iter().find(|(there, _)| there == path).unwrap().1;
        assert!(text("Cargo.toml").contains("name = \"my-words\""));
        assert!(text("function.toml").contains("component = \"my_words.wasm\""));
        assert!(text("README.md").contains("dev/my-words -d '{\"text\"") && !text("README.md").contains("{crate}"));
        assert!(toml::from_str::<toml::Table>(text("Cargo.toml")).is_ok());
        let function: toml::Table = toml::from_str(text("function.toml")).unwrap();
        assert_eq!(function["case"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn nothing_is_overwritten_and_then_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("README.md"), "mine").unwrap();
        let refused = write(folder.path(), &files("x")).unwrap_err();
        assert!(refused.exit == Exit::Usage && refused.message.contains("README.md"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
