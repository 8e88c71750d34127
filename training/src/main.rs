//! `tenon-training`: makes the model folders that the host serves. Owns the command line and nothing else; each model
//! is a module. Knows nothing of the host: the two share only the layout of a model repository and `model.toml`.

mod export;
mod fixtures;
mod folder;
mod microscopy;
mod minilm;
mod picture;
mod program;
mod reference;
mod samples;
mod scenes;
mod tagger;
mod vision;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use vision::{Budget, Order};

/// Where setup/minilm.py puts the encoder.
const MINILM: &str = ".tenon/minilm";

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
    /// Train a model on pictures or sentences that this program makes.
    Train(Training),
    /// Measure trained models that see on pictures that they never saw.
    Evaluate {
        /// `all`, `detector`, `classifier`, `cells-hrnet`, `cells-resunet` or `cells-unet`.
        #[arg(default_value = "all")]
        name: String,
        /// Pictures, instead of as many as the model's recipe says.
        #[arg(long)]
        pictures: Option<u64>,
        /// Folder with the trained weights.
        #[arg(long, default_value = "training/weights")]
        trained: PathBuf,
    },
    /// Export the models of the services from their trained weights.
    Services {
        /// Folder with the encoder's weights (see setup/minilm.py).
        #[arg(long, default_value = MINILM)]
        weights: PathBuf,
        /// Folder with the trained weights.
        #[arg(long, default_value = "training/weights")]
        trained: PathBuf,
        /// The model repository to write them into.
        #[arg(long, default_value = ".tenon/services/models")]
        to: PathBuf,
    },
    /// Write held-out pictures and texts, and what is in them, for examples, tests and benchmarks.
    Samples {
        /// Folder for them.
        #[arg(long, default_value = ".tenon/services/samples")]
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

/// How to train.
#[derive(Args)]
struct Training {
    /// `all` (that see), `detector`, `classifier`, `cells-hrnet`, `cells-resunet`, `cells-unet`, or `tagger`, whose
    /// encoder is looked for in .tenon/minilm (see setup/minilm.py).
    name: String,
    /// For so long, instead of the recipe's number of steps.
    #[arg(long)]
    seconds: Option<u64>,
    /// For so many steps, instead of the recipe's.
    #[arg(long, conflicts_with = "seconds")]
    steps: Option<u64>,
    /// Equal seeds give equal weights, with one thread and where no time ends it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=64))]
    threads: i32,
    /// Folder of weights to go on from; the training is then one of fine-tuning.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Folder for the weights.
    #[arg(long, default_value = "training/weights")]
    to: PathBuf,
}

impl Training {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<()> {
        tch::set_num_threads(self.threads);
        if self.name == "tagger" {
            return tagger::train(Path::new(MINILM), &self.to, tagger::Amount::lasting(self.seconds), out);
        }
        let time = self.seconds.map(|seconds| Budget::Time(Duration::from_secs(seconds)));
        let budget = time.or(self.steps.map(Budget::Steps));
        let order = Order { budget, seed: self.seed, from: self.from.as_deref(), to: &self.to };
        vision::train(&self.name, &order, out)
    }
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
        Command::Train(training) => training.run(&mut out)?,
        Command::Evaluate { name, pictures, trained } => vision::evaluate(&name, &trained, pictures, &mut out)?,
        Command::Services { weights, trained, to } => {
            vision::export(&trained, &to, &mut out)?;
            tagger::export(&weights, &trained.join("tagger.safetensors"), &to, &mut out)?;
        }
        Command::Samples { to } => {
            samples::write(&to, &mut out)?;
            tagger::samples(&to, &mut out)?;
        }
        Command::CheckMinilm { model, reference } => reference::check(&model, &reference, &mut out)?,
    }
    out.flush()?;
    Ok(())
}
