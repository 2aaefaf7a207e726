//! `tasks run`: one task, here, by hand.

use std::process::Stdio;

use clap::Args;
use taskloom_model::{Code, Error, State, TaskId};
use taskloom_store::Nobody;

use super::unknown;
use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::{values, waiting};

/// Runs one task here and now, whatever it waits for: a time, a backoff, a paused queue, workers
///
/// Its handler is your app's, so the app is loaded, in a process of its own: `module:app` by the Python package, `file.mjs` by
/// the npm package. That process runs no other task. Limits hold all the same.
///
/// Prints the task's result, as `submit --wait` does. What the app's code writes goes to standard error.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks run 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02 --app shop.tasks:app
  npx taskloom tasks run 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02 --app tasks.mjs")]
pub(crate) struct Run {
    /// The task's id
    #[arg(value_parser = values::id)]
    id: TaskId,
    /// The app that has its handler: module:app, or file.mjs
    #[arg(long, short = 'a', value_name = "APP")]
    app: String,
}

impl Run {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let mut program = session.host.program("run_task")?;
        let task = session.store()?.get(self.id, &Nobody)?.ok_or_else(|| unknown(self.id))?;
        let state = task.state();
        if state == State::Running || state.is_terminal() {
            let message = format!("task {} is {state}, and cannot be run now", self.id);
            return Err(Error::new(Code::IllegalTransition, message)
                .hint(if state.is_terminal() {
                    "only a task that waits can be run by hand; start it over first: taskloom tasks replay ID"
                } else {
                    "only a task that waits can be run by hand"
                })
                .into());
        }
        let attempt = task.with_row(|row| row.attempt);
        program.arg(&self.app).arg(self.id.to_string()).env("TASKLOOM_STORE", session.url()?);
        program.stdin(Stdio::null()).stdout(beside()).stderr(beside());
        let status = program.status().map_err(|cause| {
            Error::new(Code::NotAvailable, format!("{program:?} cannot be started: {cause}")).caused_by(cause)
        })?;
        // Opened anew: what the other process has written is not what this one has read.
        let task = session.store()?.get(self.id, &Nobody)?.ok_or_else(|| unknown(self.id))?;
        let (state, now_attempt) = task.with_row(|row| (row.state, row.attempt));
        if !status.success() && (now_attempt == attempt || !state.is_terminal()) {
            // The process has said why, in its own words.
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.filter(|code| *code != exit::DONE).unwrap_or(exit::FAILED));
        }
        if !state.is_terminal() {
            session.note(&format!("the attempt has ended, and the task has not: it is {state}"));
            return Ok(exit::WAITING);
        }
        waiting::tell(session, &task)
    }
}

/// Our standard error, for all that the app's code writes: standard output is for the result.
///
/// As a descriptor of its own: Node marks the first three as not to be inherited, and only what is moved to their place is.
#[cfg(unix)]
fn beside() -> Stdio {
    use std::os::fd::AsFd;
    std::io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

#[cfg(not(unix))]
fn beside() -> Stdio {
    Stdio::from(std::io::stderr())
}
