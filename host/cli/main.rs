//! `tenon`, the command line: reads flags, hands each subcommand its own, and ends with a code that says whose
//! fault it was.
//!
//! It links neither libtorch nor wasmtime, so that tenants can install it anywhere and it can still
//! speak when the host cannot. Each subcommand is a file; what they share is `client`, `failure` and `output`.

mod bench;
mod cache;
mod client;
mod completions;
mod control;
mod deploy;
mod dev;
mod doctor;
mod drain;
mod explain;
mod failure;
mod functions;
mod history;
mod inspect;
mod invoke;
mod key;
mod keys;
mod libtorch;
mod loading;
mod logs;
mod models;
mod multipart;
mod new;
mod output;
mod problem;
mod serve;
mod target;
mod tenants;
mod times;
mod timing;
mod traffic;
mod trust;
mod undeploy;

// What `function.toml` is judged with (`inspect/function.rs`): the host's own files, which know no room.
#[allow(unreachable_pub, dead_code, reason = "public in the host, which uses the rest")]
#[path = "../caching.rs"]
mod caching;
#[allow(unreachable_pub, reason = "public in the host")]
#[path = "../nearest.rs"]
mod nearest;
#[allow(unreachable_pub, dead_code, reason = "public in the host, which uses the rest")]
#[path = "../reuse.rs"]
mod reuse;
#[allow(unreachable_pub, unfulfilled_lint_expectations, reason = "public and documented in the host")]
#[allow(dead_code, unused_imports, reason = "the host uses the rest")]
#[path = "../tensor/mod.rs"]
mod tensor;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use client::{DEFAULT_HOST, Host};
use failure::{EXIT_CODES_HELP, Exit, Failure, Stop};
use trust::Trust;

/// Starts Tenon hosts, invokes functions, says what is wrong.
#[derive(Parser, Debug)]
#[command(name = "tenon", version, after_help = EXIT_CODES_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// The host's data plane
    #[arg(long, global = true, env = "TENON_HOST", default_value = DEFAULT_HOST, value_name = "URL", value_parser = Host::parse)]
    host: Host,
    /// Certificates (PEM) of the authority behind an https host, instead of the public ones
    #[arg(long, global = true, env = "TENON_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand, Debug)]
enum Subcommands {
    /// Start a host: finds tenon-host and libtorch, and becomes it
    Serve(serve::ServeFlags),
    /// Write a plugin's project, with all that it needs to build
    New(new::NewFlags),
    /// Build a plugin and serve it, and again whenever a source changes
    Dev(Box<dev::DevFlags>),
    /// Send one request to a function and print its answer
    Invoke(invoke::InvokeFlags),
    /// Drive a function, or any HTTP server, and measure its answers
    Bench(Box<bench::BenchFlags>),
    /// List the host's models, or change what serves
    Models(models::ModelsFlags),
    /// List the functions that can be invoked, or one function's revisions
    Functions(functions::FunctionsFlags),
    /// Deploy a function: send a plugin, wait until it is a revision that is ready
    Deploy(Box<deploy::DeployFlags>),
    /// Give a revision all traffic of its function
    Promote(traffic::PromoteFlags),
    /// Give traffic back to the revisions that had it before
    Rollback(traffic::RollbackFlags),
    /// Show which revisions get which share of a function's requests, or change it
    Traffic(traffic::TrafficFlags),
    /// Show who changed what about a function, when, and why
    History(history::HistoryFlags),
    /// Remove a function
    Undeploy(undeploy::UndeployFlags),
    /// Show what a function's plugin says, and where it trapped
    Logs(logs::LogsFlags),
    /// Show tenants and what they may use, or change it
    Tenants(tenants::TenantsFlags),
    /// Show, make, replace or end keys
    Keys(keys::KeysFlags),
    /// Show what is remembered and what came of it, or make it void
    Cache(cache::CacheFlags),
    /// Have a host end what it has begun and take nothing new
    Drain(drain::DrainFlags),
    /// Say why a model batches as it does, and what to do about it
    Explain(explain::ExplainFlags),
    /// Show what a plugin's component asks for, and whether a host would take it
    Inspect(inspect::InspectFlags),
    /// Check this machine and the host, and say what to do
    Doctor(doctor::DoctorFlags),
    /// Print a completion script for a shell
    Completions(completions::CompletionsFlags),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe behind them is nobody's problem.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            let _ = error.print();
            return exit.into();
        }
    };
    match run(&cli) {
        Ok(()) | Err(Stop::Gone) => Exit::Fine.into(),
        Err(Stop::Said(exit)) => exit.into(),
        Err(Stop::Failed(failure)) => {
            failure.report();
            failure.exit.into()
        }
    }
}

impl Cli {
    /// The host, and whom to believe about it.
    fn host(&self) -> Result<Host, Failure> {
        let trust = self.ca.as_deref().map(Trust::read).transpose()?;
        Ok(self.host.clone().trusting(trust.unwrap_or_default()))
    }
}

fn run(cli: &Cli) -> Result<(), Stop> {
    match &cli.command {
        Subcommands::Serve(flags) => serve::run(flags),
        Subcommands::New(flags) => new::run(flags),
        Subcommands::Dev(flags) => dev::run(flags),
        Subcommands::Invoke(flags) => invoke::run(&cli.host()?, flags),
        Subcommands::Bench(flags) => bench::run(&cli.host()?, flags),
        Subcommands::Deploy(flags) => deploy::run(&cli.host()?, flags),
        Subcommands::Promote(flags) => traffic::promote(&cli.host()?, flags),
        Subcommands::Rollback(flags) => traffic::rollback(&cli.host()?, flags),
        Subcommands::Traffic(flags) => traffic::run(&cli.host()?, flags),
        Subcommands::History(flags) => history::run(&cli.host()?, flags),
        Subcommands::Undeploy(flags) => undeploy::run(&cli.host()?, flags),
        Subcommands::Logs(flags) => logs::run(&cli.host()?, flags),
        Subcommands::Tenants(flags) => tenants::run(&cli.host()?, flags),
        Subcommands::Keys(flags) => keys::run(&cli.host()?, flags),
        Subcommands::Cache(flags) => cache::run(&cli.host()?, flags),
        Subcommands::Drain(flags) => drain::run(&cli.host()?, flags),
        Subcommands::Explain(flags) => explain::run(&cli.host()?, flags),
        Subcommands::Inspect(flags) => inspect::run(flags),
        Subcommands::Models(flags) => models::run(&cli.host()?, flags),
        Subcommands::Functions(flags) => functions::run(&cli.host()?, flags),
        Subcommands::Doctor(flags) => doctor::run(&cli.host()?, flags),
        Subcommands::Completions(flags) => completions::run(flags),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
