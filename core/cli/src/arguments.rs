//! What may be said on the command line.

use clap::{Args, Parser, Subcommand};

use crate::completion::Completion;
use crate::doctor::Doctor;
use crate::events::Events;
use crate::exit::Outcome;
use crate::new::New;
use crate::queues::Queues;
use crate::schedules::Schedules;
use crate::session::Session;
use crate::submit::Submit;
use crate::tasks::Tasks;
use crate::worker::Worker;

/// Runs and operates Taskloom: a task engine that lives in your process
///
/// Tasks are in a store, which a URL names: sqlite:FILE, as in App("sqlite:tasks.db"). Say it with --store, or once for all in
/// TASKLOOM_STORE. The command never makes a store that is not there.
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
    /// The store that the tasks are in, such as sqlite:tasks.db [env: TASKLOOM_STORE]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub(crate) store: Option<String>,
    /// JSON on standard output instead of text for people; errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Worker(Box<Worker>),
    Submit(Box<Submit>),
    #[command(subcommand, visible_alias = "task")]
    Tasks(Tasks),
    #[command(subcommand, visible_alias = "queue")]
    Queues(Queues),
    #[command(subcommand, visible_alias = "schedule")]
    Schedules(Schedules),
    #[command(subcommand)]
    Events(Events),
    #[command(subcommand)]
    New(New),
    Doctor(Doctor),
    Completion(Completion),
}

impl Command {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::Submit(command) => command.run(session),
            Self::Tasks(command) => command.run(session),
            Self::Queues(command) => command.run(session),
            Self::Schedules(command) => command.run(session),
            Self::Events(command) => command.run(session),
            Self::New(command) => command.run(session),
            Self::Doctor(command) => command.run(session),
            Self::Worker(command) => command.run(session),
            Self::Completion(command) => command.run(session),
        }
    }
}
