//! `tasks`: look at tasks, and change what becomes of them.

mod change;
mod list;
mod run;
mod show;

use clap::{Args, Subcommand};
use taskloom_model::{Code, Error, Result, TaskId};

use crate::exit::Outcome;
use crate::filter::Which;
use crate::session::Session;
use crate::values;

/// Looks at tasks, and changes what becomes of them
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub(crate) enum Tasks {
    List(list::List),
    Show(show::Show),
    Cancel(change::Cancel),
    Replay(change::Replay),
    Discard(change::Discard),
    Run(run::Run),
}

impl Tasks {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::List(command) => command.run(session),
            Self::Show(command) => command.run(session),
            Self::Cancel(command) => command.run(session),
            Self::Replay(command) => command.run(session),
            Self::Discard(command) => command.run(session),
            Self::Run(command) => command.run(session),
        }
    }
}

/// Tasks by their ids, or all that a filter fits.
#[derive(Args, Debug)]
struct Chosen {
    /// Ids of tasks
    #[arg(value_name = "ID", value_parser = values::id, conflicts_with_all = ["state", "queue", "name", "tag", "all"])]
    ids: Vec<TaskId>,
    #[command(flatten)]
    which: Which,
    /// All of them, where nothing narrows them down
    #[arg(long, help_heading = "Which tasks")]
    all: bool,
}

impl Chosen {
    /// Refuses to take a slip of the fingers for "everything".
    fn check(&self, command: &str) -> Result<()> {
        if !self.ids.is_empty() || self.all || !self.which.is_everything() {
            return Ok(());
        }
        Err(Error::new(Code::InvalidOption, format!("tasks {command}: which tasks?"))
            .hint("name ids, or narrow down by --state, --queue, --name or --tag, or say --all"))
    }
}

/// There is no such task.
fn unknown(id: TaskId) -> Error {
    Error::new(Code::UnknownTask, format!("no task {id} is in the store"))
        .hint("it was never there, or it ended longer ago than the store keeps tasks; `taskloom tasks list` shows ids")
}
