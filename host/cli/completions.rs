//! `tenon completions <shell>`: a script for the shell, made from the same definitions that parse the flags.
//!
//! It asks no host, so completing never waits on the network.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::failure::Stop;
use crate::output;

/// Flags of `tenon completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsFlags {
    /// The shell, for example: source <(tenon completions bash)
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(flags: &CompletionsFlags) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "tenon", &mut script);
    Ok(output::bytes(&script)?)
}
