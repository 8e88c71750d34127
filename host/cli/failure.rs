//! What went wrong, whose fault it was, and what to try next: the one place that decides exit codes and the
//! wording of errors.
//!
//! It knows neither HTTP nor files: the commands bring a sentence and a hint, so that everything a person reads
//! after a failure has the same two lines, and scripts can rely on the same few codes.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

/// How the program ends. Scripts may rely on the numbers; `tenon --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Fine = 0,
    /// Tenon's own fault: an internal error of the host or of this program.
    Tenon = 1,
    /// The command line does not parse.
    Usage = 2,
    /// The request was refused (4xx).
    Request = 3,
    /// The function or its model failed.
    Function = 4,
    /// No capacity at the moment: worth trying again.
    Capacity = 5,
    /// The host cannot be reached, or this machine lacks something.
    Environment = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The lines under `tenon --help`; a test holds them against [`Exit`].
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  fine
  1  Tenon's own fault: an internal error
  2  usage: the command line does not parse
  3  the request was refused (4xx)
  4  the function or its model failed
  5  no capacity at the moment, try again
  6  the host is not reachable, or this machine lacks something (see `tenon doctor`)";

/// An error as the user sees it: one sentence, perhaps details, perhaps what to try next.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whose fault it was.
    pub(crate) exit: Exit,
    /// What happened, and where.
    pub(crate) message: String,
    /// Further lines such as the request's id.
    pub(crate) notes: Vec<String>,
    /// What to try next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), notes: Vec::new(), hint: None }
    }

    /// The same failure with what to try next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes the failure to standard error. A closed standard error is nobody's problem any more.
    pub(crate) fn report(&self) {
        let mut out = anstream::stderr().lock();
        let red = AnsiColor::Red.on_default().bold();
        let cyan = AnsiColor::Cyan.on_default().bold();
        let dim = Style::new().dimmed();
        let _ = writeln!(out, "{red}error:{red:#} {}", printable(&self.message));
        for note in &self.notes {
            let _ = writeln!(out, "  {dim}{}{dim:#}", printable(note));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{cyan}hint:{cyan:#} {}", printable(hint));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How a command ends: most often with nothing to say. `Gone` is a reader that closed its end of our pipe
/// (`tenon models | head -1`): not an error, and nothing is left to be told.
#[derive(Debug)]
pub(crate) enum Stop {
    /// To be reported.
    Failed(Box<Failure>),
    /// Already reported by the command itself, in its own form.
    Said(Exit),
    /// The reader of standard output has left.
    Gone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(Box::new(failure))
    }
}

/// Errors of writing to standard output, the only `io::Error` that commands pass up bare.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Stop::Gone;
        }
        Failure::new(Exit::Environment, format!("cannot write to standard output: {error}")).into()
    }
}

/// Text from a host or a file without control characters, so that nobody else's words drive the user's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code_once() {
        let all =
            [Exit::Fine, Exit::Tenon, Exit::Usage, Exit::Request, Exit::Function, Exit::Capacity, Exit::Environment];
        for (index, exit) in all.into_iter().enumerate() {
            assert_eq!(exit as usize, index);
            assert_eq!(EXIT_CODES_HELP.matches(&format!("\n  {index}  ")).count(), 1, "{exit:?}");
        }
    }

    #[test]
    fn escape_sequences_from_elsewhere_are_defused() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\nc");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::BrokenPipe)), Stop::Gone));
    }
}
