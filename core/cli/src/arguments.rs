//! What may be said on the command line.

use clap::{Args, Parser, Subcommand};

use crate::completion::Completion;
use crate::exit::Outcome;
use crate::session::Session;

/// Runs and operates Taskloom: a task engine that lives in your process.
#[derive(Debug, Parser)]
#[command(
    name = "taskloom",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The store that the tasks are in, such as sqlite:tasks.db
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TASKLOOM_STORE",
        hide_env_values = true,
        help_heading = "Everywhere"
    )]
    pub(crate) store: Option<String>,
    /// JSON on standard output instead of text for people; errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Completion(Completion),
}

impl Command {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::Completion(command) => command.run(session),
        }
    }
}
