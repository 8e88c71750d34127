//! `tenon-training`: makes the model folders that the host serves. Owns the command line and nothing else; each model
//! is a module. Knows nothing of the host: the two share only the layout of a model repository and `model.toml`.

mod export;
mod fixtures;
mod folder;
mod minilm;
mod program;
mod reference;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand};

/// Makes model folders (`<name>/model.toml`, `<name>/<version>/model.pt`) for a Tenon host.
#[derive(Parser)]
#[command(name = "tenon-training", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export the MiniLM-L6 sentence encoder from its published weights.
    Minilm {
        /// Folder with model.safetensors, tokenizer.json and config.json (see setup/minilm.py).
        #[arg(long, default_value = ".tenon/minilm")]
        weights: PathBuf,
        /// The model repository to write `minilm` into.
        #[arg(long, default_value = "models")]
        to: PathBuf,
    },
    /// Make the small models that the tests use.
    Fixtures {
        /// The model repository to write them into.
        #[arg(long, default_value = ".tenon/test-models")]
        to: PathBuf,
    },
    /// Compare an exported MiniLM with the reference vectors.
    CheckMinilm {
        /// The exported module.
        #[arg(long, default_value = "models/minilm/1/model.pt")]
        model: PathBuf,
        /// Folder with tokens.jsonl and reference.f32.
        #[arg(long, default_value = "tests/fixtures/minilm")]
        reference: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Exports are compared with the eager closure bit by bit or nearly so, and run beside builds: one thread is
    // reproducible and good company.
    tch::set_num_threads(1);
    let mut out = io::stdout().lock();
    match arguments.command {
        Command::Minilm { weights, to } => minilm::export(&weights, &to, &mut out)?,
        Command::Fixtures { to } => fixtures::export(&to, &mut out)?,
        Command::CheckMinilm { model, reference } => reference::check(&model, &reference, &mut out)?,
    }
    out.flush()?;
    Ok(())
}
